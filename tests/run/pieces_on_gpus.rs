//! `generate`, `steer`, `maximize` and `sparsity` on several GPUs of the fake driver.
//! Oracle: the same command on one GPU that is well.

use std::fs;
use std::path::{Path, PathBuf};

use super::gpus::on_fake;
use super::{electrode, snapshot};
use crate::generate::steer::{OF_WAR, by_hand};

/// Bytes of what a command wrote; manifest and page tell how long it took.
fn outputs(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    if out.is_file() {
        return vec![(PathBuf::new(), fs::read(out).expect("written"))];
    }
    let named = |path: &PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
    let kept = |path: &PathBuf| {
        !["manifest.json", "report.html", "run.lock"].contains(&named(path).as_str())
    };
    let all = snapshot(out).into_iter().filter(|(path, _)| kept(path));
    all.map(|(path, bytes)| (PathBuf::from(named(&path)), bytes)).collect()
}

/// The same bytes on one, two and three GPUs, and with one that is lost on the way.
fn the_same_on_any_number(arguments: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2-en");
    let run = |name: &str, settings: &[(&str, &str)]| {
        let out = folder.path().join(name);
        let mut command = electrode();
        command.arg(arguments[0]).arg("--model").arg(&model).args(&arguments[1..]);
        command.args(["--device", "cuda", "--out"]).arg(&out);
        Some((on_fake(&mut command, settings)?, out))
    };
    let Some((one, out)) = run("one", &[]) else { return };
    assert_eq!(one.code, Some(0), "{}", one.stderr);
    let want = outputs(&out);
    assert!(!want.is_empty(), "nothing was written");
    for (name, settings) in [
        ("two", &[("FAKECUDA_DEVICES", "2")][..]),
        ("three", &[("FAKECUDA_DEVICES", "3")]),
        ("lost", &[("FAKECUDA_DEVICES", "2"), ("FAKECUDA_FAIL", "1:30:719")]),
    ] {
        let (done, out) = run(name, settings).expect("as above");
        assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
        assert!(outputs(&out) == want, "{name}: other bytes than on one GPU");
        let lost = done.stderr.contains("device given up");
        assert_eq!(lost, name == "lost", "{name}: {}", done.stderr);
    }
}

#[test]
fn generate_on_any_number_of_gpus() {
    let folder = tempfile::tempdir().expect("a folder");
    // An arm is a piece, and more.
    let arm = |n: u32| {
        let name = format!("off {n}");
        serde_json::json!({"name": name, "kind": "zero", "edits": [{"layer": 2, "neurons": [n]}]})
    };
    let arms: Vec<serde_json::Value> = (0..6).map(arm).collect();
    let edits = folder.path().join("edits.json");
    fs::write(&edits, serde_json::json!({"arms": arms}).to_string()).expect("written");
    let edits = edits.display().to_string();
    let first = ["generate", "--prompt", "She", "The war", "--judge", "--batch-tokens", "32"];
    let more = ["--samples", "2", "--max-tokens", "3", "--intervene", &edits];
    the_same_on_any_number(&[&first[..], &more].concat());
}

#[test]
fn steer_on_any_number_of_gpus() {
    let folder = tempfile::tempdir().expect("a folder");
    by_hand(folder.path());
    let words = folder.path().join("words.txt");
    fs::write(&words, "war\n").expect("written");
    let run = folder.path().join("by_hand").display().to_string();
    let words = words.display().to_string();
    let first = ["steer", "--run", &run, "--presence", &words, "--prompt", "The"];
    let more = ["--top", "2", "--random", "2", "--samples", "2", "--max-tokens", "3"];
    the_same_on_any_number(&[&first[..], &OF_WAR, &more].concat());
}

#[test]
fn maximize_on_any_number_of_gpus() {
    let neurons: Vec<String> = (0..6).map(|n| format!("layers.{}.mlp_act.{n}", n % 3)).collect();
    let neurons = neurons.join(",");
    let more = ["--steps", "2", "--restarts", "2", "--length", "3"];
    the_same_on_any_number(&[&["maximize", "--neurons", &neurons][..], &more].concat());
}

#[test]
fn sparsity_on_any_number_of_gpus() {
    let corpus =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora/en_ewt/en_ewt-dev-half.conllu");
    let corpus = corpus.display().to_string();
    let first = ["sparsity", "--corpus", &corpus, "--tokens", "120", "--batch-tokens", "30"];
    let more = ["--ppl", "0", "--cett", "0.2", "--thresholds", "2", "--max-tokens", "30"];
    the_same_on_any_number(&[&first[..], &more].concat());
}
