//! Where a command runs, as a shell sees it. Every GPU is hidden from these commands, if there is one.
//! Oracle: the exit codes of the README; the machine without GPUs that is then left.

use std::process::Command;

use super::{Finished, electrode, finish};

/// The driver shows no GPU under this; without a driver it changes nothing.
fn without_gpus(arguments: &[&str]) -> Finished {
    let mut command: Command = electrode();
    finish(command.args(arguments).env("CUDA_VISIBLE_DEVICES", ""))
}

const DRY: [&str; 3] = ["run", "configs/runs/quickstart.toml", "--dry-run"];

#[test]
fn devices_lists_the_cpu_and_says_what_is_missing() {
    let out = without_gpus(&["devices"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert!(lines[0].starts_with("device"), "{}", out.stdout);
    assert!(lines[1].starts_with("cpu"), "{}", out.stdout);
    assert!(lines[1].contains("threads"), "{}", out.stdout);
    assert!(out.stdout.contains("\nno GPU: "), "{}", out.stdout);
    assert!(out.stdout.contains("\n  remedy: "), "{}", out.stdout);
}

#[test]
fn devices_as_json() {
    let out = without_gpus(&["devices", "--json"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let json: serde_json::Value = serde_json::from_str(&out.stdout).expect("it is JSON");
    assert_eq!(json["cuda"]["devices"], serde_json::json!([]));
    let missing = &json["cuda"]["missing"];
    let known = ["no_driver", "stub_library", "no_devices"];
    assert!(known.contains(&missing["reason"].as_str().expect("a text")), "{missing}");
    assert_eq!(json["cuda"]["driver"], serde_json::Value::Null);
    assert!(missing["what"].as_str().is_some_and(|what| !what.is_empty()), "{missing}");
    assert!(json["cpu"]["threads"].as_u64().is_some_and(|threads| threads > 0));
    let level = json["cpu"]["instructions"].as_str().expect("a text");
    assert!(["portable", "avx2", "avx512"].contains(&level), "{level}");
}

#[test]
fn auto_falls_back_to_the_cpu_and_says_why_in_one_line() {
    for arguments in [&DRY[..], &[&DRY[..], &["--device", "auto"]].concat()] {
        let out = without_gpus(arguments);
        assert_eq!(out.code, 0, "{}", out.stderr);
        let said: Vec<&str> =
            out.stderr.lines().filter(|line| line.contains("running on the CPU")).collect();
        assert_eq!(said.len(), 1, "{}", out.stderr);
        assert!(said[0].len() > "running on the CPU: ".len() + 30, "{}", said[0]);
    }
    let out = without_gpus(&[&DRY[..], &["--device", "cpu"]].concat());
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert!(!out.stderr.contains("running on the CPU"), "{}", out.stderr);
}

/// A GPU that was asked for is never replaced by the CPU.
#[test]
fn a_gpu_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("out.safetensors");
    let file = file.to_str().expect("a name in UTF-8");
    let extract = ["extract", "--model", "models/none", "--corpus", "c.txt", "--sites", "s"];
    let extract = [&extract[..], &["--out", file]].concat();
    for device in ["cuda", "cuda:0", "cuda:0,1"] {
        for command in [&DRY[..], &extract[..]] {
            let out = without_gpus(&[command, &["--device", device]].concat());
            assert_eq!(out.code, 2, "{device}: {}", out.stderr);
            assert_eq!(out.stdout, "", "{device}");
            assert!(out.stderr.contains(&format!("device {device}: ")), "{device}: {}", out.stderr);
            assert!(out.stderr.contains("remedy: "), "{device}: {}", out.stderr);
        }
        let key = format!("device.name={device}");
        let out = without_gpus(&[&DRY[..], &[&key]].concat());
        assert_eq!(out.code, 2, "{device} in the run file: {}", out.stderr);
    }
}

#[test]
fn a_name_that_is_none_is_refused() {
    for device in ["gpu", "cuda:", "cuda:x", "cuda:0,", "cuda:0,0", "cpu:1", "CPU"] {
        let out = without_gpus(&[&DRY[..], &["--device", device]].concat());
        assert_eq!(out.code, 2, "{device}: {}", out.stderr);
        assert!(out.stderr.contains(device), "{device}: {}", out.stderr);
        assert!(out.stderr.contains("remedy: "), "{device}: {}", out.stderr);
    }
}

#[test]
fn bf16_is_another_run_on_the_cpu() {
    let ids = ["f32", "bf16"].map(|dtype| {
        let dtype = format!("model.dtype={dtype}");
        let out = without_gpus(&[&DRY[..], &["--device", "cpu", &dtype]].concat());
        assert_eq!(out.code, 0, "{}", out.stderr);
        out.stdout.lines().find(|line| line.starts_with("# run ")).map(str::to_owned)
    });
    assert_ne!(ids[0], ids[1]);
}
