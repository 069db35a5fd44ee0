//! The real binary, and a folder with a tiny model, a corpus and a run file for it.

#[path = "tiny.rs"]
pub(crate) mod tiny;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The tables of a run folder.
pub(crate) const TABLES: [&str; 4] =
    ["neurons.parquet", "rankings.parquet", "contexts.parquet", "histograms.parquet"];

/// Their bytes, by name.
pub(crate) type Tables = BTreeMap<&'static str, Vec<u8>>;

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program at the repository root, without the caller's logging environment.
pub(crate) fn electrode() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_electrode"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("ELECTRODE_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn finish(command: &mut Command) -> Finished {
    let output = command.output().expect("the program starts");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

/// A folder with a tiny model, a corpus and a run file.
#[derive(Debug)]
pub(crate) struct Bench {
    folder: TempDir,
}

impl Bench {
    /// `sentences` lines of words and labels, and the model that reads them.
    pub(crate) fn new(sentences: usize) -> Self {
        Self::within(TempDir::new().expect("a temporary folder"), sentences)
    }

    /// The same in memory, where there is such a file system.
    pub(crate) fn in_memory(sentences: usize) -> Self {
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new());
        Self::within(folder.expect("a temporary folder"), sentences)
    }

    fn within(folder: TempDir, sentences: usize) -> Self {
        let bench = Self { folder };
        tiny::write_model(&bench.path("model"));
        let (words, labels) = tiny::corpus(sentences);
        fs::write(bench.path("c.word"), words).expect("written");
        fs::write(bench.path("c.label"), labels).expect("written");
        let text = format!(
            r#"
name = "a tiny run"
out = "{root}/out"
methods = ["probeless", "auroc", "mi", "topctx"]
[model]
path = "{root}/model"
[corpus]
format = "parallel"
files = ["{root}/c.word"]
label_files = ["{root}/c.label"]
block_bytes = 2048
[[concepts]]
column = "label"
[capture]
sites = ["layers.*.mlp_act", "layers.*.resid_post"]
[statistics]
bins = 16
top = 5
bottom = 2
sample = 64
calibration_rows = 300
batch_tokens = 256
[device]
commit_seconds = 0
"#,
            root = bench.folder.path().display()
        );
        fs::write(bench.path("run.toml"), text).expect("written");
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command; `out` is a folder of this bench.
    pub(crate) fn command(&self, out: &str, more: &[&str]) -> Command {
        let mut command = electrode();
        command.arg("run").arg(self.path("run.toml"));
        command.arg(format!("out={}", self.path(out).display())).args(more);
        command
    }

    pub(crate) fn run(&self, out: &str, more: &[&str]) -> Finished {
        finish(&mut self.command(out, more))
    }

    /// Runs to the end and gives the tables.
    pub(crate) fn tables(&self, out: &str, more: &[&str]) -> Tables {
        let done = self.run(out, more);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        tables(&self.path(out))
    }
}

/// The bytes of every table of a run folder.
pub(crate) fn tables(folder: &Path) -> Tables {
    let read = |name: &'static str| {
        let bytes = fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, bytes)
    };
    TABLES.into_iter().map(read).collect()
}

/// Says which table differs, without its bytes.
pub(crate) fn assert_same(a: &Tables, b: &Tables, what: &str) {
    for name in TABLES {
        assert!(a[name] == b[name], "{what}: {name} differs");
    }
}

pub(crate) fn manifest(folder: &Path) -> serde_json::Value {
    let bytes = fs::read(folder.join("manifest.json")).expect("a finished run has a manifest");
    serde_json::from_slice(&bytes).expect("it is JSON")
}

/// Every file below a folder with its bytes, by path; nothing for a folder that is not there.
pub(crate) fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder is readable");
            open.extend(entries.map(|entry| entry.expect("its entries too").path()));
        } else if path.exists() {
            files.insert(path.clone(), fs::read(&path).expect("a file is readable"));
        }
    }
    files
}

/// Temporary files of killed processes, anywhere below a folder.
pub(crate) fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let is = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "tmp");
    snapshot(folder).into_keys().filter(is).collect()
}
