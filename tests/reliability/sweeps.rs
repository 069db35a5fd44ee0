//! A small sweep with the real program.
//! Oracle: itself, undisturbed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::{Bench, Finished, electrode, finish, snapshot};
use crate::states::segments;

/// Two points in one pass, over few sentences.
pub(crate) struct Small {
    pub(crate) bench: Bench,
}

impl Small {
    /// With its plan written.
    pub(crate) fn planned() -> Self {
        let small = Self { bench: Bench::new(160) };
        small.write_file("");
        let done = small.sweep(&["plan", &small.file().display().to_string()]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        small
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.bench.path("sweep.toml")
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.bench.path("sweep")
    }

    /// Writes the sweep file, with more lines at its end.
    pub(crate) fn write_file(&self, more: &str) {
        let text = format!(
            r#"name = "tiny"
out = "{out}"
run = "{run}"
task_blocks = 2
[[axis]]
key = "methods"
values = [["probeless"], ["auroc"]]
names = ["probeless", "auroc"]
{more}
"#,
            out = self.out().display(),
            run = self.bench.path("run.toml").display(),
        );
        fs::write(self.file(), text).expect("written");
    }

    pub(crate) fn sweep(&self, arguments: &[&str]) -> Finished {
        finish(electrode().arg("sweep").args(arguments))
    }

    /// `electrode sweep COMMAND` on its folder.
    pub(crate) fn command(&self, command: &str) -> Command {
        let mut program = electrode();
        program.args(["sweep", command]).arg(self.out());
        program
    }

    pub(crate) fn run_task(&self, task: usize) {
        let done = finish(self.command("task").arg(task.to_string()));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }

    /// All tasks and the merge.
    pub(crate) fn done() -> Self {
        let small = Self::planned();
        let done = finish(small.command("submit").args(["--local", "2"]));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        small
    }

    /// The tables of its points, by path.
    pub(crate) fn tables(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = snapshot(&self.out().join("points"));
        files.retain(|path, _| path.extension().is_some_and(|suffix| suffix == "parquet"));
        files
    }

    /// Takes away what the merge made.
    pub(crate) fn unmerge(&self) {
        for name in ["points", "data", "passes/0000/merged"] {
            let path = self.out().join(name);
            if path.exists() {
                fs::remove_dir_all(path).expect("removed");
            }
        }
    }

    /// The segments of its tasks.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        segments(&self.out().join("passes/0000/tasks"))
    }
}

/// A task's states gone or damaged: no table of any point, whatever was there before.
#[test]
fn no_table_without_all_blocks() {
    let small = Small::done();
    let want = small.tables();
    assert!(want.len() >= 6, "{} tables", want.len());
    for (at, path) in small.segments().into_iter().enumerate() {
        small.unmerge();
        let whole = fs::read(&path).expect("it is there");
        match at % 3 {
            0 => fs::remove_file(&path).expect("removed"),
            1 => fs::write(&path, &whole[..whole.len() / 2]).expect("written"),
            _ => {
                let mut bytes = whole.clone();
                bytes[whole.len() / 2] ^= 4;
                fs::write(&path, bytes).expect("written");
            }
        }
        let done = finish(&mut small.command("merge"));
        assert_eq!(done.code, Some(75), "{}", done.stderr);
        assert!(!small.out().join("points").exists(), "a table without all blocks");
        assert!(!small.out().join("data").exists(), "a table without all blocks");
        fs::write(&path, whole).expect("put back");
    }
    small.unmerge();
    assert_eq!(finish(&mut small.command("merge")).code, Some(0));
    assert!(small.tables() == want, "other bits after the merge");
    strangers(&small.out().join("passes/0000/tasks/000000"), &small);
}

/// A segment of another run among those of a task.
fn strangers(task: &Path, small: &Small) {
    small.unmerge();
    electrode::engine::segment::SegmentWriter::create(task, [3; 32]).expect("made");
    let done = finish(&mut small.command("merge"));
    assert_eq!(done.code, Some(65), "{}", done.stderr);
    assert!(!small.out().join("points").exists(), "a table with a stranger's states");
}
