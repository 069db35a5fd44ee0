//! How far a sweep is, from what its tasks have put on the disk. A cluster's own records only explain
//! what has none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::merge::ranges;
use super::plan::{Folder, SweepPlan, id_bytes};
use super::work::{Attempt, claimed};
use crate::disk;
use crate::engine::segment_reader::load_folder;
use crate::error::Result;
use crate::run::metrics::{INTERVAL, METRICS, Sample, last_sample};

/// An attempt that wrote no metrics for so long is not at work: six of its lines are missing.
pub const FRESH: Duration = INTERVAL.saturating_mul(6);
/// Ended attempts that tell how long a block takes now.
const RECENT: usize = 16;

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
    /// Its blocks that are not on the disk.
    pub missing: Vec<u32>,
    /// Attempts that have ended, first to last.
    pub attempts: Vec<Attempt>,
    /// The last lines of the attempts that are at work.
    pub working: Vec<Sample>,
    /// Joules that all of its attempts have used, where NVML tells them.
    pub energy_joules: f64,
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

    /// Its missing blocks as `3-7, 12`, the first of them.
    pub fn missing_ranges(&self) -> String {
        ranges(&self.missing)
    }

    /// `done`, `working`, `failed`, or `waiting` for what has none of them.
    pub fn state(&self) -> &'static str {
        match () {
            () if self.is_done() => "done",
            () if !self.working.is_empty() => "working",
            () if self.failure().is_some() => "failed",
            () => "waiting",
        }
    }
}

/// The states of [`TaskStatus::state`].
pub const STATES: [&str; 4] = ["done", "working", "failed", "waiting"];

/// What a machine does for a sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodeStatus {
    /// Attempts at work there now.
    pub working: usize,
    /// Their tokens per second, over their last interval.
    pub tokens_per_second: f64,
    /// Attempts that ended there.
    pub ended: usize,
    /// Tokens per second over all that ended, start and calibration included.
    pub mean_tokens_per_second: f64,
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

    /// Tasks that somebody works on now.
    pub fn working(&self) -> usize {
        self.tasks.iter().filter(|task| !task.working.is_empty()).count()
    }

    /// Joules used, where NVML tells them.
    pub fn energy_joules(&self) -> f64 {
        self.tasks.iter().map(|task| task.energy_joules).sum()
    }

    /// Tasks in each of [`STATES`], in that order.
    pub fn by_state(&self) -> [usize; STATES.len()] {
        STATES.map(|state| self.tasks.iter().filter(|task| task.state() == state).count())
    }

    /// Ended attempts by exit code.
    pub fn by_exit(&self) -> BTreeMap<u8, usize> {
        let mut exits = BTreeMap::new();
        for attempt in self.tasks.iter().flat_map(|task| &task.attempts) {
            *exits.entry(attempt.exit).or_default() += 1;
        }
        exits
    }

    /// Seconds of one attempt for a block, as of late: of those at work now, and of the 16 that ended
    /// last. None before the first block.
    pub fn seconds_per_block(&self) -> Option<f64> {
        let mut ended: Vec<&Attempt> = self
            .tasks
            .iter()
            .flat_map(|task| &task.attempts)
            .filter(|one| one.blocks > 0)
            .collect();
        ended.sort_by(|a, b| b.start.cmp(&a.start));
        let ended = ended.into_iter().take(RECENT);
        let ended = ended.map(|attempt| (attempt.seconds, f64::from(attempt.blocks)));
        let working = self.tasks.iter().flat_map(|task| &task.working);
        let working = working.map(|sample| (sample.seconds, sample.attempt_blocks));
        // One that has only just begun tells how long it takes to begin.
        let working = working.filter(|(_, blocks)| *blocks >= 1.0);
        let (seconds, blocks) =
            ended.chain(working).fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (blocks > 0.0).then(|| seconds / blocks)
    }

    /// Blocks that nobody has done yet, not even in part.
    pub fn blocks_left(&self) -> f64 {
        let left = |task: &TaskStatus| {
            let begun = task.working.iter().map(|sample| sample.blocks_done);
            f64::from(task.blocks) - begun.fold(f64::from(task.done), f64::max)
        };
        let open = self.tasks.iter().filter(|task| !task.is_done());
        // The sum of nothing is -0.
        open.map(|task| left(task).max(0.0)).fold(0.0, |sum, left| sum + left)
    }

    /// Seconds until all blocks are done, if as many attempts stay at work as are now. None while
    /// nobody works, and before the first block.
    pub fn seconds_left(&self) -> Option<f64> {
        let working = self.working();
        match (working, self.blocks_left()) {
            (0, _) => None,
            (working, left) => Some(self.seconds_per_block()? * left / working as f64),
        }
    }

    /// What each machine does.
    pub fn nodes(&self) -> BTreeMap<&str, NodeStatus> {
        let mut nodes: BTreeMap<&str, NodeStatus> = BTreeMap::new();
        let mut ended: BTreeMap<&str, (f64, u64)> = BTreeMap::new();
        for sample in self.tasks.iter().flat_map(|task| &task.working) {
            let node = nodes.entry(&sample.node).or_default();
            node.working += 1;
            node.tokens_per_second += sample.tokens_per_second;
        }
        for attempt in self.tasks.iter().flat_map(|task| &task.attempts) {
            let (seconds, tokens) = ended.entry(&attempt.node).or_default();
            *seconds += attempt.seconds;
            *tokens += attempt.tokens;
            let node = nodes.entry(&attempt.node).or_default();
            node.ended += 1;
            node.mean_tokens_per_second =
                if *seconds > 0.0 { *tokens as f64 / *seconds } else { 0.0 };
        }
        nodes
    }
}

