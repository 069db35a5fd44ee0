//! `electrode extract` on GPUs of the fake driver. Oracle: the same command undisturbed, whose
//! agreement with PyTorch `golden::cuda` shows.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{golden, write_ids};
use crate::run::gpus::on_fake;
use crate::run::{Finished, electrode, tiny};

/// Every site of a fixture's own ids.
fn every_site(name: &str, dtype: &str, out: &Path, settings: &[(&str, &str)]) -> Option<Finished> {
    let model = golden(name);
    let mut command: Command = electrode();
    command.arg("extract").arg("--model").arg(&model).args(["--device", "cuda", "--sites", "*"]);
    command.args(["--dtype", dtype, "--ids"]).arg(model.join("expected.safetensors"));
    on_fake(command.arg("--out").arg(out), settings)
}

/// The whole forward pass, with everything asynchronous as late as the program allows, and the
/// streams in turns at random.
#[test]
fn late_streams_change_no_bit_of_any_site() {
    let folder = TempDir::new().expect("a temporary folder");
    for name in ["gpt2-tied", "gemma2-softcap", "bert-tokcls", "t5-full-gated", "electra-gen"] {
        for dtype in ["f32", "bf16"] {
            let out = folder.path().join("out.safetensors");
            let Some(done) = every_site(name, dtype, &out, &[]) else { return };
            assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
            let whole = std::fs::read(&out).expect("it was written");
            for seed in ["1", "2"] {
                let late = [("FAKECUDA_LAZY", "1"), ("FAKECUDA_SEED", seed)];
                let done = every_site(name, dtype, &out, &late).expect("as above");
                assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
                assert!(!done.stderr.contains("fake cuda:"), "{name}: {}", done.stderr);
                let again = std::fs::read(&out).expect("it was written");
                assert!(again == whole, "{name}, {dtype}: turns of {seed} changed a bit");
            }
        }
    }
}

const SMALLER: &str = "goes on with smaller batches";

/// Sentences of a corpus of 150 documents, more than two chunks of them, and a tiny model for it.
struct Corpus {
    folder: TempDir,
}

impl Corpus {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        tiny::write_model(&folder.path().join("model"));
        let (words, _) = tiny::corpus(150);
        std::fs::write(folder.path().join("c.txt"), words).expect("written");
        Self { folder }
    }

    /// The matrices and the table of an extraction.
    fn files(&self, out: &str) -> [Vec<u8>; 2] {
        [format!("{out}.safetensors"), format!("{out}.words.parquet")]
            .map(|name| std::fs::read(self.folder.path().join(name)).expect("it was written"))
    }

    fn extract(&self, out: &str, settings: &[(&str, &str)]) -> Option<Finished> {
        let mut command: Command = electrode();
        command.current_dir(self.folder.path()).args(["extract", "--model", "model"]);
        command.args(["--corpus", "c.txt", "--sites", "layers.*,logits", "--device", "cuda"]);
        on_fake(command.arg("--out").arg(format!("{out}.safetensors")), settings)
    }
}

#[test]
fn every_gpu_takes_part_and_none_is_seen_in_the_file() {
    let corpus = Corpus::new();
    let Some(one) = corpus.extract("one", &[]) else { return };
    assert_eq!(one.code, Some(0), "{}", one.stderr);
    let whole = corpus.files("one");
    for (out, settings) in [
        ("two", &[("FAKECUDA_DEVICES", "2")][..]),
        ("three", &[("FAKECUDA_DEVICES", "3"), ("FAKECUDA_LAZY", "1")]),
        ("lost", &[("FAKECUDA_DEVICES", "2"), ("FAKECUDA_FAIL", "1:5:719")]),
        ("little", &[("FAKECUDA_MEMORY", "9600000")]),
        ("shrunk", &[("FAKECUDA_SHRINK", "0:5:9600000")]),
        ("none", &[("FAKECUDA_DEVICES", "2"), ("FAKECUDA_SHRINK", "0:0:1000")]),
    ] {
        let done = corpus.extract(out, settings).expect("as above");
        assert_eq!(done.code, Some(0), "{out}: {}", done.stderr);
        assert!(corpus.files(out) == whole, "{out}: a bit of the file differs");
        let given_up = done.stderr.contains("device given up");
        assert_eq!(given_up, ["lost", "none"].contains(&out), "{out}: {}", done.stderr);
        let smaller = done.stderr.contains(SMALLER);
        assert_eq!(smaller, ["little", "shrunk", "none"].contains(&out), "{out}: {}", done.stderr);
    }
}

#[test]
fn no_gpu_left_is_75_or_76_and_leaves_no_file() {
    let corpus = Corpus::new();
    for (settings, code) in
        [(("FAKECUDA_FAIL", "0:5:719"), 76), (("FAKECUDA_MEMORY", "1000000"), 75)]
    {
        let Some(done) = corpus.extract("out", &[settings]) else { return };
        assert_eq!(done.code, Some(code), "{}", done.stderr);
        assert!(done.stderr.contains("error: cuda:0"), "{}", done.stderr);
        assert!(!corpus.folder.path().join("out.safetensors").exists());
        assert!(!corpus.folder.path().join("out.words.parquet").exists());
    }
}

/// The grid of the ids is one batch where there is room for it. Where there is not, edits reach the
/// same tokens.
#[test]
fn ids_are_cut_where_memory_is_short() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let (rows, length) = (40, 40);
    let ids: Vec<i64> = (0..rows * length).map(|i| (i * 7 % 90) as i64).collect();
    let mask: Vec<i64> =
        (0..rows * length).map(|i| i64::from(i % length >= i / length % 9)).collect();
    let shape = [rows, length];
    let tensors = [("input_ids", &shape[..], &ids[..]), ("attention_mask", &shape, &mask)];
    write_ids(&path("ids.safetensors"), &tensors);
    let edits = r#"{"kind": "zero", "positions": [[0, 9], [22, 30], [39, 39]],
        "edits": [{"layer": 0, "neurons": [3, 5]}]}"#;
    std::fs::write(path("edits.json"), edits).expect("written");
    let extract = |out: &str, settings: &[(&str, &str)]| {
        let mut command: Command = electrode();
        command.current_dir(folder.path()).arg("extract").arg("--model").arg(golden("gpt2-tied"));
        command.args(["--ids", "ids.safetensors", "--intervene", "edits.json", "--sites", "*"]);
        command.args(["--device", "cuda", "--out", out]);
        let done = on_fake(&mut command, settings)?;
        assert_eq!(done.code, Some(0), "{out}: {}", done.stderr);
        Some((done, std::fs::read(path(out)).expect("it was written")))
    };
    let Some((_, whole)) = extract("whole", &[]) else { return };
    for memory in ["9500000", "9200000"] {
        let (done, cut) = extract("cut", &[("FAKECUDA_MEMORY", memory)]).expect("as above");
        assert!(done.stderr.contains(SMALLER), "{memory}: {}", done.stderr);
        assert!(cut == whole, "{memory}: a bit of the file differs");
    }
}
