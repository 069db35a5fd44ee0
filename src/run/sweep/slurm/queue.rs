//! The jobs of a sweep as the cluster sees them. They are told apart by the files that they were
//! submitted from: the same plan may stand in two folders.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::ask::ask;
use super::files::MERGE;
use super::job_name;
use super::record::{Desk, tasks_of};
use crate::error::Result;
use crate::run::sweep::plan::{Folder, SweepPlan};

/// States that a job does not leave by itself.
const ENDED: [&str; 11] = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "SPECIAL_EXIT",
    "TIMEOUT",
];

/// A job of a sweep: one task of an array, or the merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    /// Its number: `JOB_INDEX`, or `JOB`.
    pub(super) job: String,
    /// In Slurm's words: `PENDING`, `RUNNING`.
    pub(super) state: String,
    /// Why it waits or how it ended, in Slurm's words; `None` where there is nothing to say.
    pub(super) reason: String,
    /// Its node; empty while it has none.
    pub(super) node: String,
    /// The task of the sweep; none of the merge, and where the list of tasks is gone.
    pub(super) task: Option<usize>,
    /// What it was submitted from.
    file: PathBuf,
}

impl Queued {
    /// Whether it merges.
    pub(super) fn is_merge(&self) -> bool {
        self.file.file_stem().is_some_and(|stem| stem == MERGE)
    }

    /// Number of the array that it is of.
    pub(super) fn array(&self) -> &str {
        self.job.split('_').next().unwrap_or_default()
    }

    /// The job in a line of `squeue`, if it was submitted from a file of this folder.
    fn parse(line: &str, jobs: &Path, lists: &mut Lists) -> Option<Self> {
        let mut fields = line.splitn(5, '|');
        let mut next = || fields.next().map(str::to_owned);
        let (job, state, reason, node, file) = (next()?, next()?, next()?, next()?, next()?);
        let file = PathBuf::from(file);
        if file.parent() != Some(jobs) {
            return None;
        }
        let index = job.split_once('_').and_then(|(_, index)| index.parse().ok());
        let task = index.and_then(|index| lists.task(&file, index));
        Some(Self { job, state, reason, node, task, file })
    }
}

impl fmt::Display for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.job, self.state)?;
        if !self.node.is_empty() {
            write!(f, " {}", self.node)?;
        }
        if !matches!(self.reason.as_str(), "None" | "") {
            write!(f, " ({})", self.reason)?;
        }
        match self.task {
            Some(task) => write!(f, ", task {task}"),
            None if self.is_merge() => write!(f, ", the merge"),
            None => Ok(()),
        }
    }
}

/// Lists of tasks that have been read.
#[derive(Default)]
struct Lists(BTreeMap<PathBuf, Vec<usize>>);

impl Lists {
    fn task(&mut self, file: &Path, index: usize) -> Option<usize> {
        let tasks = self.0.entry(file.to_path_buf()).or_insert_with(|| tasks_of(file));
        tasks.get(index).copied()
    }
}

/// Jobs that wait or run.
pub(super) fn live(plan: &SweepPlan, out: &Path) -> Result<Vec<Queued>> {
    listed(plan, out, &[])
}

/// What is remembered of the last job of each task, if that has ended: by the controller for some
/// minutes, and longer where there is accounting.
pub(super) fn ended(plan: &SweepPlan, out: &Path) -> Result<BTreeMap<usize, Queued>> {
    let jobs = listed(plan, out, &["--states", "all"])?;
    let mut last: BTreeMap<usize, Queued> = BTreeMap::new();
    for job in accounted(out).into_iter().chain(jobs) {
        let Some(task) = job.task else { continue };
        let later = last.get(&task).is_none_or(|known| order(known) <= order(&job));
        if later {
            last.insert(task, job);
        }
    }
    last.retain(|_, job| ENDED.contains(&job.state.as_str()));
    Ok(last)
}

