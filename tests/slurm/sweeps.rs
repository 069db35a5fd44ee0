//! Sweeps that last long enough to be hit: the embedded model over a book, in blocks of a tenth of a
//! second. Oracle: the same plan, undisturbed and `--local`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use tempfile::TempDir;

use crate::bench::{Finished, electrode, finish, leftovers, snapshot};
use crate::cluster::{ask, at_work, wait};

/// Everything of all tests, and the tables of what ran undisturbed, by number of documents.
static ROOT: LazyLock<TempDir> =
    LazyLock::new(|| TempDir::with_prefix("electrode-slurm-").expect("a temporary folder"));
type Tables = BTreeMap<PathBuf, Vec<u8>>;
static REFERENCES: Mutex<BTreeMap<usize, Tables>> = Mutex::new(BTreeMap::new());

/// Documents of half a kilobyte, three to a block: seconds of one core.
pub(crate) const SHORT: usize = 150;
pub(crate) const MEDIUM: usize = 330;
pub(crate) const LONG: usize = 1000;

/// More than any of them has: a sweep is one task.
const TASK_BLOCKS: u32 = 512;

/// A planned sweep.
pub(crate) struct Sweep {
    pub(crate) out: PathBuf,
    documents: usize,
}

impl Sweep {
    /// `slurm`: what else stands in `[slurm]`.
    pub(crate) fn plan(name: &str, documents: usize, slurm: &str) -> Self {
        let out = ROOT.path().join(name);
        let file = ROOT.path().join(format!("{name}.toml"));
        let text = format!(
            "name = \"{name}\"\nout = \"{}\"\nrun = \"{}\"\ntask_blocks = {TASK_BLOCKS}\n\
             [[axis]]\nkey = \"capture.sites\"\nnames = [\"first\", \"all\"]\n\
             values = [[\"layers.0.mlp_act\"], [\"layers.*.mlp_act\"]]\n\
             [slurm]\ncpus = 1\n{slurm}",
            out.display(),
            run_file(documents).display()
        );
        fs::write(&file, text).expect("written");
        let done = finish(electrode().args(["sweep", "plan"]).arg(&file));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        Self { out, documents }
    }

    pub(crate) fn sweep(&self, command: &str, more: &[&str]) -> Finished {
        finish(electrode().args(["sweep", command]).arg(&self.out).args(more))
    }