/// Reads what every task has on the disk.
pub fn status(plan: &SweepPlan, out: &Path) -> Result<Status> {
    status_of((plan, out), 0..plan.tasks.len())
}

/// Reads what some tasks have on the disk; numbers that no task has are left out.
pub fn status_of(
    (plan, out): (&SweepPlan, &Path),
    tasks: impl IntoIterator<Item = usize>,
) -> Result<Status> {
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
            missing: (task.first..task.end).collect(),
            attempts: Vec::new(),
            working: Vec::new(),
            energy_joules: 0.0,
        };
        let path = folder.task(plan, number);
        watch(&path, &mut status);
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
        status.missing.retain(|block| !blocks.contains(&u64::from(*block)));
        Ok(status)
    };
    let tasks = tasks.into_iter().filter(|task| *task < plan.tasks.len());
    Ok(Status { tasks: tasks.map(of).collect::<Result<_>>()? })
}

/// What attempts say of themselves. One that was killed said nothing when it ended, and a damaged
/// note is none.
fn watch(folder: &Path, status: &mut TaskStatus) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().ok();
    let names: BTreeSet<String> =
        entries.filter_map(name).filter(|name| name.starts_with("attempt-")).collect();
    let ended = names.iter().filter(|name| name.ends_with(".json"));
    let read = ended.filter_map(|name| disk::read(folder.join(name)).ok());
    status.attempts = read.filter_map(|bytes| serde_json::from_slice(&bytes).ok()).collect();
    status.attempts.sort_by(|a: &Attempt, b| a.start.cmp(&b.start));
    for name in &names {
        let Some(attempt) = name.strip_suffix(METRICS) else { continue };
        let Some((sample, age)) = last_sample(&folder.join(name)) else { continue };
        let used = sample.gpus.iter().filter_map(|gpu| gpu.energy_joules);
        status.energy_joules += used.sum::<f64>();
        let ended = sample.stage == "ended" || names.contains(&format!("{attempt}json"));
        if !ended && age < FRESH {
            status.working.push(sample);
        }
    }
}
