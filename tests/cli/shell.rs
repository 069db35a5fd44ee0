//! The program around its commands: usage errors, help, version, completions, manual, logs, pipes.
//! Oracle: the exit codes of the README, and sysexits for what they are named after.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::process::Stdio;

use super::{electrode, finish, run};

const COMMANDS: [&str; 14] = [
    "run",
    "extract",
    "generate",
    "steer",
    "rank",
    "edit",
    "detect",
    "adapt",
    "inspect",
    "devices",
    "methods",
    "report",
    "completions",
    "man",
];

#[test]
fn usage_errors_exit_2_and_say_so_on_stderr() {
    for arguments in [
        &["frobnicate"][..],
        &["run"],
        &["run", "a.toml", "--nonsense"],
        &["run", "a.toml", "--threads", "0"],
        &["run", "a.toml", "--threads", "many"],
        &["inspect"],
        &["edit"],
        &["edit", "drop-layers", "--model", "m", "--out", "o"],
        &["edit", "drop-layers", "--model", "m", "--out", "o", "--layers", "1", "--keep", "0"],
        &["edit", "prune-neurons", "--model", "m", "--out", "o", "--ranking", "r", "--remove", "0"],
        &["report"],
        &["devices", "cuda:0"],
        &["completions", "cmd"],
        &["man", "runn"],
        &["methods", "--log-format", "xml"],
        &["methods", "-v", "-q"],
        &["extract", "--model", "m", "--sites", "embeddings", "--out", "o"],
        &["extract", "--model", "m", "--sites", "s", "--out", "o", "--ids", "i", "--corpus", "c"],
        &["extract", "--model", "m", "--sites", "s", "--out", "o", "--ids", "i", "--pool", "last"],
        &["extract", "--model", "m", "--ids", "i", "--out", "o"],
    ] {
        let out = run(arguments);
        assert_eq!(out.code, 2, "{arguments:?}: {}", out.stderr);
        assert_eq!(out.stdout, "", "{arguments:?}");
        assert!(!out.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_lists_every_command_and_the_exit_codes() {
    let out = run(&["--help"]);
    assert_eq!(out.code, 0);
    for command in COMMANDS {
        assert!(out.stdout.contains(&format!("  {command} ")), "{command}: {}", out.stdout);
        let help = run(&[command, "--help"]);
        assert_eq!(help.code, 0, "{command}");
        assert!(help.stdout.contains("Usage: electrode"), "{command}: {}", help.stdout);
    }
    for code in ["0 done", "2 wrong usage", "65", "70", "74", "75", "76"] {
        assert!(out.stdout.contains(code), "{code}: {}", out.stdout);
    }
}

#[test]
fn the_version_names_the_commit() {
    let out = run(&["--version"]);
    assert_eq!(out.code, 0);
    let version = concat!("electrode ", env!("CARGO_PKG_VERSION"), " (");
    let commit =
        out.stdout.trim_end().strip_prefix(version).and_then(|rest| rest.strip_suffix(')'));
    let commit = commit.unwrap_or_else(|| panic!("{}", out.stdout));
    let digits = commit.trim_end_matches("-dirty");
    let hash = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(commit == "unknown" || hash, "{commit}");
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let out = run(&["completions", shell]);
        assert_eq!(out.code, 0, "{shell}: {}", out.stderr);
        for command in COMMANDS {
            assert!(out.stdout.contains(command), "{shell} does not know {command}");
        }
        assert!(out.stdout.contains("threads"), "{shell} does not know the options of run");
    }
}

#[test]
fn the_manual_has_a_page_for_the_program_and_each_command() {
    let page = run(&["man"]);
    assert_eq!(page.code, 0, "{}", page.stderr);
    assert!(page.stdout.contains(".TH electrode 1"), "{}", page.stdout);
    for command in COMMANDS {
        let page = run(&["man", command]);
        assert_eq!(page.code, 0, "{command}: {}", page.stderr);
        assert!(page.stdout.contains(&format!(".TH electrode-{command} 1")), "{}", page.stdout);
        assert!(page.stdout.contains(".SH SYNOPSIS"), "{command}");
    }
}

#[test]
fn json_logs_are_json_lines() {
    let out = run(&["run", "no/such.toml", "--log-format", "json"]);
    assert_eq!(out.code, 2);
    let lines: Vec<serde_json::Value> = out
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let last = lines.last().expect("the error is said");
    assert_eq!(last["level"], "ERROR");
    assert_eq!(last["exit_code"], 2);
    let message = last["message"].as_str().expect("a message is text");
    assert!(message.contains("no/such.toml"), "{message}");
}

#[test]
fn quiet_still_says_errors_and_a_wrong_filter_is_one() {
    let out = run(&["-q", "run", "no/such.toml"]);
    assert_eq!(out.code, 2);
    assert!(out.stderr.contains("no/such.toml"), "{}", out.stderr);
    let out = finish(electrode().args(["methods"]).env("ELECTRODE_LOG", "a=b=c"));
    assert_eq!(out.code, 2, "{}", out.stderr);
    assert!(out.stderr.contains("ELECTRODE_LOG"), "{}", out.stderr);
}

#[test]
fn a_dry_run_prints_the_resolved_run_and_begins_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().join("run");
    let argument = format!("out={}", place.display());
    let run = |more: &[&str]| {
        run(&[&["run", "configs/runs/quickstart.toml", "--dry-run"], more].concat())
    };
    let out = run(&[&argument, "--threads", "3", "corpus.max_documents=100"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    for line in ["threads = 3", "max_documents = 100", "bins = 64"] {
        assert!(out.stdout.lines().any(|have| have == line), "{line}: {}", out.stdout);
    }
    assert!(!place.exists());
}

/// A reader that goes away early (`| head`) is no error, and nothing is said.
#[test]
fn a_closed_pipe_is_quiet() {
    let mut child = electrode()
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // Closed before the program can have written more than the pipe holds.
    drop(child.stdout.take());
    let status = child.wait().expect("it ends");
    let mut said = String::new();
    child.stderr.take().expect("stderr is piped").read_to_string(&mut said).expect("it is UTF-8");
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(said, "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_exit_74() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let out = electrode().arg("man").stdout(full).output().expect("the program starts");
    assert_eq!(out.status.code(), Some(74), "{}", String::from_utf8_lossy(&out.stderr));
}
