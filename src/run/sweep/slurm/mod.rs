//! A sweep as Slurm jobs: arrays of tasks, and a merge behind them. Files are written to be read and
//! changed by people (`files.rs`); what was submitted is known from the queue (`queue.rs`) and from a
//! record beside the files (`record.rs`), so that a task is in the queue once however often and
//! wherever a submission is interrupted. A task ends with a code that says whether to begin it again,
//! and asks for that itself (`again.rs`).

mod again;
mod ask;
mod files;
mod queue;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;

pub use self::again::queue_again;
use self::ask::{ask, ask_holding};
use self::files::{Asked, array_text, merge_text};
use self::queue::Queued;
use self::record::{Desk, Entry, list_of};
use super::config::SlurmConfig;
use super::plan::{Folder, SweepPlan};
use super::status::{Status, status};
use crate::artifact::atomic::write_bytes_atomic;
use crate::disk::{self, File};
use crate::error::{Error, Result};

/// Tasks of an array where the cluster does not say.
const ARRAY: usize = 1001;
/// Exit code of a task whose device is at fault.
const DEVICE: u8 = 76;

/// Jobs of a submission.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    /// Files of arrays, in order, and the merge's last; no merge where one is in the queue.
    pub files: Vec<PathBuf>,
    /// Their job numbers; none of a dry run.
    pub jobs: Vec<String>,
    /// Tasks in them.
    pub tasks: usize,
    /// Tasks that are in the queue from before.
    pub queued: usize,
    /// Nodes that are left out, because a device of theirs was at fault.
    pub left_out: Vec<String>,
}

/// What the cluster calls the jobs of a sweep.
pub fn job_name(plan: &SweepPlan) -> String {
    format!("electrode-{}", &plan.sweep_id[..12])
}

/// Writes job files for every task that is neither done nor in the queue and, unless this is a
/// rehearsal, submits them, with a merge behind everything that is in the queue then. It may be killed
/// at any moment and called again.
pub fn submit(
    (plan, out): (&SweepPlan, &Path),
    slurm: &SlurmConfig,
    dry_run: bool,
) -> Result<Submission> {
    let out = &resolved(out)?;
    let logs = Folder(out).logs();
    disk::create_dir_all(&logs).map_err(Error::io(&logs, "create"))?;
    let desk = Desk::open(&Folder(out).jobs())?;
    // The queue before the disk: what leaves the queue in between is seen to be done.
    let queue = if dry_run { Vec::new() } else { queue::live(plan, out)? };
    let status = status(plan, out)?;
    if let Some(job) = queue.iter().find(|job| !job.is_merge() && job.task.is_none()) {
        let what = format!("nobody knows the task of {job}: its list is gone");
        let remedy = "take the jobs off the queue with `electrode sweep cancel`";
        return Err(Error::config(Folder(out).jobs().display().to_string(), what, remedy));
    }
    let busy: BTreeSet<usize> = queue.iter().filter_map(|job| job.task).collect();
    let mut missing = status.missing();
    missing.retain(|task| !busy.contains(task));
    let left_out = sick_nodes(&status, if dry_run { None } else { queue::nodes() });
    let asked = Asked { plan, out, slurm, program: &files::program(slurm)?, left_out: &left_out };
    let mut submission =
        Submission { tasks: missing.len(), queued: busy.len(), ..Submission::default() };
    if dry_run {
        rehearse(&asked, &desk, &missing, &mut submission)?;
    } else {
        hand_in(&asked, desk, (&queue, &missing), &mut submission)?;
    }
    submission.left_out = left_out;
    Ok(submission)
}

/// Job files alone.
fn rehearse(
    asked: &Asked<'_>,
    desk: &Desk,
    missing: &[usize],
    submission: &mut Submission,
) -> Result<()> {
    for (number, tasks) in missing.chunks(ARRAY - 1).enumerate() {
        submission.files.push(write_array(asked, desk.next() + number, tasks)?);
    }
    submission.files.push(write_merge(asked)?);
    Ok(())
}

/// Job files, and their submission. The record says what will be submitted before it is, so that the
/// list of a job in the queue is never written over.
fn hand_in(
    asked: &Asked<'_>,
    mut desk: Desk,
    (queue, missing): (&[Queued], &[usize]),
    submission: &mut Submission,
) -> Result<()> {
    let mut merges: Vec<&Queued> = queue.iter().filter(|job| job.is_merge()).collect();
    if !missing.is_empty() {
        // First of all: a merge that waits would not wait for what comes now.
        for merge in merges.extract_if(.., |merge| merge.state == "PENDING") {
            ask("scancel", &[&merge.job])?;
        }
    }
    for tasks in missing.chunks(largest_array().max(2) - 1) {
        let number = desk.next();
        let file = write_array(asked, number, tasks)?;
        desk.intend(Entry { file: files::stem(number), tasks: tasks.len(), job: None })?;
        let job = sbatch(&file, &[], desk.lock())?;
        desk.submitted(&job)?;
        submission.jobs.push(job);
        submission.files.push(file);
    }
    if missing.is_empty() && !merges.is_empty() {
        return Ok(());
    }
    // Behind everything, however it ends: it sees for itself whether anything is missing.
    let before = queue.iter().filter(|job| !job.is_merge()).chain(merges);
    let mut before: BTreeSet<&str> = before.map(Queued::array).collect();
    before.extend(submission.jobs.iter().map(String::as_str));
    let before: Vec<&str> = before.into_iter().collect();
    let after = (!before.is_empty()).then(|| format!("--dependency=afterany:{}", before.join(":")));
    let file = write_merge(asked)?;
    submission.jobs.push(sbatch(&file, after.as_slice(), desk.lock())?);
    submission.files.push(file);
    Ok(())
}