/// Files are numbered as they are submitted.
fn order(job: &Queued) -> (usize, &Path) {
    (job.file.as_os_str().len(), &job.file)
}

fn listed(plan: &SweepPlan, out: &Path, more: &[&str]) -> Result<Vec<Queued>> {
    let name = job_name(plan);
    let names = format!("{name},{name}-merge");
    let mut asked = vec!["--noheader", "--array", "--name", &names];
    asked.extend(more);
    // The file last: its path may hold anything.
    asked.extend(["--format", "%i|%T|%r|%N|%o"]);
    let text = ask("squeue", &asked)?;
    let (jobs, mut lists) = (Folder(out).jobs(), Lists::default());
    Ok(text.lines().filter_map(|line| Queued::parse(line, &jobs, &mut lists)).collect())
}

/// What the accounting says of the arrays in the record; nothing where there is none.
fn accounted(out: &Path) -> Vec<Queued> {
    let jobs = Folder(out).jobs();
    let Ok(entries) = Desk::entries(&jobs) else { return Vec::new() };
    let files: BTreeMap<String, PathBuf> = entries
        .into_iter()
        .filter_map(|entry| Some((entry.job?, jobs.join(entry.file).with_extension("sbatch"))))
        .collect();
    if files.is_empty() {
        return Vec::new();
    }
    let numbers = files.keys().map(String::as_str).collect::<Vec<_>>().join(",");
    let asked = ["--noheader", "--parsable2", "--allocations", "--jobs", &numbers];
    let format = ["--format", "JobID,State,ExitCode,NodeList"];
    let Ok(text) = ask("sacct", &[&asked[..], &format[..]].concat()) else { return Vec::new() };
    let mut lists = Lists::default();
    let line = |line: &str| {
        let fields: Vec<&str> = line.split('|').collect();
        let [job, state, exit, node] = fields[..] else { return None };
        let file = files.get(job.split('_').next()?)?;
        // CANCELLED by 1000.
        let state = state.split(' ').next()?;
        let reason = format!("exit {exit}");
        let line = format!("{job}|{state}|{reason}|{node}|{}", file.display());
        Queued::parse(&line, &jobs, &mut lists)
    };
    text.lines().filter_map(line).collect()
}

/// Names of the cluster's nodes; none where it does not say.
pub(super) fn nodes() -> Option<BTreeSet<String>> {
    let text = ask("sinfo", &["--noheader", "--Node", "--format", "%N"]).ok()?;
    let nodes: BTreeSet<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    (!nodes.is_empty()).then_some(nodes)
}

#[cfg(test)]
mod tests {
    //! Oracle: lines as Slurm 22.05 gave them.

    use super::*;

    #[test]
    fn jobs_are_told_apart_by_their_files() {
        let jobs = Path::new("/data/a|b c/jobs");
        let mut lists = Lists::default();
        lists.0.insert(jobs.join("array-001.sbatch"), vec![5, 8]);
        let mut parse = |line: &str| Queued::parse(line, jobs, &mut lists);
        let job = parse("7_1|PENDING|JobHeldUser||/data/a|b c/jobs/array-001.sbatch").unwrap();
        assert_eq!((job.task, job.array(), job.is_merge()), (Some(8), "7", false));
        assert_eq!(job.to_string(), "7_1 PENDING (JobHeldUser), task 8");
        let merge = parse("9|RUNNING|None|n2|/data/a|b c/jobs/merge.sbatch").unwrap();
        assert_eq!((merge.task, merge.array(), merge.is_merge()), (None, "9", true));
        assert_eq!(merge.to_string(), "9 RUNNING n2, the merge");
        assert_eq!(parse("9|RUNNING|None|n2|/data/other/jobs/merge.sbatch"), None);
        assert_eq!(parse("squeue: error: no such thing"), None);
        assert_eq!(
            parse("7_2|PENDING|None||/data/a|b c/jobs/array-001.sbatch").unwrap().task,
            None
        );
    }
}
