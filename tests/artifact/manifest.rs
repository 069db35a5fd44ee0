//! Oracle: the manifest written, read as text and read back.

use electrode::artifact::machine::Machine;
use electrode::artifact::manifest::{FileFacts, MANIFEST, Manifest, hash_json};
use serde_json::{Value, json};

/// Made up; none opens anything.
const SECRETS: [&str; 8] = [
    "hf_AbCdEfGhIjKlMnOpQr",
    "sk-proj-0123456789abcdef",
    "https://someone:pa55word@example.org/model",
    "ghp_0123456789abcdefABCDEF",
    "github_pat_0123456789_abcdef",
    "glpat-0123456789abcdef",
    "xoxb-0123456789-abcdef",
    "api_org_0123456789abcdef",
];

fn sample() -> Manifest {
    Manifest {
        run_id: "run".into(),
        config: json!({ "b": 1, "a": { "z": [1, 2], "y": "text" } }),
        machine: Machine::here(3),
        outputs: vec![FileFacts { name: "x".into(), bytes: 3, ..FileFacts::default() }],
        ..Manifest::default()
    }
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().expect("makes a folder");
    sample().write(folder.path()).expect("writes");
    let mut read = Manifest::read(folder.path()).expect("reads");
    assert_eq!(read.format, "electrode.run/1");
    read.format = String::new();
    assert_eq!(read, sample());
}

#[test]
fn keys_are_sorted_at_every_depth() {
    fn check(value: &Value) {
        if let Value::Object(map) = value {
            let keys: Vec<&String> = map.keys().collect();
            assert!(keys.is_sorted(), "{keys:?}");
            map.values().for_each(check);
        } else if let Value::Array(items) = value {
            items.iter().for_each(check);
        }
    }
    let folder = tempfile::tempdir().expect("makes a folder");
    sample().write(folder.path()).expect("writes");
    let text = std::fs::read_to_string(folder.path().join(MANIFEST)).expect("reads");
    check(&serde_json::from_str(&text).expect("is JSON"));
    let (one, other) = (json!({ "a": 1, "b": [{ "c": 1, "d": 2 }] }), {
        json!({ "b": [{ "d": 2, "c": 1 }], "a": 1 })
    });
    assert_eq!(hash_json(&one), hash_json(&other));
    assert_ne!(hash_json(&one), hash_json(&json!({ "a": 1 })));
}

#[test]
fn no_secret_reaches_the_file_from_any_field() {
    for secret in SECRETS {
        let folder = tempfile::tempdir().expect("makes a folder");
        let mut manifest = sample();
        manifest.config = json!({ "model": { "path": secret }, secret: [secret] });
        manifest.model.path = secret.to_string();
        manifest.corpus.files =
            vec![FileFacts { name: format!("a/{secret}/b.txt"), ..FileFacts::default() }];
        manifest.environment.insert("HF_HOME".into(), secret.to_string());
        manifest.write(folder.path()).expect("writes");
        let text = std::fs::read_to_string(folder.path().join(MANIFEST)).expect("reads");
        for half in ["AbCdEf", "0123456789", "pa55word", "someone:"] {
            assert!(!text.contains(half), "{secret} is in {text}");
        }
        assert!(text.contains("***"), "{secret} was lost altogether");
    }
}

#[test]
fn a_damaged_manifest_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let path = folder.path().join(MANIFEST);
    assert_eq!(Manifest::read(folder.path()).expect_err("absent").exit_code(), 2);
    sample().write(folder.path()).expect("writes");
    let text = std::fs::read_to_string(&path).expect("reads");
    for damaged in [&text[..text.len() / 2], "[]", "", &text.replace("run/1", "run/2")] {
        std::fs::write(&path, damaged).expect("writes");
        let error = Manifest::read(folder.path()).expect_err("damaged");
        assert_eq!(error.exit_code(), 65);
        assert!(error.to_string().contains(MANIFEST), "{error}");
    }
}

/// Oracle: `sha256sum` and `b3sum` of the three bytes `abc`.
#[test]
fn hashes_are_those_of_the_tools() {
    let folder = tempfile::tempdir().expect("makes a folder");
    std::fs::write(folder.path().join("abc"), b"abc").expect("writes");
    let path = folder.path().join("abc");
    let (bytes, sha) = electrode::hash::sha256_of_file(&path).expect("hashes");
    assert_eq!(bytes, 3);
    assert_eq!(sha, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let output = FileFacts::output(folder.path(), "abc").expect("hashes");
    let blake3 = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
    assert_eq!(output.blake3.as_deref(), Some(blake3));
}
