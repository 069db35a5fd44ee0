//! How far a sweep is, from what its tasks have put on the disk. A cluster's own records only explain
//! what has none.

use std::collections::BTreeSet;
use std::path::Path;

use super::plan::{Folder, SweepPlan, id_bytes};
use super::work::{Attempt, claimed};
use crate::engine::segment_reader::load_folder;
use crate::error::Result;

/// One task.
#[derive(Clone, Debug)]
pub struct TaskStatus {
    /// Its number.
    pub task: usize,
    /// Blocks it has, and those on the disk.
    pub blocks: u32,
    /// See `blocks`.
    pub done: u32,
    /// Tokens of those.
    pub tokens: u64,
    /// Attempts that have ended, first to last.
    pub attempts: Vec<Attempt>,
}

impl TaskStatus {
    /// Whether all of its blocks are on the disk.
    pub fn is_done(&self) -> bool {
        self.done == self.blocks
    }

    /// The last attempt that ended other than by finishing or by being told to stop.
    pub fn failure(&self) -> Option<&Attempt> {
        let last = self.attempts.last()?;
        (!self.is_done() && !matches!(last.exit, 0 | 75)).then_some(last)
    }
}

/// All tasks.
#[derive(Clone, Debug)]
pub struct Status {
    /// In the order of the plan.
    pub tasks: Vec<TaskStatus>,
}

impl Status {
    /// Blocks on the disk, and all of them.
    pub fn blocks(&self) -> (u64, u64) {
        let sum = |of: fn(&TaskStatus) -> u32| self.tasks.iter().map(|t| u64::from(of(t))).sum();
        (sum(|task| task.done), sum(|task| task.blocks))
    }

    /// Tokens on the disk.
    pub fn tokens(&self) -> u64 {
        self.tasks.iter().map(|task| task.tokens).sum()
    }

    /// Numbers of the tasks that are not done.
    pub fn missing(&self) -> Vec<usize> {
        self.tasks.iter().filter(|task| !task.is_done()).map(|task| task.task).collect()
    }

    /// Seconds that ended attempts took for a block, over all tasks; none before the first.
    pub fn seconds_per_block(&self) -> Option<f64> {
        let attempts = || self.tasks.iter().flat_map(|task| &task.attempts);
        let blocks: u32 = attempts().map(|attempt| attempt.blocks).sum();
        let seconds: f64 = attempts().map(|attempt| attempt.seconds).sum();
        (blocks > 0).then(|| seconds / f64::from(blocks))
    }
}

/// Reads what every task has on the disk.
pub fn status(plan: &SweepPlan, out: &Path) -> Result<Status> {
    let folder = Folder(out);
    let ids: Vec<Option<String>> =
        (0..plan.passes.len()).map(|pass| claimed(&folder.pass(pass))).collect::<Result<_>>()?;
    let of = |number: usize| {
        let task = plan.tasks[number];
        let mut status = TaskStatus {
            task: number,
            blocks: task.end - task.first,
            done: 0,
            tokens: 0,
            attempts: Vec::new(),
        };
        let path = folder.task(plan, number);
        let id = ids[task.pass].as_deref().and_then(id_bytes);
        let Some(id) = id.filter(|_| path.exists()) else { return Ok(status) };
        let mut blocks = BTreeSet::new();
        for node in load_folder(&path, id)?.nodes {
            blocks.extend(
                node.node
                    .blocks()
                    .filter(|&b| (u64::from(task.first)..u64::from(task.end)).contains(&b)),
            );
            status.tokens += node.counts.tokens;
        }
        status.done = u32::try_from(blocks.len()).expect("blocks are u32");
        status.attempts = attempts(&path);
        Ok(status)
    };
    Ok(Status { tasks: (0..plan.tasks.len()).map(of).collect::<Result<_>>()? })
}

/// What attempts said when they ended. One that was killed said nothing, and a damaged note is none.
fn attempts(folder: &Path) -> Vec<Attempt> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("attempt-") && name.ends_with(".json")
    });
    let read = named.filter_map(|entry| std::fs::read(entry.path()).ok());
    let mut attempts: Vec<Attempt> =
        read.filter_map(|bytes| serde_json::from_slice(&bytes).ok()).collect();
    attempts.sort_by(|a, b| a.start.cmp(&b.start));
    attempts
}
