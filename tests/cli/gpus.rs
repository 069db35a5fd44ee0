//! GPUs as a shell sees them, on the fake driver (tests/fake-cuda) and its broken siblings.
//! Oracle: what the fake was told to show, and the exit codes of the README.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Finished, electrode, finish};
use crate::cuda::give_driver;

const DRY: [&str; 3] = ["run", "configs/runs/quickstart.toml", "--dry-run"];

/// The program with the driver of this folder; nothing where the fake could not be built.
fn with_driver(folder: &Path, arguments: &[&str]) -> Option<Command> {
    let mut command = electrode();
    give_driver(command.args(arguments), folder).then_some(command)
}

/// On the fake with these settings.
fn on_fake(settings: &[(&str, &str)], arguments: &[&str]) -> Option<Finished> {
    let mut command = with_driver(fake_cuda::library_dir(), arguments)?;
    Some(finish(command.envs(settings.iter().copied())))
}

#[test]
fn devices_lists_every_gpu_with_driver_and_kernels() {
    let settings = [("FAKECUDA_DEVICES", "3"), ("FAKECUDA_ARCH", "9.0")];
    let Some(out) = on_fake(&settings, &["devices"]) else { return };
    assert_eq!(out.code, 0, "{}", out.stderr);
    let lines: Vec<&str> = out.stdout.lines().collect();
    for (i, line) in lines[1..4].iter().enumerate() {
        assert!(line.starts_with(&format!("cuda:{i}")), "{}", out.stdout);
        assert!(line.contains("sm_90") && line.contains("GiB free"), "{}", out.stdout);
    }
    assert!(lines[4].starts_with("cpu"), "{}", out.stdout);
    assert!(out.stdout.contains("NVIDIA driver for CUDA 13.0; kernels: "), "{}", out.stdout);
    let json = on_fake(&settings, &["devices", "--json"]).expect("as above");
    let json: Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    assert_eq!(json["cuda"]["devices"].as_array().map(Vec::len), Some(3), "{json}");
    assert_eq!(json["cuda"]["driver"], "13.0");
    assert_eq!(json["cuda"]["missing"], Value::Null);
    assert!(json["cuda"]["devices"][2]["memory_bytes"].as_u64().is_some_and(|n| n > 0), "{json}");
}

/// Each is told apart, refused where a GPU is asked for, and passed over by `auto` alone.
#[test]
fn what_is_wrong_with_a_driver_is_said() {
    let (stub, old) = (fake_cuda::stub_dir(), fake_cuda::old_dir());
    let fake = fake_cuda::library_dir();
    for (folder, setting, reason, word, code) in [
        (&*stub, ("FAKECUDA_DEVICES", "1"), "stub_library", "stub", 2),
        (&*old, ("FAKECUDA_DEVICES", "1"), "old_driver", "too old", 2),
        (fake, ("FAKECUDA_DEVICES", "0"), "no_devices", "no", 2),
        (fake, ("FAKECUDA_ARCH", "7.5"), "no_kernels", "8.0", 2),
    ] {
        let run = |arguments: &[&str]| {
            let mut command = with_driver(folder, arguments)?;
            Some(finish(command.env(setting.0, setting.1)))
        };
        let Some(out) = run(&["devices", "--json"]) else { return };
        assert_eq!(out.code, 0, "{reason}: {}", out.stderr);
        let json: Value = serde_json::from_str(&out.stdout).expect("it is JSON");
        assert_eq!(json["cuda"]["missing"]["reason"], reason, "{json}");
        let text = run(&["devices"]).expect("as above").stdout;
        assert!(text.contains("\nno GPU: ") && text.contains("\n  remedy: "), "{text}");
        let asked = run(&[&DRY[..], &["--device", "cuda"]].concat()).expect("as above");
        assert_eq!(asked.code, code, "{reason}: {}", asked.stderr);
        assert!(asked.stderr.contains(word), "{reason}: {}", asked.stderr);
        assert!(!asked.stderr.contains("running on the CPU"), "{reason}: {}", asked.stderr);
        let auto = run(&[&DRY[..], &["--device", "auto"]].concat()).expect("as above");
        assert_eq!(auto.code, 0, "{reason}: {}", auto.stderr);
        assert!(auto.stderr.contains("running on the CPU"), "{reason}: {}", auto.stderr);
        assert!(auto.stderr.contains(word), "{reason}: {}", auto.stderr);
    }
}

