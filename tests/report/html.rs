//! Oracle: the HTML and CSP specifications, applied by hand to the text of the page; hashes by a
//! second call of SHA-256 on what stands between the tags.

use std::path::Path;

use electrode::report;
use sha2::{Digest, Sha256};

use super::payloads::payloads;
use crate::run_folder::{self, Shape};

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let start = text.find(from).expect("begins") + from.len();
    let end = text[start..].find(to).expect("ends") + start;
    &text[start..end]
}

/// Base64 by bits, apart from the one of the page.
fn base64(bytes: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)).collect();
    let digit = |six: &[u8]| {
        let value = (0..6).fold(0, |v, i| v * 2 + six.get(i).copied().unwrap_or(0));
        char::from(digits[usize::from(value)])
    };
    let mut text: String = bits.chunks(6).map(digit).collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

fn build(folder: &Path, shape: &Shape) -> String {
    run_folder::write(folder, shape);
    let path = report::build(folder).expect("builds");
    assert_eq!(path, folder.join("report.html"));
    std::fs::read_to_string(path).expect("is UTF-8")
}

#[test]
fn the_policy_allows_what_is_there_and_nothing_else() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let page = build(folder.path(), &Shape { layers: 2, ..Shape::default() });
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\"");
    let hash = |text: &str| base64(&Sha256::digest(text.as_bytes()));
    let script = between(&page, "<script>", "</script>");
    let style = between(&page, "<style>", "</style>");
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(policy.contains(&format!("script-src 'sha256-{}';", hash(script))), "{policy}");
    assert!(policy.contains(&format!("style-src 'sha256-{}';", hash(style))), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    // The policy stands before all it governs, and no way around textContent is used.
    assert!(page.find("Content-Security").expect("stands") < page.find("<style").expect("stands"));
    for way in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", " style="] {
        assert!(!page.contains(way), "{way}");
    }
    assert!(!page.contains("http://") || page.matches("http://www.w3.org/2000/svg").count() == 1);
    assert!(!page.contains("https://"));
}

#[test]
fn no_text_of_the_run_opens_a_tag() {
    let plain = tempfile::tempdir().expect("makes a folder");
    let tags = |page: &str| page.matches('<').count();
    let usual = tags(&build(plain.path(), &Shape { layers: 2, ..Shape::default() }));
    let payloads = payloads();
    assert_eq!(payloads.len(), 150);
    for payload in &payloads {
        assert!(payload.chars().any(|c| "<>&'\"`\u{2028}/:=({%".contains(c)), "{payload}");
    }
    let folder = tempfile::tempdir().expect("makes a folder");
    let page = build(folder.path(), &hostile(&payloads));
    assert_eq!(tags(&page), usual, "tags come from the template and the script only");
    let data = between(&page, "id=\"data\">", "</script>");
    assert!(!data.contains(['<', '>', '&', '\u{2028}', '\u{2029}']));
    // Nothing is lost on the way: what the page reads is what was written.
    let value: serde_json::Value = serde_json::from_str(data).expect("is JSON");
    let words: Vec<&str> =
        value["words"].as_array().expect("is a list").iter().filter_map(|w| w.as_str()).collect();
    let shown = payloads.iter().filter(|p| p.chars().count() <= 120);
    for payload in shown {
        assert!(words.contains(&payload.as_str()), "{payload}");
    }
    assert_eq!(value["manifest"]["model"]["path"], payloads.concat());
}

/// Every payload in every field that text of users reaches.
pub(super) fn hostile(payloads: &[String]) -> Shape {
    Shape {
        layers: 2,
        width: 64,
        pages_per_concept: 1,
        contexts: 12,
        methods: vec!["meandiff".into(), payloads[0].clone()],
        labels: vec![
            ("upos".into(), payloads.to_vec()),
            (payloads.concat(), vec!["NOUN".into(), "*".into()]),
        ],
        lexicon: payloads.to_vec(),
        model: payloads.concat(),
        name: payloads.concat(),
    }
}

#[test]
fn forty_concepts_and_five_hundred_pages_stay_small() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let classes = (0..40).map(|i| format!("class{i}")).collect();
    let shape = Shape {
        layers: 12,
        width: 3072,
        pages_per_concept: 14,
        methods: (0..12).map(|i| format!("method{i}")).collect(),
        labels: vec![("upos".into(), classes)],
        lexicon: (0..40_000).map(|i| format!("word{i}")).collect(),
        ..Shape::default()
    };
    let page = build(folder.path(), &shape);
    assert!(page.matches("\"scale\":").count() >= 500, "has 500 pages of neurons");
    assert!(page.len() <= 10_000_000, "{} bytes", page.len());
}

#[test]
fn a_folder_with_a_manifest_alone_makes_a_page() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let manifest = electrode::artifact::manifest::Manifest::default();
    manifest.write(folder.path()).expect("writes");
    report::build(folder.path()).expect("builds");
}

#[test]
fn a_table_that_the_manifest_names_must_be_there() {
    let folder = tempfile::tempdir().expect("makes a folder");
    build(folder.path(), &Shape { layers: 2, ..Shape::default() });
    std::fs::remove_file(folder.path().join("contexts.parquet")).expect("removes");
    let error = report::build(folder.path()).expect_err("a table is missing");
    assert!(error.to_string().contains("contexts.parquet"), "{error}");
    let nowhere = report::build(&folder.path().join("none")).expect_err("no such run");
    assert!(nowhere.to_string().contains("manifest.json") && nowhere.exit_code() == 2);
}
