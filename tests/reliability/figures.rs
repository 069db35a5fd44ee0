//! What the tests of this binary counted.

use tempfile::TempDir;

/// The short number, or under `ELECTRODE_NIGHT=1` the long one.
pub(crate) fn cases(short: u64, night: u64) -> u64 {
    if std::env::var_os("ELECTRODE_NIGHT").is_some_and(|value| value == "1") {
        night
    } else {
        short
    }
}

/// A line of the table of docs/reliability.md: what was done to the program, how often, and how many
/// times it did not hold. It goes to stdout, where `.ci/figures` finds it.
pub(crate) fn say(name: &str, count: u64, differences: u64) {
    use std::io::Write as _;
    // Around the harness, which shows only what failing tests print.
    let line = format!("figure|{name}|{count}|{differences}\n");
    std::io::stdout().write_all(line.as_bytes()).expect("stdout takes a line");
}

/// Says the figure, then fails with the first of what did not hold, if anything did not.
pub(crate) fn hold(name: &str, count: u64, wrong: &[String]) {
    say(name, count, wrong.len() as u64);
    assert!(
        wrong.is_empty(),
        "{name}: {} of {count}: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}

/// A temporary folder, in memory where the system has such a place: what is tested here is not the disk.
pub(crate) fn folder() -> TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("a temporary folder")
}

/// Figures that the documentation lists are said by a test.
/// Oracle: the sources of this binary.
#[test]
fn the_documentation_lists_figures_that_are_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(root.join("tests/reliability")).expect("this folder");
    let sources: String = files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "rs"))
        .map(|path| std::fs::read_to_string(path).expect("it is text"))
        .collect();
    let page = std::fs::read_to_string(root.join("docs/reliability.md")).expect("the page");
    let (_, table) = page.split_once("<!-- figures -->").expect("where the table begins");
    let (table, _) = table.split_once("<!-- end of figures -->").expect("where it ends");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 14, "{} rows", rows.len());
    for row in rows {
        let name = row.split('|').nth(1).expect("a first column").trim();
        assert!(sources.contains(&format!("\"{name}\"")), "no test says '{name}'");
    }
}
