//! `electrode rank` from the shell: what its exit codes and files are when something is wrong.

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::run::{electrode, finish};

#[test]
fn wrong_labels_tensors_and_ranges_leave_no_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let values: Vec<u8> = (0..24_u8).flat_map(|x| f32::from(x % 7).to_le_bytes()).collect();
    let views = [("x", TensorView::new(Dtype::F32, vec![8, 3], &values).expect("sizes agree"))];
    let bytes = safetensors::serialize(views, None).expect("it serialises");
    std::fs::write(path("a.safetensors"), bytes).expect("written");
    std::fs::write(path("good.json"), r#"["a","b","a","b","a","b",null,"b"]"#).expect("written");
    std::fs::write(path("short.json"), r#"["a","b"]"#).expect("written");
    let run = |tensor: &str, labels: &str, method: &str, more: &[&str]| {
        let mut command = electrode();
        command.args(["rank", "--activations", &format!("{}:{tensor}", path("a.safetensors"))]);
        command.args(["--labels", &path(labels), "--method", method, "--out", &path("out.json")]);
        finish(command.args(more))
    };
    for (tensor, labels, method, more, code, words) in [
        ("x", "short.json", "auroc", &[][..], 65, &["2 labels", "8 rows"][..]),
        ("y", "good.json", "auroc", &[], 65, &["no tensor 'y'", "it holds x"]),
        ("x", "absent.json", "auroc", &[], 2, &["absent.json"]),
        ("x", "good.json", "auroq", &[], 2, &["did you mean 'auroc'"]),
        ("x", "good.json", "auroc", &["--rows", "0..9"], 2, &["--rows", "it has 8"]),
        ("x", "good.json", "auroc", &["--columns", "2..2"], 2, &["--columns", "A < B"]),
        ("x", "good.json", "auroc", &["--rows", "5"], 2, &["--rows", "is not a range"]),
    ] {
        let done = run(tensor, labels, method, more);
        assert_eq!(done.code, Some(code), "expected {words:?}: {}", done.stderr);
        for word in words {
            assert!(done.stderr.contains(word), "'{word}' is not in: {}", done.stderr);
        }
        assert!(!folder.path().join("out.json").exists(), "{words:?}");
    }
    let done = run("x", "good.json", "auroc", &["--rows", "0..6"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let out = std::fs::read(path("out.json")).expect("it was written");
    let out: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!((&out["n"], &out["groups"][1]["name"]), (&6.into(), &"b".into()));
}
