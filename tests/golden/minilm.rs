//! A real model over real text: all-MiniLM-L6-v2 on ten sentences of the English Web Treebank.
//! Oracle: `minilm-ewt/expected.safetensors` by transformers, float16 but for the last layer.
//! Bound: 3e-5 of the largest magnitude, and half a unit of float16 where it was rounded.
//! Wants the model's folder in `ELECTRODE_MINILM`, and the fixture; says so if it skips.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use crate::run::{electrode, finish};

struct Tensor {
    shape: Vec<usize>,
    values: Vec<f64>,
}

fn read(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).expect("readable");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let (data, eight) = (view.data(), |b: &[u8]| b.try_into().expect("eight bytes"));
        let values = match view.dtype() {
            Dtype::F32 => data
                .chunks_exact(4)
                .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                .collect(),
            Dtype::F16 => data
                .chunks_exact(2)
                .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f64())
                .collect(),
            Dtype::I64 => {
                data.chunks_exact(8).map(|b| i64::from_le_bytes(eight(b)) as f64).collect()
            }
            other => panic!("{name} is {other:?}"),
        };
        (name, Tensor { shape: view.shape().to_vec(), values })
    };
    file.tensors().into_iter().map(tensor).collect()
}

/// Model folder and fixture folder, if both are here.
fn here() -> Option<(PathBuf, PathBuf)> {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/forward/minilm-ewt");
    let model = std::env::var_os("ELECTRODE_MINILM").map(PathBuf::from);
    match model {
        Some(model) if fixture.join("expected.safetensors").is_file() => Some((model, fixture)),
        _ => {
            eprintln!("skipped: needs ELECTRODE_MINILM and {}", fixture.display());
            None
        }
    }
}

/// The sentences as CoNLL-U, a document each.
fn conllu(fixture: &Path) -> String {
    let text = std::fs::read_to_string(fixture.join("sentences.txt")).expect("readable");
    let mut out = String::new();
    for line in text.lines() {
        let words = line.split('\t').nth(2).expect("three columns").split(' ');
        for (number, word) in (1..).zip(words) {
            out += &format!("{number}\t{word}\t_\t_\t_\t_\t_\t_\t_\t_\n");
        }
        out.push('\n');
    }
    out
}

fn extract(model: &Path, corpus: &Path, pool: &str) -> BTreeMap<String, Tensor> {
    let out = corpus.with_file_name(format!("{pool}.safetensors"));
    let mut command = electrode();
    command.args(["extract", "--pool", pool, "--sites"]);
    command.arg("embeddings,layers.*.mlp_act,layers.*.resid_post");
    command.arg("--model").arg(model).arg("--corpus").arg(corpus).arg("--out").arg(&out);
    let done = finish(&mut command);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    read(&out)
}

fn compare(name: &str, got: &Tensor, want: &Tensor, rows: &[usize]) {
    let width = want.shape[1];
    assert_eq!(got.shape, [rows.len(), width], "{name}");
    let largest = want.values.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    let narrow = !name.ends_with("_f32");
    for (at, &row) in rows.iter().enumerate() {
        for column in 0..width {
            let (got, want) = (got.values[at * width + column], want.values[row * width + column]);
            // Half a unit in the last of float16's eleven bits; its smallest step is 2^-24.
            let rounding = if narrow { want.abs() / 2048.0 + 2.0_f64.powi(-25) } else { 0.0 };
            let bound = 3e-5 * largest + rounding;
            assert!((got - want).abs() <= bound, "{name}, token {row}: {got} for {want}");
        }
    }
}

#[test]
fn minilm_agrees_with_pytorch_token_by_token_and_word_by_word() {
    let Some((model, fixture)) = here() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let corpus = folder.path().join("ewt.conllu");
    std::fs::write(&corpus, conllu(&fixture)).expect("written");
    let expected = read(&fixture.join("expected.safetensors"));
    let words = &expected["word_ids"].values;
    let content: Vec<usize> = (0..words.len()).filter(|&t| words[t] >= 0.0).collect();
    let begins = |&&t: &&usize| words[t - 1] != words[t];
    let ends = |&&t: &&usize| words[t + 1] != words[t];
    let first: Vec<usize> = content.iter().filter(begins).copied().collect();
    let last: Vec<usize> = content.iter().filter(ends).copied().collect();
    let offsets = &expected["word_offsets"].values;
    assert_eq!(Some(first.len() as f64), offsets.last().copied());
    assert_ne!(first, last, "some words have several tokens");
    for (pool, rows) in [("none", &content), ("first", &first), ("last", &last)] {
        let got = extract(&model, &corpus, pool);
        let mut compared = 0;
        for (name, want) in &expected {
            if let Some(got) = got.get(name.trim_end_matches("_f32")) {
                compare(name, got, want, rows);
                compared += 1;
            }
        }
        assert_eq!(compared, 14, "embeddings, six layers of two, and the last in float32");
    }
}
