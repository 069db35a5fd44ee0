//! The trained model in the repository through the whole program on the fake driver.
//! Oracles: the same run in float32; in bfloat16, the same run undisturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use electrode::artifact::rows::NeuronRow;
use electrode::artifact::tables::{read_neurons, read_rankings};
use tempfile::TempDir;

use super::gpus::on_fake;
use super::{Finished, assert_same, electrode, tables};

/// A real text, a site in the middle of the model and its last; about 700 tokens.
fn run(out: &Path, dtype: &str, settings: &[(&str, &str)]) -> Option<Finished> {
    let mut command = electrode();
    command.args(["run", "configs/runs/conllu.toml", "--device=cuda"]);
    command.arg(format!("out={}", out.display())).arg(format!("model.dtype={dtype}"));
    command.args(["corpus.max_documents=2", "corpus.block_bytes=1024"]);
    command.args(["statistics.bins=8", "statistics.calibration_rows=40", "output.pages=1"]);
    command.args([r#"capture.sites=["layers.1.mlp_act", "layers.3.resid_post"]"#]);
    command.args([r#"methods=["probeless"]"#, r#"concepts=[{column = "upos", min_count = 10}]"#]);
    command.args(["output.keep=50", "device.commit_seconds=0"]);
    on_fake(&mut command, settings)
}

/// The undisturbed run in bfloat16: its folder, or nothing where the fake could not be built.
fn bfloat16() -> Option<&'static Path> {
    static DONE: OnceLock<Option<TempDir>> = OnceLock::new();
    let folder = DONE.get_or_init(|| {
        let folder = TempDir::new().expect("a temporary folder");
        let done = run(&folder.path().join("out"), "bf16", &[])?;
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        Some(folder)
    });
    folder.as_ref().map(TempDir::path)
}

/// Of two columns of the table of neurons, relative to the first.
fn off(a: &[NeuronRow], b: &[NeuronRow], value: impl Fn(&NeuronRow) -> f64) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let difference = square(&mut a.iter().zip(b).map(|(a, b)| value(a) - value(b)));
    (difference / square(&mut a.iter().map(value))).sqrt()
}

/// bfloat16 rounds to 2^-9 of a value at most. A value passes some eight roundings a layer, whose
/// errors are independent: over four layers sqrt(8 * 4) * 2^-9 = 1.1 %.
const ROUNDING: f64 = 0.011;
/// Neurons of a ranking that differ by less than that change places at its end.
const SHARED: f64 = 0.9;

#[test]
fn bfloat16_agrees_with_float32() {
    let Some(half) = bfloat16() else { return };
    let folder = TempDir::new().expect("a temporary folder");
    let done = run(folder.path(), "f32", &[]).expect("as above");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let half = half.join("out");
    let read = |folder: &Path| read_neurons(&folder.join("neurons.parquet")).expect("written");
    let (single, half_neurons) = (read(folder.path()), read(&half));
    assert_eq!(single.len(), half_neurons.len());
    for site in ["layers.1.mlp_act", "layers.3.resid_post"] {
        let of = |rows: &[NeuronRow]| -> Vec<NeuronRow> {
            rows.iter().filter(|row| row.site == site).cloned().collect()
        };
        let (a, b) = (of(&single), of(&half_neurons));
        assert!(!a.is_empty() && a.iter().zip(&b).all(|(a, b)| a.n == b.n && b.non_finite == 0));
        for (name, off) in [
            ("mean", off(&a, &b, |row| row.mean)),
            ("sd", off(&a, &b, |row| row.sd)),
            ("min", off(&a, &b, |row| f64::from(row.min))),
            ("max", off(&a, &b, |row| f64::from(row.max))),
        ] {
            assert!(off <= ROUNDING, "{site}: {name} off by {off:.1e}");
            assert!(off > 0.0, "{site}: {name} is the same: was this bfloat16?");
        }
    }
    let ranked = |folder: &Path| {
        let mut found: BTreeMap<String, BTreeSet<(String, i32)>> = BTreeMap::new();
        for row in read_rankings(&folder.join("rankings.parquet")).expect("written") {
            found.entry(row.concept).or_default().insert((row.site, row.neuron));
        }
        found
    };
    let (single, half) = (ranked(folder.path()), ranked(&half));
    assert!(single.len() > 5 && single.keys().eq(half.keys()));
    for (concept, neurons) in &single {
        let shared = neurons.intersection(&half[concept]).count() as f64 / neurons.len() as f64;
        assert!(shared >= SHARED, "{concept}: {shared:.2} of the neurons");
    }
}

/// Weights, lists of batches and statistics fit; the workspace of 2048 tokens does not.
#[test]
fn bfloat16_with_little_memory_gives_the_same_bits() {
    let Some(whole) = bfloat16() else { return };
    let folder = TempDir::new().expect("a temporary folder");
    let done = run(folder.path(), "bf16", &[("FAKECUDA_MEMORY", "27000000")]).expect("as above");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("goes on with smaller batches"), "{}", done.stderr);
    assert_same(&tables(&whole.join("out")), &tables(folder.path()), "little memory");
}

#[test]
fn bfloat16_with_late_streams_gives_the_same_bits() {
    let Some(whole) = bfloat16() else { return };
    let folder = TempDir::new().expect("a temporary folder");
    let late = [("FAKECUDA_LAZY", "1"), ("FAKECUDA_SEED", "4")];
    let done = run(folder.path(), "bf16", &late).expect("as above");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(!done.stderr.contains("fake cuda:"), "{}", done.stderr);
    assert_same(&tables(&whole.join("out")), &tables(folder.path()), "late streams");
}