    pub(crate) fn submit(&self) {
        let done = self.sweep("submit", &[]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }

    /// Waits until some blocks of the first task are on the disk, and not all.
    pub(crate) fn wait_for_blocks(&self) {
        let folder = self.out.join("passes/0000/tasks/000000");
        let bytes = || -> u64 {
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
        };
        wait("blocks of the first task", 120, || bytes() > 50_000);
        assert!(at_work(&self.out).len() == 1, "the task is not at work");
    }

    /// Every job that was ever submitted from this folder: its number, state and file.
    pub(crate) fn jobs(&self, states: &str) -> Vec<(String, String, String)> {
        let format = ["--format", "%i|%T|%o"];
        let text =
            ask("squeue", &[&["--noheader", "--array", "--states", states], &format[..]].concat());
        let folder = format!("{}/", self.out.join("jobs").display());
        let job = |line: &str| {
            let mut fields = line.splitn(3, '|').map(str::to_owned);
            let (job, state, file) = (fields.next()?, fields.next()?, fields.next()?);
            Some((job, state, file.strip_prefix(&folder)?.to_owned()))
        };
        text.lines().filter_map(job).collect()
    }

    /// Jobs that wait, run or end just now.
    pub(crate) fn live(&self) -> Vec<(String, String, String)> {
        let mut jobs = self.jobs("all");
        let gone = ["CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "PREEMPTED", "TIMEOUT"];
        jobs.retain(|(_, state, _)| !gone.contains(&state.as_str()));
        jobs
    }

    /// Restarts of the only task, as Slurm counts them.
    pub(crate) fn restarts(&self) -> u32 {
        let jobs = self.jobs("all");
        let (job, ..) = jobs.iter().find(|(.., file)| file.starts_with("array")).expect("a task");
        let shown = ask("scontrol", &["show", "job", job]);
        let field = shown.split_whitespace().find_map(|field| field.strip_prefix("Restarts="));
        field.expect("it is shown").parse().expect("a number")
    }

    /// Lets the queue run empty, resumes while anything is missing, and holds what came out against the
    /// undisturbed sweep. Gives how often it was resumed.
    pub(crate) fn finish(&self) -> u32 {
        let reference = reference(self.documents);
        let mut resumed = 0;
        loop {
            wait("the queue is empty", 240, || self.live().is_empty());
            let there: BTreeSet<PathBuf> = tables(&self.out).into_keys().collect();
            if there == reference.keys().cloned().collect() {
                break;
            }
            assert!(resumed < 3, "still missing: {there:?}");
            resumed += 1;
            let done = self.sweep("resume", &[]);
            assert_eq!(done.code, Some(0), "{}", done.stderr);
        }
        // What a lost node goes on with ends by itself.
        wait("nothing is at work", 120, || at_work(&self.out).is_empty());
        self.assert_as_undisturbed();
        resumed
    }

    pub(crate) fn assert_as_undisturbed(&self) {
        let (ours, reference) = (tables(&self.out), reference(self.documents));
        assert_eq!(ours.keys().collect::<Vec<_>>(), reference.keys().collect::<Vec<_>>());
        for (path, bytes) in &reference {
            assert!(ours[path] == *bytes, "{}: {}", self.out.display(), path.display());
        }
        assert_eq!(leftovers(&self.out.join("points")), [] as [PathBuf; 0]);
        let status = self.sweep("status", &["--json"]);
        let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
        assert_eq!(status["done"], status["blocks"]);
    }
}

/// Every table of every point.
pub(crate) fn tables(out: &Path) -> Tables {
    let points = out.join("points");
    let files = snapshot(&points).into_iter();
    let is_table = |path: &Path| path.extension().is_some_and(|suffix| suffix == "parquet");
    let relative = |path: &Path| path.strip_prefix(&points).expect("it is in there").to_path_buf();
    files.filter(|(path, _)| is_table(path)).map(|(path, bytes)| (relative(&path), bytes)).collect()
}

fn reference(documents: usize) -> Tables {
    let mut known = REFERENCES.lock().unwrap_or_else(PoisonError::into_inner);
    let tables = known.entry(documents).or_insert_with(|| {
        let sweep = Sweep::plan(&format!("undisturbed-{documents}"), documents, "");
        let done = sweep.sweep("submit", &["--local", "1", "--threads", "2"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        tables(&sweep.out)
    });
    assert!(tables.len() >= 6, "{:?}", tables.keys());
    tables.clone()
}

/// Written once.
static FILES: Mutex<()> = Mutex::new(());

fn run_file(documents: usize) -> PathBuf {
    let _written = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| {
        let text = fs::read_to_string(here.join("corpora/examples").join(name)).expect("embedded");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let text: Vec<char> = (read("emma.txt") + &read("moby-dick.txt")).chars().collect();
    let document = |number: usize| -> String {
        let first = number * 331 % (text.len() - 500);
        serde_json::json!({ "text": text[first..][..500].iter().collect::<String>() }).to_string()
    };
    let corpus = ROOT.path().join(format!("corpus-{documents}.jsonl"));
    let lines: Vec<String> = (0..documents).map(document).collect();
    let file = ROOT.path().join(format!("run-{documents}.toml"));
    if !file.exists() {
        fs::write(&corpus, lines.join("\n")).expect("written");
        let text = format!(
            "name = \"a book\"\nout = \"{0}/out\"\nmethods = [\"topctx\"]\n\
             [model]\npath = \"{1}/models/tiny-gpt2-en\"\n\
             [corpus]\nformat = \"jsonl\"\nfiles = [\"{2}\"]\nblock_bytes = 1024\n\
             [capture]\nsites = [\"layers.*.mlp_act\"]\n\
             [statistics]\nbins = 16\ntop = 5\nbottom = 2\nsample = 64\n\
             calibration_rows = 300\nbatch_tokens = 256\n[device]\ncommit_seconds = 0\n",
            ROOT.path().display(),
            here.display(),
            corpus.display()
        );
        fs::write(&file, text).expect("written");
    }
    file
}
