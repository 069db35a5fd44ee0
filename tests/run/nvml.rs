//! What GPUs do, as metrics tell it. Oracle: a stand-in for NVML (tests/support/fake_nvml.c) whose
//! numbers are known; left out where no C compiler is.

use std::path::{Path, PathBuf};
use std::process::Command;

use electrode::device::cuda::nvml::{GpuState, Nvml};

use super::Bench;
use super::gpus::on_fake;

/// Makes the stand-in in this folder.
fn stand_in(folder: &Path) -> Option<PathBuf> {
    let library = folder.join("libnvidia-ml.so.1");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fake_nvml.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source);
    match compiler.status() {
        Ok(status) => {
            assert!(status.success(), "the stand-in compiles");
            Some(library)
        }
        Err(_) => {
            eprintln!("skipped: no C compiler for the stand-in of NVML");
            None
        }
    }
}

#[test]
fn what_is_missing_is_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(Nvml::open(folder.path().join("none.so"), &[]).is_none(), "no library");
    let Some(library) = stand_in(folder.path()) else { return };
    let nvml = Nvml::open(&library, &["GPU-0", "GPU-1", "MIG-0", "GPU-\0"]).expect("it is there");
    let first = GpuState {
        utilisation: Some(87),
        memory: Some(600_000),
        power: Some(312.5),
        energy: Some(1000.0),
        temperature: Some(64),
        clock: Some(1755),
    };
    let second = GpuState { utilisation: Some(88), energy: None, ..first };
    let none = GpuState::default();
    assert_eq!(nvml.read(), [first, second, none, none]);
    assert_eq!(nvml.read()[0].energy, Some(1030.0));
    // Something else under that name.
    let other = folder.path().join("other.so");
    std::fs::write(&other, b"no library").expect("written");
    assert!(Nvml::open(&other, &["GPU-0"]).is_none());
}

/// The real program on the fake driver, beside which the stand-in lies.
#[test]
fn a_run_on_gpus_tells_power_and_energy() {
    let bench = Bench::new(150);
    let folder = bench.path("nvml");
    std::fs::create_dir_all(&folder).expect("made");
    if stand_in(&folder).is_none() {
        return;
    }
    let more = ["--device", "cuda", "corpus.block_bytes=1024"];
    let path = format!("{}:{}", fake_cuda::library_dir().display(), folder.display());
    let settings = [("LD_LIBRARY_PATH", path.as_str())];
    let Some(done) = on_fake(&mut bench.command("out", &more), &settings) else { return };
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let text = std::fs::read_to_string(bench.path("out/metrics.jsonl")).expect("written");
    let last: serde_json::Value =
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    let gpu = &last["gpus"][0];
    assert_eq!(gpu["power_watts"], 312.5, "{last}");
    assert_eq!((&gpu["memory_bytes"], &gpu["sm_clock_mhz"]), (&600_000.into(), &1755.into()));
    assert!(gpu["uuid"].as_str().is_some_and(|uuid| uuid.starts_with("GPU-")), "{last}");
    // The UUID of the fake driver's first device ends with its number, 0.
    assert!(gpu["energy_joules"].as_f64() >= Some(30.0), "since the attempt began: {last}");
    // Without the library, or with one that does not start, the run is the same and says less.
    for (out, settings) in
        [("without", &[][..]), ("broken", &[settings[0], ("FAKE_NVML_BROKEN", "1")])]
    {
        let done = on_fake(&mut bench.command(out, &more), settings).expect("as above");
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        super::assert_same(
            &super::tables(&bench.path("out")),
            &super::tables(&bench.path(out)),
            out,
        );
        let text = std::fs::read_to_string(bench.path(out).join("metrics.jsonl")).expect("written");
        assert!(text.ends_with("\"gpus\":[]}\n"), "{text}");
    }
}
