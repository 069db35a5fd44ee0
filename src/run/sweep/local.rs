//! The tasks of a sweep on this machine: as many programs at a time as asked, each a task of a job.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::plan::{Folder, SweepPlan};
use super::status::{status, status_of};
use crate::disk;
use crate::error::{Error, Result};
use crate::run::Report;

/// Between two looks at the programs.
const LOOK: Duration = Duration::from_millis(50);
/// How often a task that made no progress is begun again.
const TRIES: u32 = 3;

/// How tasks are run here.
#[derive(Clone, Debug)]
pub struct Local {
    /// Programs at a time.
    pub slots: usize,
    /// CPU threads of each.
    pub threads: usize,
    /// The device of each slot; of none, what the run files say.
    pub devices: Vec<String>,
}

/// A program at work.
struct Running {
    task: usize,
    slot: usize,
    child: Child,
    /// Blocks that were done when it began.
    before: u64,
}

/// Runs every task that is not done. One that ends unfinished or on a failing device begins again as
/// long as it gets further; the others go on whatever becomes of it.
pub fn run_here(
    (plan, out): (&SweepPlan, &Path),
    local: &Local,
    (stop, report): (&AtomicBool, Report<'_>),
) -> Result<()> {
    let logs = Folder(out).logs();
    disk::create_dir_all(&logs).map_err(Error::io(&logs, "create"))?;
    let mut waiting: Vec<(usize, u32)> =
        status(plan, out)?.missing().into_iter().rev().map(|task| (task, 0)).collect();
    let all = waiting.len().max(1);
    let mut free: Vec<usize> = (0..local.slots.max(1)).rev().collect();
    let (mut running, mut failed): (Vec<(Running, u32)>, Vec<String>) = (Vec::new(), Vec::new());
    let mut told = false;
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        while !stopped && !free.is_empty() && !waiting.is_empty() {
            let (slot, (task, tries)) =
                (free.pop().expect("just seen"), waiting.pop().expect("just seen"));
            running.push((start((plan, out), local, (task, slot))?, tries));
        }
        if stopped && !told {
            running.iter().for_each(|(one, _)| tell_to_end(&one.child));
            told = true;
        }
        if running.is_empty() {
            break;
        }
        std::thread::sleep(LOOK);
        let mut still = Vec::new();
        for (mut one, tries) in running {
            let ended = one.child.try_wait().map_err(Error::io("a task", "wait for"))?;
            let Some(code) = ended else {
                still.push((one, tries));
                continue;
            };
            free.push(one.slot);
            if code.success() || stopped {
                continue;
            }
            let now = done(plan, out, one.task)?;
            let tries = if now > one.before { 0 } else { tries + 1 };
            match code.code() {
                Some(75 | 76) | None if tries < TRIES => waiting.push((one.task, tries)),
                _ => failed.push(format!(
                    "task {} ended with {code}, see {}",
                    one.task,
                    log_of(out, one.task).display()
                )),
            }
        }
        running = still;
        let left = waiting.len() + running.len();
        report("running tasks", 0, 1.0 - left as f64 / all as f64);
    }
    match (failed.is_empty(), stop.load(Ordering::Relaxed)) {
        (true, false) => Ok(()),
        (true, true) => Err(Error::Unfinished { what: "stopped by a signal".into() }),
        (false, _) => Err(Error::Unfinished { what: failed.join("; ") }),
    }
}

fn done(plan: &SweepPlan, out: &Path, task: usize) -> Result<u64> {
    Ok(status_of((plan, out), [task])?.blocks().0)
}

fn log_of(out: &Path, task: usize) -> std::path::PathBuf {
    Folder(out).logs().join(format!("task-{task:06}.log"))
}

fn start(
    (plan, out): (&SweepPlan, &Path),
    local: &Local,
    (task, slot): (usize, usize),
) -> Result<Running> {
    let program = std::env::current_exe().map_err(Error::io("this program", "find"))?;
    let log = log_of(out, task);
    let file = disk::File::append(&log).map_err(Error::io(&log, "create"))?.into_std();
    let mut command = Command::new(&program);
    command.args(["sweep", "task"]).arg(out).arg(task.to_string());
    command.args(["--threads", &local.threads.max(1).to_string()]);
    if let Some(device) = local.devices.get(slot % local.devices.len().max(1)) {
        command.args(["--device", device]);
    }
    let errors = file.try_clone().map_err(Error::io(&log, "create"))?;
    command.stdin(Stdio::null()).stdout(file).stderr(errors);
    let child = command.spawn().map_err(Error::io(&program, "start"))?;
    Ok(Running { task, slot, child, before: done(plan, out, task)? })
}

/// TERM, so that it puts its blocks on the disk.
fn tell_to_end(child: &Child) {
    let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    if let Err(error) = told {
        tracing::warn!(%error, "a task could not be told to end");
    }
}
