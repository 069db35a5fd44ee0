//! Bad corpora, tokenizers and settings. Oracle: each message names the place and the remedy that
//! a reader of this table would look for.

use std::io::Write;
use std::path::PathBuf;

use electrode::corpus::config::{CorpusConfig, Format};
use electrode::corpus::plan::Plan;
use electrode::corpus::tokenize::Tokenizer;
use electrode::error::Error;
use tempfile::TempDir;

use super::readers::CONLLU;
use super::{concept, config, write};

fn plan(config: &CorpusConfig) -> Result<Plan, Error> {
    Plan::make(config, &[], 10, 0)
}

/// A file, and words its error must hold.
fn refuses(name: &str, bytes: &[u8], expected: &[&str]) {
    let folder = TempDir::new().expect("temp");
    let path = write(&folder, name, bytes);
    let error = plan(&config(&[path])).expect_err(name);
    assert_eq!(error.exit_code(), 65, "{name}: {error}");
    let message = error.to_string();
    for part in expected.iter().chain(&[name]) {
        assert!(message.contains(part), "{name}: '{message}' lacks '{part}'");
    }
}

#[test]
fn bad_files_are_named_with_their_line() {
    refuses("a.txt", b"good\n\xff\xfe bad\n", &["line 2", "UTF-8", "max_bad"]);
    refuses("b.txt", b"good\ngood\nnu\0l\n", &["line 3", "NUL"]);
    refuses("c.jsonl", b"{\"text\": \"a\"}\n{\"text\"\n", &["line 2", "EOF"]);
    refuses("d.jsonl", b"{\"txt\": \"a\"}\n", &["line 1", "no `text`"]);
    refuses("e.jsonl", b"{\"text\": 5}\n", &["line 1", "not a string"]);
    refuses("f.jsonl", b"[1]\n", &["line 1"]);
    refuses("g.jsonl", b"{\"text\": \"a\\u0000\"}\n", &["line 1", "NUL"]);
    refuses("h.conllu", b"# c\n1\tHi\thi\n\n", &["line 2", "3 columns instead of 10"]);
    let word = |id: &str| format!("{id}\tHi\thi\tX\t_\t_\t0\troot\t_\t_\n");
    refuses("i.conllu", (word("1") + &word("3")).as_bytes(), &["line 2", "'3' where 2 was due"]);
    refuses("j.conllu", (word("1-4") + &word("1")).as_bytes(), &["multiword"]);
    refuses("k.conllu", (word("2-3") + &word("1")).as_bytes(), &["line 1", "2-3"]);
    let feats = "1\tHi\thi\tX\t_\tSing\t0\troot\t_\t_\n";
    refuses("l.conllu", feats.as_bytes(), &["line 1", "'Sing' has no '='"]);
    refuses("m.txt", b"", &["empty corpus"]);
    refuses("n.txt", b"\n \n", &["empty corpus"]);
    refuses("o.txt.gz", b"not gzip", &["damaged"]);
    refuses("p.txt.zst", b"not zstd", &["damaged"]);
    refuses("q.parquet", b"PAR1 but not really PAR1", &["Parquet reader"]);
    let zst = zstd::encode_all(&b"one line\n".repeat(10_000)[..], 3).expect("memory");
    refuses("r.txt.zst", &zst[..zst.len() / 2], &["damaged"]);
}

#[test]
fn a_line_without_end_is_skipped_without_being_kept() {
    let folder = TempDir::new().expect("temp");
    let mut text = vec![b'a'; (64 << 20) + 1];
    text.extend(b"\nshort\n");
    let path = write(&folder, "long.txt", &text);
    let mut config = config(&[path]);
    let message = plan(&config).expect_err("too long").to_string();
    assert!(message.contains("line 1: the line is longer than 64 MB"), "{message}");
    config.max_bad = 0.5;
    let plan = plan(&config).expect("half of it may be bad");
    assert_eq!((plan.documents, plan.bad, plan.blocks[0].bad), (1, 1, 1));
}

#[test]
fn bombs_are_refused() {
    let folder = TempDir::new().expect("temp");
    // 2^28 zeros: zstd makes them 10 000 times smaller.
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("memory");
    for _ in 0..256 {
        encoder.write_all(&[b'\n'; 1 << 20]).expect("memory");
    }
    let path = write(&folder, "bomb.txt.zst", encoder.finish().expect("memory"));
    let message = plan(&config(&[path])).expect_err("a bomb").to_string();
    assert!(message.contains("1000 times"), "{message}");
}

#[test]
fn too_many_bad_lines_are_refused_at_the_end() {
    let folder = TempDir::new().expect("temp");
    let path = write(&folder, "a.txt", b"one\n\xff\ntwo\nthree\n\xff\n");
    let mut config = config(&[path]);
    config.max_bad = 0.4;
    let plan = plan(&config).expect("exactly the share allowed");
    assert_eq!((plan.documents, plan.bad), (3, 2));
    config.max_bad = 0.39;
    let message = super::bad_input::plan(&config).expect_err("one too many").to_string();
    assert!(message.contains("2 of 5") && message.contains("line 2"), "{message}");
}