/// One that does not answer takes no other with it, whatever it is asked.
#[test]
fn a_gpu_that_does_not_answer_is_left_out() {
    for (call, code, word) in [
        ("cuDevicePrimaryCtxRetain", 46, "CUDA_ERROR_DEVICE_UNAVAILABLE"),
        ("cuDevicePrimaryCtxRetain", 2, "CUDA_ERROR_OUT_OF_MEMORY"),
        ("cuDeviceGetName", 999, "CUDA_ERROR_UNKNOWN"),
        ("cuMemGetInfo_v2", 214, "CUDA_ERROR_ECC_UNCORRECTABLE"),
    ] {
        let refuse = format!("1:{call}:{code}");
        let settings = [("FAKECUDA_DEVICES", "3"), ("FAKECUDA_REFUSE", &refuse)];
        let Some(out) = on_fake(&settings, &["devices"]) else { return };
        assert_eq!(out.code, 0, "{}", out.stderr);
        let lines: Vec<&str> = out.stdout.lines().collect();
        assert!(lines[1].starts_with("cuda:0") && lines[2].starts_with("cuda:2"), "{}", out.stdout);
        let why = lines.iter().find(|line| line.starts_with("cannot be used: cuda:1: "));
        assert!(why.is_some_and(|line| line.contains(word)), "{call}: {}", out.stdout);
        let json = on_fake(&settings, &["devices", "--json"]).expect("as above");
        let json: Value = serde_json::from_str(&json.stdout).expect("it is JSON");
        assert_eq!(json["cuda"]["unusable"][0]["index"], 1, "{json}");
        let dry = |device| on_fake(&settings, &[&DRY[..], &["--device", device]].concat());
        for device in ["auto", "cuda"] {
            let out = dry(device).expect("as above");
            assert_eq!(out.code, 0, "{device}: {}", out.stderr);
            let said: Vec<&str> =
                out.stderr.lines().filter(|line| line.contains("left out")).collect();
            assert_eq!(said.len(), 1, "{device}: {}", out.stderr);
            assert!(said[0].contains("cuda:1") && said[0].contains(word), "{}", said[0]);
            assert!(out.stdout.contains("# cuda:2 (") && !out.stdout.contains("# cuda:1 ("));
        }
        let asked = dry("cuda:1").expect("as above");
        assert_eq!(asked.code, 76, "{}", asked.stderr);
        assert!(asked.stderr.contains("error: cuda:1: "), "{}", asked.stderr);
    }
}

/// With no other there, `auto` says in its one line why the CPU does the work.
#[test]
fn the_only_gpu_that_does_not_answer_is_named() {
    let settings = [("FAKECUDA_REFUSE", "0:cuDevicePrimaryCtxRetain:46")];
    let Some(auto) = on_fake(&settings, &[&DRY[..], &["--device", "auto"]].concat()) else {
        return;
    };
    assert_eq!(auto.code, 0, "{}", auto.stderr);
    let said: Vec<&str> =
        auto.stderr.lines().filter(|line| line.contains("running on the CPU")).collect();
    assert_eq!(said.len(), 1, "{}", auto.stderr);
    let word = "CUDA_ERROR_DEVICE_UNAVAILABLE";
    assert!(said[0].contains("cuda:0: ") && said[0].contains(word), "{}", said[0]);
    let asked = on_fake(&settings, &[&DRY[..], &["--device", "cuda"]].concat()).expect("as above");
    assert_eq!(asked.code, 76, "{}", asked.stderr);
    assert!(asked.stderr.contains(word), "{}", asked.stderr);
    let json = on_fake(&settings, &["devices", "--json"]).expect("as above");
    let json: Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    assert_eq!(json["cuda"]["missing"]["reason"], "unusable", "{json}");
}

#[test]
fn a_gpu_of_another_number_is_refused() {
    let arguments = [&DRY[..], &["--device", "cuda:1,5"]].concat();
    let Some(out) = on_fake(&[("FAKECUDA_DEVICES", "2")], &arguments) else { return };
    assert_eq!(out.code, 2, "{}", out.stderr);
    assert!(out.stderr.contains("no GPU 5; there are cuda:0 ("), "{}", out.stderr);
}

