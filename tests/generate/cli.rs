//! `electrode generate` as a shell sees it.
//! Oracle: by hand; exit codes as in the README.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::{Finished, run};

fn model() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2-en").display().to_string()
}

fn generate(arguments: &[&str]) -> Finished {
    let model = model();
    let first = ["generate", "--model", &model, "--device", "cpu", "--max-tokens", "4"];
    run(&[&first[..], arguments].concat())
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = folder.join(name);
    std::fs::write(&path, text).expect("writes");
    path.display().to_string()
}

#[test]
fn a_line_for_each_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let prompts = file(folder.path(), "p.jsonl", "{\"q\": \"The war\"}\n\n{\"q\": \"He was\"}\n");
    let edits = r#"{"clean": true, "arms": [{"name": "off",
        "edits": [{"kind": "zero", "layer": 3, "neurons": "all"}]}]}"#;
    let edits = file(folder.path(), "e.json", edits);
    let out = folder.path().join("out.jsonl");
    let (keyed, target) = (format!("{prompts}:q"), out.display().to_string());
    let args = ["--prompt", "She", "--prompts", &keyed, "--samples", "2", "--judge", "--intervene"];
    let ran = generate(&[&args[..], &[&edits, "--out", &target]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("distinct_2") && ran.stdout.contains("clean"), "{}", ran.stdout);
    let text = std::fs::read_to_string(&out).expect("written");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2 * 3 * 2);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line["arm"], if number < 6 { "clean" } else { "off" });
        assert_eq!(line["index"], number / 2 % 3);
        assert_eq!(line["prompt"], ["She", "The war", "He was"][number / 2 % 3]);
        assert_eq!(line["sample"], number % 2);
        let tokens = line["tokens"].as_array().expect("a list").len();
        assert!((1..=4).contains(&tokens));
        let (sum, perplexity) = (line["log_prob"].as_f64(), line["perplexity"].as_f64());
        let want = (-sum.expect("a number") / tokens as f64).exp();
        assert!((perplexity.expect("a number") - want).abs() <= 1e-9 * want);
        assert!(line["judge_perplexity"].is_number() && line["finished"].is_string());
    }
    let ran = generate(&["--prompt", "She"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let line: Value = serde_json::from_str(ran.stdout.trim()).expect("one line on stdout");
    assert!(line.get("arm").is_none() && line.get("judge_perplexity").is_none());
    assert!(ran.stderr.contains("distinct_1"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_continued_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| file(folder.path(), name, text);
    let prompts = file("p.jsonl", "{\"q\": \"The war\"}\n{\"q\": 3}\n");
    let (missing, number) = (format!("{prompts}:nothing"), format!("{prompts}:q"));
    let edits = |what: &str| format!(r#"{{"kind": "zero", "edits": [{{{what}}}]}}"#);
    let positions = file("a.json", &edits(r#""layer": 0, "neurons": [1], "positions": "last""#));
    let head = file("b.json", &edits(r#""site": "logits", "neurons": [1]"#));
    let layer = file("c.json", &edits(r#""layer": 9, "neurons": [1]"#));
    let cases: [(&[&str], i32, &str); 16] = [
        (&[], 2, "there is none"),
        (&["--prompt", ""], 2, "it has no token"),
        (&["--prompts", &missing], 65, "line 1: key 'nothing' is not there"),
        (&["--prompts", &number], 65, "line 2: key 'q' is not a text"),
        (&["--prompt", "She", "--max-tokens", "5000"], 2, "the model takes"),
        (&["--prompt", "She", "--max-tokens", "0"], 2, "max-tokens"),
        (&["--prompt", "She", "--samples", "0"], 2, "samples"),
        (&["--prompt", "She", "--temperature=-1"], 2, "temperature"),
        (&["--prompt", "She", "--top-p", "2"], 2, "top-p"),
        (&["--prompt", "She", "--batch-tokens", "0"], 2, "batch-tokens"),
        (&["--prompt", "She", "--stop", ""], 2, "an empty text is everywhere"),
        (&["--prompt", "She", "--on", "prompt"], 2, "--intervene"),
        (&["--prompt", "She", "--intervene", &positions], 2, "has no rows or positions"),
        (&["--prompt", "She", "--intervene", &head], 2, "does not pass through edits of the head"),
        (&["--prompt", "She", "--intervene", &layer], 2, "layers are 0 to 3"),
        (&["--prompt", "She", "--out", "/dev/null"], 2, "not a regular file"),
    ];
    for (arguments, code, part) in cases {
        let model = model();
        let first = ["generate", "--model", &model, "--device", "cpu"];
        let ran = run(&[&first[..], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{arguments:?}: {}", ran.stderr);
    }
    let encoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/forward/bert-tokcls");
    let encoder = encoder.display().to_string();
    let ran = run(&["generate", "--model", &encoder, "--prompt", "She", "--device", "cpu"]);
    assert_eq!(ran.code, 65, "{}", ran.stderr);
    assert!(ran.stderr.contains("the model is an encoder"), "{}", ran.stderr);
}
