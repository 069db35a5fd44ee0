//! One task of a sweep: some blocks of a pass, put on the disk as they are done. Any number of
//! attempts may work on a task at a time, each in files of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::plan::{Folder, SweepPlan};
use crate::artifact::manifest::write_json_atomic;
use crate::corpus::stream::BlockStream;
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::pass::{PassProgress, run_pass};
use crate::engine::states::States;
use crate::error::{Error, Result};
use crate::hash::hex;
use crate::id::Site;
use crate::run::devices::{self, Devices};
use crate::run::{Prepared, Report, pass_plan};

/// Says which kind of device a pass is read on: those of two kinds round differently.
const KIND: &str = "kind.json";

/// What an attempt says of itself when it ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// Wall clock, for people.
    pub start: String,
    /// How long it took.
    pub seconds: f64,
    /// Tokens of the blocks that it did.
    pub tokens: u64,
    /// Blocks that it did.
    pub blocks: u32,
    /// The machine: its node in a cluster, else its host.
    pub node: String,
    /// What it ran on.
    pub devices: Vec<String>,
    /// Exit code it ended with.
    pub exit: u8,
    /// What went wrong.
    pub error: Option<String>,
}

#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Kind {
    run_id: String,
    kind: Option<String>,
}

/// Does what is left of a task; gives how many blocks that was.
pub fn work(
    (plan, out): (&SweepPlan, &Path),
    task: usize,
    device: Option<&str>,
    (stop, report): (&AtomicBool, Report<'_>),
) -> Result<u32> {
    if task >= plan.tasks.len() {
        let what = format!("no task {task}; there are {}", plan.tasks.len());
        return Err(Error::config("task", what, "`electrode sweep status` lists them"));
    }
    let folder = Folder(out).task(plan, task);
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
    let (clock, start) = (Instant::now(), crate::artifact::machine::utc_now());
    let mut attempt = Attempt {
        start,
        seconds: 0.0,
        tokens: 0,
        blocks: 0,
        node: node(),
        devices: Vec::new(),
        exit: 0,
        error: None,
    };
    let ended = try_work((plan, out), task, device, (stop, report, &mut attempt));
    attempt.seconds = clock.elapsed().as_secs_f64();
    if let Err(error) = &ended {
        attempt.exit = error.exit_code();
        attempt.error = Some(error.to_string());
    }
    let name = format!("attempt-{:016x}.json", unique());
    let kept = write_json_atomic(&folder.join(name), &attempt);
    ended.and(kept)?;
    Ok(attempt.blocks)
}

/// The node's own name under Slurm, where several may share a host.
fn node() -> String {
    let named = ["SLURMD_NODENAME", "HOSTNAME"].iter().find_map(|name| std::env::var(name).ok());
    named
        .or_else(|| Some(std::fs::read_to_string("/etc/hostname").ok()?.trim().to_owned()))
        .unwrap_or_default()
}

/// For a file name: no two attempts share it.
fn unique() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}

fn try_work(
    (plan, out): (&SweepPlan, &Path),
    task: usize,
    device: Option<&str>,
    (stop, report, attempt): (&AtomicBool, Report<'_>, &mut Attempt),
) -> Result<()> {
    let prepared = plan.prepare(plan.tasks[task].pass, device)?;
    claim_kind(&prepared, &Folder(out).pass(plan.tasks[task].pass))?;
    attempt.devices = prepared.devices.facts().into_iter().map(|device| device.name).collect();
    let asked = (plan, task, Folder(out).task(plan, task));
    match &prepared.devices {
        Devices::Cpu => on(&prepared, asked, vec![devices::cpu()], (stop, report, attempt)),
        Devices::Cuda(found) => {
            let slots = devices::gpus(found, prepared.config.model.dtype);
            on(&prepared, asked, slots, (stop, report, attempt))
        }
    }
}

fn on<O: Device>(
    prepared: &Prepared,
    (plan, task, folder): (&SweepPlan, usize, PathBuf),
    slots: Vec<Slot<'_, O>>,
    (stop, report, attempt): (&AtomicBool, Report<'_>, &mut Attempt),
) -> Result<()> {
    let task = plan.tasks[task];
    let wanted: BTreeSet<Site> = prepared.sites.iter().copied().collect();
    let setup = Setup::forward(&prepared.model, prepared.limits, &wanted);
    let mut fleet = Fleet::new(slots, setup);
    report("calibrating", 0, 0.0);
    let pass = pass_plan(prepared, &mut fleet)?;
    let mut states = States::load(&folder, prepared.run_id, pass.sites.clone())?
        .commit_every(prepared.commit_interval());
    let mut todo = states.missing(pass.blocks);
    todo.retain(|block| (task.first..task.end).contains(block));
    let left = todo.len();
    if left == 0 {
        return Ok(());
    }
    let before = states.tokens();
    let blocks = BlockStream::start_for(fleet.len(), prepared.block_rules(), todo)?;
    let done = f64::from(pass.blocks) - states.missing(pass.blocks).len() as f64;
    let ended = run_pass(
        &mut fleet,
        &pass,
        &mut states,
        blocks,
        (stop, |PassProgress { tokens, blocks }| {
            report("reading neurons", tokens, (blocks - done) / left as f64);
        }),
    );
    let missing = states.missing(pass.blocks);
    let missing = missing.iter().filter(|block| (task.first..task.end).contains(block)).count();
    attempt.blocks = u32::try_from(left - missing).expect("blocks are u32");
    attempt.tokens = states.tokens() - before;
    ended?;
    prepared.model.check_unchanged()?;
    prepared.plan.check_unchanged(&prepared.config.corpus)
}

/// The first attempt at a pass says on which kind of device it is read; others are refused.
pub(super) fn claim_kind(prepared: &Prepared, pass: &Path) -> Result<()> {
    let own = Kind { run_id: hex(&prepared.run_id), kind: prepared.devices.kind() };
    let path = pass.join(KIND);
    if !path.exists() {
        // Two that claim at once write one after the other; what stands there then decides.
        write_json_atomic(&path, &own)?;
    }
    let bytes = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
    let there: Kind = serde_json::from_slice(&bytes).map_err(|error| {
        Error::input(&path, format!("damaged: {error}"), "delete the folder of this pass")
    })?;
    if there == own {
        return Ok(());
    }
    let name = |kind: &Option<String>| kind.clone().unwrap_or_else(|| "cpu".to_owned());
    let what = format!("the pass is read on {}, this is {}", name(&there.kind), name(&own.kind));
    let remedy = "send its tasks to devices of one kind (slurm.extra = [\"--constraint=...\"])";
    Err(Error::config(path.display().to_string(), what, remedy))
}

/// The run id under which states of a pass stand, once any task has begun.
pub(super) fn claimed(pass: &Path) -> Result<Option<String>> {
    let path = pass.join(KIND);
    match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(&path, "read")(error)),
        Ok(bytes) => {
            let kind: Kind = serde_json::from_slice(&bytes).map_err(|error| {
                let remedy = "delete the folder of this pass";
                Error::input(&path, format!("damaged: {error}"), remedy)
            })?;
            Ok(Some(kind.run_id))
        }
    }
}