/// How many GPUs there are is no part of a run's identity; their kind and type of tensors are.
#[test]
fn a_dry_run_holds_the_plan_against_each_gpu() {
    let dry = |settings: &[(&str, &str)], more: &[&str]| {
        let out = on_fake(settings, &[&DRY[..], more].concat())?;
        assert_eq!(out.code, 0, "{}", out.stderr);
        Some(out.stdout)
    };
    let id = |text: &str| text.lines().next().expect("a first line").to_owned();
    let two = [("FAKECUDA_DEVICES", "2"), ("FAKECUDA_ARCH", "9.0")];
    let Some(both) = dry(&two, &["--device", "cuda"]) else { return };
    for line in ["# cuda:0 (", "# cuda:1 ("] {
        assert!(both.lines().any(|have| have.starts_with(line)), "{line}: {both}");
    }
    assert!(!both.contains("not all fits"), "{both}");
    let other =
        |settings: &[(&str, &str)], more: &[&str]| id(&dry(settings, more).expect("as above"));
    assert_eq!(id(&both), other(&two, &["--device", "cuda:1"]), "one of them");
    assert_eq!(id(&both), other(&two, &[]), "auto");
    assert_ne!(id(&both), other(&two, &["--device", "cpu"]), "the CPU");
    assert_ne!(id(&both), other(&two, &["--device", "cuda", "model.dtype=bf16"]), "bf16");
    let ampere = [("FAKECUDA_ARCH", "8.0")];
    assert_ne!(id(&both), other(&ampere, &["--device", "cuda"]), "another kind");
    // The batch is the device's own, half of it where its memory is short, and asked for as asked.
    let (cuda, asked) = ("--device=cuda", "statistics.batch_tokens=16384");
    for (memory, more, batch, fits) in [
        ("1000000000", &[cuda][..], 16_384, true),
        ("250000000", &[cuda], 8192, true),
        ("130000000", &[cuda], 2048, true),
        ("120000000", &[cuda], 2048, false),
        ("250000000", &[cuda, asked], 16_384, false),
        ("1000000000", &["--device=cpu"], 2048, true),
    ] {
        let text = dry(&[("FAKECUDA_MEMORY", memory)], more).expect("as above");
        assert!(text.contains(&format!("\n# batches: {batch} tokens\n")), "{memory}: {text}");
        assert_eq!(!text.contains("not all fits, batches get smaller"), fits, "{memory}: {text}");
        assert_eq!(text.contains("batch_tokens"), more.contains(&asked), "only if asked: {text}");
        assert_eq!(id(&text) == id(&both), more[0] == cuda, "it is no part of the identity");
    }
}

#[test]
fn a_measurement_names_its_device() {
    let config = "tests/golden/forward/gpt2-tied/config.json";
    let small = ["bench", config, "--tokens", "32", "--sequence", "16", "--rounds", "1"];
    for (device, dtype, line) in [
        ("cuda", "bf16", "device  cuda:0 (fake GPU (compute 9.0)), bf16"),
        ("cpu", "f32", "device  cpu ("),
    ] {
        let more = ["--device", device, "--dtype", dtype];
        let Some(out) = on_fake(&[], &[&small[..], &more].concat()) else { return };
        assert_eq!(out.code, 0, "{}", out.stderr);
        assert!(out.stdout.starts_with(line), "{}", out.stdout);
    }
}

/// Sites of one neuron, and weights with one input: their rows take a whole pack of 16 bytes.
#[test]
fn a_model_with_one_neuron_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("config.json");
    let text = std::fs::read_to_string("tests/golden/forward/gpt2-tied/config.json");
    let mut config: Value = serde_json::from_str(&text.expect("readable")).expect("it is JSON");
    config["n_inner"] = 1.into();
    std::fs::write(&file, config.to_string()).expect("written");
    let file = file.to_str().expect("a name in UTF-8");
    let small = ["bench", file, "--tokens", "32", "--sequence", "16", "--rounds", "1"];
    for dtype in ["f32", "bf16"] {
        let more = ["--device", "cuda", "--dtype", dtype];
        let Some(out) = on_fake(&[], &[&small[..], &more].concat()) else { return };
        assert_eq!(out.code, 0, "{}", out.stderr);
        assert!(out.stdout.contains("32 x 48 x 1 "), "{}", out.stdout);
    }
}
