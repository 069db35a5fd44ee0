//! Oracle: Chromium. The page is opened from disk and the document it makes is read.

use std::path::{Path, PathBuf};
use std::process::Command;

use electrode::report;

use super::html::hostile;
use super::payloads::payloads;
use crate::run_folder::{self, Shape};

/// The browser on the path, or a line that says the test was left out.
pub(super) fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file());
    if found.is_none() {
        eprintln!("skipped: no chromium on PATH");
    }
    found
}

/// The document after the script ran, and what the console said.
pub(super) fn document(browser: &Path, page: &Path, hash: &str) -> (String, String) {
    let profile = tempfile::tempdir().expect("makes a folder");
    let profile = format!("--user-data-dir={}", profile.path().display());
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000", &profile])
        .arg("--dump-dom")
        .arg(format!("file://{}#{hash}", page.display()))
        .output()
        .expect("starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let log = text(output.stderr);
    let console: String = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    (text(output.stdout), console)
}

pub(super) fn body(document: &str) -> &str {
    let end = document.find("<script type=\"application/json\"").expect("the data follow");
    &document[document.find("<body").expect("has a body")..end]
}

/// Kept in the target folder, so that one can look at it.
fn example() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-example");
    run_folder::write(&folder, &Shape::default());
    report::build(&folder).expect("builds")
}

#[test]
fn each_view_shows_its_tables() {
    let Some(browser) = browser() else { return };
    let page = example();
    let (overview, console) = document(&browser, &page, "");
    assert_eq!(console, "");
    let overview = body(&overview);
    for part in ["Where concepts live", "class=\"heat where\"", "Agreement", "31\u{202f}902"] {
        assert!(overview.contains(part), "{part}");
    }
    let (concept, console) = document(&browser, &page, "c=feats.Tense/Past");
    assert_eq!(console, "");
    assert!(body(&concept).matches("<tr").count() >= 50, "lists fifty neurons");
    assert!(body(&concept).matches("<svg").count() >= 8, "a picture per method");
    assert!(body(&concept).contains("&lt;1e\u{2212}300"), "a p of 0 is below what can be written");
    let link = concept.split("href=\"#").find(|rest| rest.starts_with("n=")).expect("links");
    let name = &link[..link.find('"').expect("ends")];
    let (neuron, console) = document(&browser, &page, name);
    assert_eq!(console, "");
    assert!(body(&neuron).contains(&name[2..]), "{name}");
    assert!(body(&neuron).contains("What it ranks for"));
}

#[test]
fn no_payload_runs_and_all_are_shown_as_text() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().expect("makes a folder");
    let payloads = payloads();
    run_folder::write(folder.path(), &hostile(&payloads));
    let page = report::build(folder.path()).expect("builds");
    let data = std::fs::read_to_string(&page).expect("reads");
    let concept = percent(&payloads[10]);
    let start = data.find("\"neurons\":{\"site\":[").expect("has neurons");
    assert!(start > 0);
    let views = [String::new(), format!("c=upos/{concept}"), neuron_with_contexts(&data)];
    for view in views {
        let (document, console) = document(&browser, &page, &view);
        assert_eq!(console, "", "nothing was refused, since nothing was tried");
        let title = &document[document.find("<title>").expect("has one")..];
        let title = &title[..title.find("</title>").expect("ends")];
        assert!(title.len() > 1000, "the title is the name of the run: {title}");
        let body = body(&document);
        for tag in ["<script", "<img", "<iframe", "<object", "<base", "<template", " onerror"] {
            let own = body.matches(tag).count();
            let text = body.matches(&format!("{tag}=")).count();
            assert!(tag == " onerror" && own == text || own == 0, "{tag} in {view}");
        }
        assert!(body.contains("&lt;script&gt;document.title='pwned'&lt;/script&gt;"), "{view}");
        assert!(body.contains(">U+202E</span>"), "what turns the direction is shown");
    }
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The address of a page with contexts, read from the data of the page.
fn neuron_with_contexts(page: &str) -> String {
    let from = page.find("id=\"data\">").expect("has data") + 10;
    let end = page[from..].find("</script>").expect("ends") + from;
    let data: serde_json::Value = serde_json::from_str(&page[from..end]).expect("is JSON");
    let neuron = data["pages"][0]["neuron"].as_u64().expect("has a page") as usize;
    let site = data["neurons"]["site"][neuron].as_u64().expect("has a site") as usize;
    let site = data["sites"][site]["name"].as_str().expect("has a name");
    format!("n={site}.{}", data["neurons"]["index"][neuron])
}
