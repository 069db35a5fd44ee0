//! `electrode extract` on GPUs of the fake driver. Oracle: the same command undisturbed, whose
//! agreement with PyTorch `golden::cuda` shows.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::golden;
use crate::run::gpus::on_fake;
use crate::run::{Finished, electrode};

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
