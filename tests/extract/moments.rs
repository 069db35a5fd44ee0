//! Second moments taken during the forward pass.
//! Oracle: loops in f64 over the matrices of `extract --corpus`, shifted in f32. The bound is 1e-6 of the norm
//! of each matrix; sizes of batches and numbers of threads change no bit.

use std::path::Path;
use std::sync::Arc;

use electrode::accumulate::State as _;
use electrode::accumulate::gram::{GramPlan, GramSite, GramState};
use electrode::accumulate::gram_summary::Class;
use electrode::config::{Policy, Pool};
use electrode::corpus::align::RowRules;
use electrode::corpus::block::Block;
use electrode::corpus::config::{CorpusConfig, LongText};
use electrode::corpus::labels::LabelIndex;
use electrode::corpus::read::{Columns, Documents};
use electrode::corpus::stream::tokenize_documents;
use electrode::corpus::tokenize::Tokenizer;
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::{Forward, Limits};
use electrode::engine::watch_moments::{MomentPlan, block_moments};
use electrode::id::Site;
use electrode::model::Model;

use super::{extract, floats, read};

const SITES: [&str; 3] = ["embeddings", "layers.1.mlp_act", "layers.3.resid_post"];
const DOCUMENTS: usize = 9;
/// Tokens of the largest batch.
const ROOM: usize = 512;

fn model() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2-en")
}

/// The first documents of the corpus, as one block whose rows have groups 0, 1 or none in turn.
fn block(file: &Path) -> Block {
    let rules = RowRules {
        pool: Pool::Mean,
        special_tokens: Policy::Exclude,
        first_position: true,
        max_tokens: Some(256),
        long: LongText::default(),
    };
    let mut reader = Documents::open(&CorpusConfig::of_file(file), Columns::all()).expect("opens");
    let documents: Vec<_> = std::iter::from_fn(|| reader.advance().expect("it is read")).collect();
    let tokenizer = Tokenizer::open(&model()).expect("a tokenizer");
    let (mut sequences, counts) =
        tokenize_documents(&documents, &tokenizer, &LabelIndex::default(), &rules).expect("tokens");
    let rows = sequences.iter_mut().flat_map(|sequence| &mut sequence.rows);
    for (row, group) in rows.zip([vec![0], vec![1], vec![]].into_iter().cycle()) {
        row.groups = group;
    }
    Block { index: 0, sequences, counts }
}

fn site(name: &str) -> Site {
    name.parse().expect("a site")
}

/// sum (x - shift)(z - shift)^T over the rows, and the sums of (x - shift).
fn expected(x: &[Vec<f32>], z: &[Vec<f32>], rows: &[usize]) -> (Vec<f64>, Vec<f64>) {
    let (left, right) = (x[0].len(), z[0].len());
    let (mut products, mut sums) = (vec![0.0; left * right], vec![0.0; left]);
    for &row in rows {
        for (i, &x) in x[row].iter().enumerate() {
            sums[i] += f64::from(x);
            let of_row = products[i * right..][..right].iter_mut();
            of_row.zip(&z[row]).for_each(|(sum, &z)| *sum += f64::from(x) * f64::from(z));
        }
    }
    (products, sums)
}

fn assert_near(ours: &[f64], want: &[f64], what: &str) {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut ours.iter().zip(want).map(|(a, b)| a - b));
    let size = norm(&mut want.iter().copied());
    assert_eq!(ours.len(), want.len(), "{what}");
    assert!(error <= 1e-6 * size && size > 0.0, "{what}: {error:e} of {size:e}");
}