#[test]
fn parallel_files_must_agree() {
    let folder = TempDir::new().expect("temp");
    let words = write(&folder, "w.txt", "a b\nc\n");
    for (labels, expected) in [
        ("X Y\nZ Z\n", "line 2: 2 labels, 1 words"),
        ("X Y\n", "the label file ends after line 1"),
        ("X Y\nZ\nZ\n", "the word file ends after line 2"),
    ] {
        let mut config = config(std::slice::from_ref(&words));
        config.format = Some(Format::Parallel);
        config.max_bad = 1.0; // Labels that shift are no bad lines to skip.
        config.label_files = vec![write(&folder, "l.txt", labels)];
        let error = plan(&config).expect_err(expected);
        let message = error.to_string();
        assert!(message.contains(expected) && message.contains("l.txt"), "{message}");
        assert_eq!(error.exit_code(), 65);
    }
}

#[test]
fn wrong_settings_are_configuration_errors() {
    let folder = TempDir::new().expect("temp");
    let text = write(&folder, "a.txt", "text");
    let conllu = write(&folder, "a.conllu", CONLLU);
    let make = |files: &[PathBuf], edit: &dyn Fn(&mut CorpusConfig)| {
        let mut config = config(files);
        edit(&mut config);
        plan(&config).expect_err("a wrong setting")
    };
    let missing = folder.path().join("missing.txt");
    let odd = write(&folder, "a.odd", "text");
    let packed = write(&folder, "a.parquet.gz", "x");
    let table: [(Error, &str); 9] = [
        (make(&[missing], &|_| {}), "cannot read"),
        (make(&[], &|_| {}), "corpus.files"),
        (make(&[folder.path().join("*.none")], &|_| {}), "holds no file"),
        (make(&[odd], &|_| {}), "corpus.format"),
        (make(&[packed], &|_| {}), "packed Parquet"),
        (make(std::slice::from_ref(&text), &|c| c.block_bytes = 0), "block_bytes"),
        (make(std::slice::from_ref(&text), &|c| c.max_bad = f64::NAN), "max_bad"),
        (make(std::slice::from_ref(&text), &|c| c.label_files = vec![text.clone()]), "label_files"),
        (
            make(std::slice::from_ref(&text), &|c| {
                c.file_labels.insert("lang".into(), vec!["a".into(), "b".into()]);
            }),
            "2 classes for 1 entries",
        ),
    ];
    for (error, expected) in table {
        assert!(error.to_string().contains(expected), "'{error}' lacks '{expected}'");
        assert_eq!(error.exit_code(), 2, "{error}");
    }
    let config = config(&[conllu]);
    let refuse = |concepts: &[_]| Plan::make(&config, concepts, 10, 0).expect_err("a bad concept");
    let message = refuse(&[concept("upso")]).to_string();
    assert!(
        message.contains("did you mean 'upos'?") && message.contains("feats.Mood"),
        "{message}"
    );
    let mut verb = concept("upos");
    verb.classes = Some(vec!["VERB".into(), "NOUNS".into()]);
    let message = refuse(&[verb.clone()]).to_string();
    assert!(message.contains("'NOUNS' never occurs; did you mean 'NOUN'?"), "{message}");
    verb.most_frequent = Some(3);
    assert!(refuse(&[verb]).to_string().contains("both"));
    assert!(refuse(&[concept("upos"), concept("upos")]).to_string().contains("twice"));
}

#[test]
fn bad_tokenizers() {
    let folder = TempDir::new().expect("temp");
    let open = |path: PathBuf| Tokenizer::open(&path).err().expect("not a tokenizer");
    let missing = open(folder.path().to_path_buf());
    assert_eq!(missing.exit_code(), 2, "{missing}");
    write(&folder, "vocab.txt", "a\n");
    let slow = open(folder.path().to_path_buf());
    assert!(slow.to_string().contains("save_pretrained"), "{slow}");
    for (name, text) in [
        ("empty.json", ""),
        ("array.json", "[]"),
        ("no_model.json", "{\"version\": \"1.0\"}"),
        ("kind.json", "{\"version\": \"1.0\", \"model\": {\"type\": \"Magic\"}}"),
    ] {
        let error = open(write(&folder, name, text));
        assert_eq!(error.exit_code(), 65, "{error}");
        assert!(error.to_string().contains("not a tokenizer"), "{error}");
    }
    // It replaces every text by one that is not in it: no offset leads back.
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": { "type": "Replace", "pattern": { "Regex": ".*" }, "content": "" },
        "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": { "x": 0 }, "unk_token": "x" }
    });
    let error = open(write(&folder, "blind.json", json.to_string()));
    assert!(error.to_string().contains("no offsets"), "{error}");
    let huge = folder.path().join("huge.json");
    std::fs::File::create(&huge).and_then(|f| f.set_len(300 << 20)).expect("a sparse file");
    assert!(open(huge).to_string().contains("more than a tokenizer has"));
}