fn write_array(asked: &Asked<'_>, number: usize, tasks: &[usize]) -> Result<PathBuf> {
    let file = Folder(asked.out).jobs().join(format!("{}.sbatch", files::stem(number)));
    let list = list_of(&file);
    let lines: String = tasks.iter().map(|task| format!("{task}\n")).collect();
    write_bytes_atomic(&list, lines.as_bytes())?;
    write_bytes_atomic(&file, array_text(asked, (&list, tasks.len())).as_bytes())?;
    Ok(file)
}

fn write_merge(asked: &Asked<'_>) -> Result<PathBuf> {
    let file = Folder(asked.out).jobs().join("merge.sbatch");
    write_bytes_atomic(&file, merge_text(asked).as_bytes())?;
    Ok(file)
}

/// Nodes whose last attempt ended with a device at fault, of those that the cluster has.
fn sick_nodes(status: &Status, known: Option<BTreeSet<String>>) -> Vec<String> {
    let mut last: BTreeMap<&str, (&str, u8)> = BTreeMap::new();
    for attempt in status.tasks.iter().flat_map(|task| &task.attempts) {
        // One that found nothing to do says nothing of the device.
        if attempt.exit == DEVICE || attempt.blocks > 0 {
            let seen = last.entry(&attempt.node).or_insert((&attempt.start, attempt.exit));
            *seen = (*seen).max((&attempt.start, attempt.exit));
        }
    }
    let named = |node: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let here = known.as_ref().is_none_or(|known| known.contains(node));
        here && !node.is_empty() && node.chars().all(allowed)
    };
    let sick = last.into_iter().filter(|(node, (_, exit))| *exit == DEVICE && named(node));
    sick.map(|(node, _)| node.to_owned()).collect()
}

/// Jobs of a sweep that are waiting or running, as the cluster lists them.
pub fn queued(plan: &SweepPlan, out: &Path) -> Result<Vec<String>> {
    let jobs = queue::live(plan, &resolved(out)?)?;
    Ok(jobs.iter().map(ToString::to_string).collect())
}

/// What the cluster remembers of tasks that are not done, whose last job has ended, and that left no
/// record of their own: killed, out of memory, taken off the queue. A line for each.
pub fn explain((plan, out): (&SweepPlan, &Path), status: &Status) -> Result<Vec<String>> {
    let ended = queue::ended(plan, &resolved(out)?)?;
    let silent = status.tasks.iter().filter(|task| !task.is_done() && task.failure().is_none());
    let line = |task: &super::TaskStatus| Some(ended.get(&task.task)?.to_string());
    Ok(silent.filter_map(line).collect())
}

/// Takes every job of a sweep off the queue; what tasks have put on the disk stays. Gives how many jobs
/// that were.
pub fn cancel(plan: &SweepPlan, out: &Path) -> Result<usize> {
    let out = resolved(out)?;
    let _desk = Desk::open(&Folder(&out).jobs())?;
    let jobs = queue::live(plan, &out)?;
    // The merge first: it would run as soon as the others are gone.
    let (merges, tasks): (Vec<_>, Vec<_>) = jobs.iter().partition(|job| job.is_merge());
    for some in [merges, tasks] {
        let arrays: BTreeSet<&str> = some.into_iter().map(Queued::array).collect();
        if !arrays.is_empty() {
            ask("scancel", &arrays.into_iter().collect::<Vec<_>>())?;
        }
    }
    Ok(jobs.len())
}

/// The folder as job files name it. A line break in it would be one in them, and Slurm reads a
/// backslash in its own way.
fn resolved(out: &Path) -> Result<PathBuf> {
    let path = std::fs::canonicalize(out).map_err(Error::io(out, "read"))?;
    let odd = |path: &str| path.chars().any(|c| c.is_control() || c == '\\');
    if path.to_str().is_none_or(odd) {
        let what = "its path cannot stand in a job file";
        let remedy = "choose a folder without control characters and backslashes";
        return Err(Error::config(path.display().to_string(), what, remedy));
    }
    Ok(path)
}

/// Tasks that an array may have: its largest index is one below `MaxArraySize`.
fn largest_array() -> usize {
    let shown = ask("scontrol", &["show", "config"]).unwrap_or_default();
    let line = shown.lines().find(|line| line.trim_start().starts_with("MaxArraySize"));
    let size = line.and_then(|line| line.split('=').nth(1)?.trim().parse().ok());
    size.unwrap_or(ARRAY)
}

/// Submits a file. The command holds the lock as well, for it may outlive a submitter that is killed.
fn sbatch(file: &Path, more: &[String], lock: &File) -> Result<String> {
    let path = file.display().to_string();
    let mut arguments = vec!["--parsable"];
    arguments.extend(more.iter().map(String::as_str));
    arguments.push(&path);
    let held = lock.try_clone().map_err(Error::io(file, "lock"))?;
    let text = ask_holding("sbatch", &arguments, Stdio::from(held.into_std()))?;
    // JOB, or JOB;CLUSTER.
    Ok(text.trim().split(';').next().unwrap_or_default().to_owned())
}
