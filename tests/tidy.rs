//! The repository against its own rules: layers, banned words, sizes, run files.
//! Oracle: the tables below. Each check is also shown a text that breaks it.

use std::fs;
use std::path::{Path, PathBuf};

/// A layer may import those above it, and itself.
const LAYERS: [&str; 18] = [
    "error",
    "id",
    "disk",
    "hash",
    "corpus",
    "model",
    "device",
    "capture",
    "accumulate",
    "artifact",
    "rewrite",
    "engine",
    "stimulate",
    "generate",
    "probe",
    "methods",
    "report",
    "run",
];
/// Below all of them.
const BOTTOM: &str = "cli";
/// The types of the run file are data that every layer may read: `[corpus]` is described in the
/// corpus layer and the whole of it here, so neither stands above the other.
const ANYWHERE: &str = "config";
/// What the run file itself may import.
const CONFIG_MAY: [&str; 4] = ["error", "id", "disk", "corpus"];

const MAX_LINES: usize = 400;
const BANNED: [&str; 6] =
    ["dbg!(", "todo!(", "unimplemented!(", ".unwrap()", " println!(", " print!("];
/// Files and folders, each with its reason; another needs one as good.
const MAY_BE_UNSAFE: [(&str, &str); 12] = [
    ("src/device/cuda/", "a C library, and kernels that write where their arguments point"),
    ("src/model/mapped.rs", "the system maps a file that others may change"),
    ("src/model/shrunk.rs", "the handler of the signal that such a change raises"),
    ("src/device/cpu/dispatch.rs", "calls code compiled for a feature that was just detected"),
    ("src/device/cpu/simd.rs", "lends columns of a matrix to threads; one loop in intrinsics"),
    ("src/device/cpu/shared.rs", "threads write interleaved columns of one tensor"),
    ("src/device/cpu/gemm.rs", "threads write panels of one tensor"),
    ("src/device/cpu/small.rs", "matrixmultiply takes pointers"),
    ("src/device/cpu/tile.rs", "vector instructions on slices"),
    ("src/device/cpu/pairs.rs", "so are its products of pairs"),
    ("src/device/cpu/attention.rs", "its tiles are such threads"),
    ("src/device/cpu/attention_grad.rs", "so are its heads"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files under these folders with these suffixes, as paths from the root, in order.
fn files(folders: &[&str], suffixes: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let there = folders.iter().map(|folder| root().join(folder)).filter(|path| path.exists());
    let mut open: Vec<PathBuf> = there.collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder of the repository is readable");
            open.extend(entries.map(|entry| entry.expect("its entries too").path()));
        } else {
            let name = path.strip_prefix(root()).expect("it is below the root");
            let name = name.to_str().expect("file names are UTF-8").to_owned();
            if suffixes.iter().any(|suffix| name.ends_with(suffix)) {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The lines that ship, without comments and without the unit tests at the end of a file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    lines
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(i, line)| (i + 1, line.split(" // ").next().unwrap_or(line)))
}

/// The modules of this crate that a line names, `use crate::{a, b::c}` included.
fn modules(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for after in line.split("crate::").skip(1) {
        let end = |text: &str| {
            text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
        };
        if let Some(group) = after.strip_prefix('{') {
            let (mut depth, mut fresh) = (0, true);
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => fresh = true,
                    c if fresh && c.is_alphanumeric() => {
                        found.push(&group[i..i + end(&group[i..])]);
                        fresh = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.push(&after[..end(after)]);
        }
    }
    found
}

fn may_import(from: &str, to: &str) -> bool {
    if from == to || to == ANYWHERE || from == BOTTOM || ["lib", "main"].contains(&from) {
        return true;
    }
    if from == ANYWHERE {
        return CONFIG_MAY.contains(&to);
    }
    let rank = |layer| LAYERS.iter().position(|known| *known == layer);
    match (rank(from), rank(to)) {
        (Some(from), Some(to)) => to < from,
        // Macros and items of the crate root do not belong to a layer; modules do.
        (Some(_), None) => to != BOTTOM && !to.starts_with(char::is_lowercase),
        (None, _) => false,
    }
}

/// `src/corpus/batch.rs` and `src/corpus.rs` are of the layer `corpus`.
fn layer(name: &str) -> &str {
    let inside = name.strip_prefix("src/").expect("a source file");
    inside.split(['/', '.']).next().expect("a first part")
}

#[test]
fn layers_import_only_what_stands_above_them() {
    let mut wrong = Vec::new();
    for name in files(&["src"], &[".rs"]) {
        let text = read(&name);
        let flat = join_groups(&text);
        for (line, code) in code(&flat) {
            for module in modules(code) {
                if !may_import(layer(&name), module) {
                    wrong.push(format!("{name} (about line {line}) imports {module}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(modules("use crate::{a::{b, c}, d};"), ["a", "d"]);
    assert_eq!(modules("let x = crate::id::Site::y(crate::error::z);"), ["id", "error"]);
    assert!(!may_import("corpus", "model"), "upward");
    assert!(!may_import("engine", "cli"), "upward");
    assert!(!may_import("methods", "run"), "upward");
    assert!(!may_import("config", "engine"), "configuration is data");
    assert!(may_import("engine", "accumulate"), "downward");
}

/// `use crate::{` over several lines as one.
fn join_groups(text: &str) -> String {
    let mut out = String::new();
    let mut open = false;
    for line in text.lines() {
        open |= line.contains("use crate::{");
        out += line;
        out.push(if open { ' ' } else { '\n' });
        if open && line.contains(';') {
            open = false;
            out.push('\n');
        }
    }
    out
}

#[test]
fn banned_words_stay_out_of_what_ships() {
    let broken = |text: &str| -> Vec<String> {
        let hits = |line: &str| BANNED.iter().any(|word| format!(" {line}").contains(word));
        code(text).filter(|(_, line)| hits(line)).map(|(i, line)| format!("{i}: {line}")).collect()
    };
    for name in files(&["src", "examples"], &[".rs"]) {
        // Examples print: that is what they are for.
        let text = read(&name);
        let found = broken(&text);
        let prints = |line: &String| line.contains("print") && name.starts_with("examples/");
        let found: Vec<_> = found.into_iter().filter(|line| !prints(line)).collect();
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
    assert_eq!(broken("let a = b.unwrap();\nprintln!();\n// dbg!(a)\n").len(), 2);
    assert_eq!(broken("fn f() {}\n#[cfg(test)]\nmod tests { a.unwrap() }").len(), 0);
}

/// Calls that are made through `src/disk.rs`, so that tests can make them fail.
const THROUGH_DISK: [&str; 10] = [
    "fs::read(",
    "fs::read_to_string(",
    "fs::write(",
    "fs::rename(",
    "fs::copy(",
    "fs::hard_link(",
    "fs::remove_",
    "fs::create_dir",
    "fs::File",
    "OpenOptions",
];
/// What reads the machine rather than files of ours.
const BESIDE_DISK: [&str; 2] = ["src/disk.rs", "src/artifact/machine.rs"];

#[test]
fn files_are_touched_through_one_module() {
    let broken = |text: &str| -> Vec<String> {
        let hits = |line: &str| THROUGH_DISK.iter().any(|call| line.contains(call));
        code(text).filter(|(_, line)| hits(line)).map(|(i, line)| format!("{i}: {line}")).collect()
    };
    for name in files(&["src"], &[".rs"]) {
        if !BESIDE_DISK.iter().any(|beside| name.starts_with(beside)) {
            let found = broken(&read(&name));
            assert!(found.is_empty(), "{name}, use crate::disk: {found:#?}");
        }
    }
    assert_eq!(broken("std::fs::write(a, b);\nlet f = fs::File::open(p);\n").len(), 2);
}

#[test]
fn files_show_one_idea() {
    for name in files(&["src", "tests", "examples", "benches", "build.rs"], &[".rs"]) {
        let lines = read(&name).lines().count();
        assert!(lines <= MAX_LINES, "{name} has {lines} lines, at most {MAX_LINES}: split it");
    }
}

#[test]
fn unsafe_code_stays_where_it_is_allowed() {
    let unsafe_lines = |text: &str| -> Vec<usize> {
        let marks = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "(unsafe_code"];
        let hits = |line: &str| marks.iter().any(|mark| line.contains(mark));
        code(text).filter(|(_, line)| hits(line)).map(|(i, _)| i).collect()
    };
    for name in files(&["src"], &[".rs"]) {
        if !MAY_BE_UNSAFE.iter().any(|(allowed, _)| name.starts_with(allowed)) {
            let lines = unsafe_lines(&read(&name));
            assert!(lines.is_empty(), "{name} is unsafe at {lines:?}");
        }
    }
    assert_eq!(unsafe_lines("a\nunsafe { b }\n#[expect(unsafe_code)]"), [2, 3]);
}

#[test]
fn nothing_names_a_machine_or_a_registry() {
    // Put together here, so that this file does not name them itself.
    let hosts = ["index.crates", "static.crates"].map(|host| format!("{host}.io"));
    let folders = ["root", "home", "work"].map(|folder| format!("/{folder}/"));
    let packages = [["pypi.org/", "simple"].concat(), ["files.python", "hosted"].concat()];
    let marks: Vec<_> = hosts.into_iter().chain(folders).chain(packages).collect();
    // The home of nobody in particular, in tests about paths.
    let placeholder = ["/ho", "me/someone"].concat();
    let broken = |text: &str| {
        let text = text.replace(&placeholder, "");
        marks.iter().find(|mark| text.contains(*mark)).cloned()
    };
    let folders =
        ["src", "tests", "configs", "examples", "benches", "docs", ".ci", "corpora", "models"];
    let mut names = files(&folders, &[".rs", ".toml", ".md", ".py", ".sh", "/run"]);
    names.extend(
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Cargo.toml", "deny.toml", "build.rs"]
            .map(str::to_owned),
    );
    for name in names.iter().filter(|name| root().join(name).exists()) {
        assert_eq!(broken(&read(name)), None, "{name}");
    }
    assert!(broken(&["see ", "/ho", "me/me"].concat()).is_some());
}

#[test]
fn every_run_file_of_the_repository_is_one() {
    let names = files(&["configs/runs"], &[".toml"]);
    assert!(names.len() >= 6, "one for each reader: {names:?}");
    for name in names {
        let run = electrode::config::RunConfig::load(root().join(&name), &[]);
        let run = run.unwrap_or_else(|error| panic!("{error}"));
        assert!(run.out.starts_with("out"), "{name}: git ignores out/ only");
        assert!(root().join(&run.model.path).join("config.json").exists(), "{name}: no such model");
        for file in run.corpus.files.iter().chain(&run.corpus.label_files) {
            assert!(root().join(file).exists(), "{name}: {} is not there", file.display());
        }
    }
}

#[test]
fn ignored_tests_say_why() {
    let mark = ["#[", "ignore"].concat();
    let bare = |text: &str| {
        text.lines().any(|line| {
            let line = line.trim_start();
            line.strip_prefix(&mark).is_some_and(|rest| !rest.starts_with(" = \""))
        })
    };
    for name in files(&["src", "tests", "benches"], &[".rs"]) {
        assert!(!bare(&read(&name)), "{name}: give {mark} a reason");
    }
    assert!(bare(&format!("{mark}]")));
    assert!(!bare(&format!("{mark} = \"needs a GPU\"]")));
}