#[test]
fn moments_of_a_block_are_those_of_its_rows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (corpus, out) = (folder.path().join("c.conllu"), folder.path().join("a.safetensors"));
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora/en_ewt/en_ewt-dev-half.conllu");
    let text = std::fs::read_to_string(all).expect("the corpus");
    let documents = text.split_inclusive("# newdoc").take(DOCUMENTS + 1).collect::<String>();
    std::fs::write(&corpus, documents.strip_suffix("# newdoc").expect("more")).expect("written");
    let file = corpus.display().to_string();
    let arguments = ["--corpus", &file, "--sites", &SITES.join(","), "--pool", "mean"];
    let done = extract(&model(), &arguments, &out);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let tensors = read(&out);

    let block = block(&corpus);
    let rows = block.counts.rows as usize;
    assert!(rows > 3 * 512, "each class has more than a tile: {rows} rows");
    let shifted = SITES.map(|name| {
        let width = tensors[name].1[1];
        assert_eq!(tensors[name].1[0], rows);
        let matrix = floats(&tensors[name]);
        let shift: Vec<f32> = matrix[..width].iter().map(|x| x / 2.0).collect();
        let minus = |row: &[f32]| row.iter().zip(&shift).map(|(x, s)| x - s).collect();
        (matrix.chunks_exact(width).map(minus).collect::<Vec<Vec<f32>>>(), shift)
    });
    let sites = SITES.iter().zip(&shifted);
    let sites = sites.map(|(name, (_, shift))| GramSite { site: site(name), shift: shift.clone() });
    // The later site on the left, so that the pair waits for its right side's rows.
    let pairs = [(site(SITES[2]), site(SITES[0]))];
    let gram = Arc::new(GramPlan::new(sites.collect(), &pairs, vec![1, 0]).expect("a plan"));
    let state = |batch_tokens: usize| -> GramState {
        let plan = MomentPlan { gram: Arc::clone(&gram), pool: Pool::Mean, batch_tokens };
        let opened = Model::open(model().to_str().expect("UTF-8")).expect("a model");
        let limits = Limits { tokens: ROOM, sequence: 256 };
        let mut forward =
            Forward::new(CpuDevice::F32, &opened, limits, &plan.wanted()).expect("a forward pass");
        block_moments(&mut forward, &block, &plan, &|| false).expect("moments")
    };
    let want = state(ROOM);
    assert_eq!(want.counts, block.counts);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        for batch_tokens in [1, 100, ROOM] {
            let ours = pool.install(|| state(batch_tokens));
            let bytes = |state: &GramState| {
                let mut bytes = Vec::new();
                state.encode(&mut bytes);
                bytes
            };
            assert!(bytes(&ours) == bytes(&want), "{threads} threads, {batch_tokens} tokens");
        }
    }
    // Class 0 is the rest, then the groups as they were listed.
    for (class, first) in [2, 1, 0].into_iter().enumerate() {
        let own: Vec<usize> = (first..rows).step_by(3).collect();
        assert_eq!(want.rows[class], own.len() as u64);
        for (pair, &(left, right)) in gram.pairs().iter().enumerate() {
            let what = format!("class {class} of {} with {}", SITES[left], SITES[right]);
            let (products, sums) = expected(&shifted[left].0, &shifted[right].0, &own);
            assert_near(&want.products[pair][class], &products, &what);
            assert_near(&want.sums[left][class], &sums, &what);
        }
    }
    let summary = want.finish();
    assert_eq!(summary.rows(Class::All), Some(rows as u64));
}

#[test]
fn sites_without_a_row_per_token_and_rows_of_two_classes_are_refused() {
    let opened = Model::open(model().to_str().expect("UTF-8")).expect("a model");
    let plan = |name: &str, width: usize, groups: Vec<u32>| {
        let sites = vec![GramSite { site: site(name), shift: vec![0.0; width] }];
        let gram = Arc::new(GramPlan::new(sites, &[], groups).expect("a plan"));
        MomentPlan { gram, pool: Pool::Mean, batch_tokens: 64 }
    };
    let limits = Limits { tokens: 64, sequence: 64 };
    let wanted = [site("embeddings")].into();
    let mut forward =
        Forward::new(CpuDevice::F32, &opened, limits, &wanted).expect("a forward pass");
    let mut block = Block::default();
    let sequence = electrode::corpus::block::Sequence { tokens: vec![5, 6], ..Default::default() };
    block.sequences.push(sequence);
    let mut ask = |plan: &MomentPlan, block: &Block, stop: bool| {
        block_moments(&mut forward, block, plan, &|| stop).map(|state| state.rows)
    };
    for (name, width) in
        [("layers.0.attn_probs", 1), ("embeddings", 255), ("layers.9.mlp_act", 4), ("pooled", 256)]
    {
        let error = ask(&plan(name, width, vec![]), &block, false).expect_err("refused");
        assert_eq!(error.exit_code(), 2, "{error}");
    }
    let row = |groups| electrode::corpus::block::Row { len: 1, groups, ..Default::default() };
    block.sequences[0].rows = vec![row(vec![0, 3]), row(vec![3, 4])];
    let plan = |groups| plan("embeddings", 256, groups);
    assert_eq!(ask(&plan(vec![]), &block, false).expect("moments"), [2]);
    assert_eq!(ask(&plan(vec![3]), &block, false).expect("moments"), [0, 2]);
    assert_eq!(ask(&plan(vec![4, 0]), &block, false).expect("moments"), [0, 1, 1]);
    assert_eq!(ask(&plan(vec![3, 4]), &block, false).expect_err("refused").exit_code(), 2);
    assert_eq!(ask(&plan(vec![]), &block, true).expect_err("stopped").exit_code(), 75);
    // Sums beyond float32 are never silent.
    let far = vec![GramSite { site: site("embeddings"), shift: vec![f32::MAX; 256] }];
    let gram = Arc::new(GramPlan::new(far, &[], vec![]).expect("a plan"));
    let far = MomentPlan { gram, pool: Pool::Mean, batch_tokens: 64 };
    let error = ask(&far, &block, false).expect_err("refused");
    assert!(error.exit_code() == 65 && error.to_string().contains("embeddings.0"), "{error}");
}
