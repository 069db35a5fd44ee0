//! The page of a sweep. Oracle: the structure that the text asks for, 150 texts that try to become a
//! script, and Chromium, where there is one.

use std::collections::BTreeMap;

use electrode::report::overview::{
    FailureRow, Map, NodeRow, Overview, PassRow, PointRow, TaskBox, page,
};

use super::browser::{body, browser, document};
use super::payloads::payloads;

/// A page with this text in each of its text fields.
fn with(text: &str) -> Overview {
    let own = || text.to_owned();
    let task = |state, done| TaskBox { state, done, blocks: 4, attempts: 1 };
    Overview {
        name: own(),
        facts: vec![(own(), own())],
        passes: vec![PassRow { model: own(), documents: 3, bytes: 1 << 20, ..PassRow::default() }],
        points: vec![PointRow {
            name: own(),
            values: BTreeMap::from([(own(), own())]),
            model: own(),
            pass: 0,
            merged: true,
        }],
        tasks: vec![task("done", 4), task("working", 1), task("failed", 0), task("waiting", 2)],
        nodes: vec![NodeRow { name: own(), devices: vec![own()], ..NodeRow::default() }],
        failures: vec![FailureRow {
            task: 2,
            missing: "8-11".to_owned(),
            node: own(),
            exit: 76,
            error: own(),
        }],
        maps: vec![Map {
            point: own(),
            model: own(),
            method: own(),
            layers: vec![None, Some(0), Some(1)],
            concepts: vec![(own(), vec![0, 10, 40]), ("upos VERB".to_owned(), vec![50, 0, 0])],
        }],
    }
}

#[test]
fn a_page_shows_tasks_failures_and_layers() {
    let page = page(&with("plain"));
    for words in [
        "<h1>plain</h1>",
        "<title>task 2: failed, 0 of 4 blocks, 1 attempts ended</title>",
        "<td>8-11</td>",
        "<td>76</td>",
        "upos VERB, no layer: 50 of 50",
        "plain, layer 1: 40 of 50",
        "color-mix(in srgb,var(--accent) 80%,var(--q0))",
        "default-src 'none'",
        "<th>plain</th>",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert_eq!(page.matches("<rect").count(), 2 * 4 + 2 * 3, "two for a task, one for a cell");
    for address in ["http:", "https:", "src=", "href=", "url("] {
        assert!(!page.contains(address), "{address}");
    }
    let data = page.split("id=\"data\">").nth(1).expect("data").split("</script>").next();
    let data: serde_json::Value = serde_json::from_str(data.expect("they end")).expect("JSON");
    assert_eq!(data["maps"][0]["concepts"][1][1], serde_json::json!([50, 0, 0]));
}

#[test]
fn names_become_no_markup() {
    for text in payloads() {
        let page = page(&with(&text));
        let scripts = page.matches("<script").count() + page.matches("</script").count();
        assert_eq!(scripts, 2, "the data alone: {text}");
        for tag in ["<img", "<iframe", "<object", "<base", "<template", "<!--", "<a "] {
            assert!(!page.contains(tag), "{tag}: {text}");
        }
    }
    let page = page(&with("left\u{202e}right\u{0}\u{200b}"));
    assert!(page.contains("left[U+202E]right[U+0000][U+200B]"), "what is not seen is shown");
}

#[test]
fn a_browser_runs_nothing_and_complains_of_nothing() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().expect("makes a folder");
    let path = folder.path().join("overview.html");
    for text in payloads().iter().step_by(15) {
        std::fs::write(&path, page(&with(text))).expect("written");
        let (document, console) = document(&browser, &path, "");
        assert_eq!(console, "", "{text}");
        assert!(body(&document).contains("What failed"), "{text}");
        assert!(!document.contains("<title>pwned"), "{text}");
    }
}
