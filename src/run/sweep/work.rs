//! One task of a sweep: some blocks of a pass, put on the disk as they are done. Any number of
//! attempts may work on a task at a time, each in files of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::known::Known;
use super::plan::{Folder, SweepPlan, Task};
use super::watchdog::{self, Patience, Watchdog};
use crate::accumulate::run::RunStatistics;
use crate::artifact::machine::threads;
use crate::artifact::manifest::write_json_atomic;
use crate::artifact::sealed::{read_sealed, write_sealed};
use crate::corpus::stream::BlockStream;
use crate::disk;
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::pass::{PassPlan, PassProgress, run_pass};
use crate::engine::states::States;
use crate::error::{Error, Result};
use crate::hash::hex;
use crate::id::Site;
use crate::run::devices::{self, Devices};
use crate::run::metrics::{self, METRICS, Metrics};
use crate::run::{Prepared, Report, pass_of};

/// Says which kind of device a pass is read on: those of two kinds round differently.
const KIND: &str = "kind.json";
/// Of a damaged one: the next attempt writes it again, and the states are checked against that.
const REMEDY: &str = "delete this file, then run any task of the pass again";

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
    /// Devices that failed on the way, by name.
    #[serde(default)]
    pub lost: Vec<String>,
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

/// A task works no longer than this between two questions for the known answer.
const TURN: Duration = Duration::from_secs(3600);
/// What took less is not worth another question.
const WORTH_ASKING: Duration = Duration::from_secs(60);

/// Whom an attempt tells how far it is, and who may stop it.
struct Telling<'a> {
    stop: &'a AtomicBool,
    report: Report<'a>,
    metrics: Metrics,
    watchdog: Watchdog,
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
    disk::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
    let clock = Instant::now();
    let mut attempt = Attempt::begun();
    let name = format!("attempt-{:016x}", unique());
    let note = folder.join(format!("{name}.json"));
    let pass = plan.tasks[task].pass;
    let _span =
        tracing::info_span!("task", sweep = plan.name, pass, task, attempt = name).entered();
    let metrics = Metrics::start(folder.join(format!("{name}.{METRICS}")), folder.clone());
    let watchdog = watch_over(attempt.clone(), note.clone(), clock);
    let mut telling = Telling { stop, report, metrics, watchdog };
    let ended = try_work((plan, out), task, device, (&mut telling, &mut attempt));
    drop(telling);
    attempt.seconds = clock.elapsed().as_secs_f64();
    if let Err(error) = &ended {
        attempt.exit = error.exit_code();
        attempt.error = Some(error.to_string());
    }
    tracing::info!(
        blocks = attempt.blocks,
        exit = attempt.exit,
        error = attempt.error,
        "attempt ended"
    );
    let kept = write_json_atomic(&note, &attempt);
    ended.and(kept)?;
    Ok(attempt.blocks)
}

impl Attempt {
    fn begun() -> Self {
        Self {
            start: crate::artifact::machine::utc_now(),
            seconds: 0.0,
            tokens: 0,
            blocks: 0,
            node: metrics::node(),
            devices: Vec::new(),
            lost: Vec::new(),
            exit: 0,
            error: None,
        }
    }
}

/// Ends this process where an attempt gets no further, and leaves a note of it: another node may do.
fn watch_over(mut attempt: Attempt, note: PathBuf, clock: Instant) -> Watchdog {
    Watchdog::start(Patience::default(), move |what| {
        watchdog::end_process_soon();
        tracing::error!(what, "ended by the watchdog");
        threads().iter().for_each(|thread| tracing::error!("{thread}"));
        let error = Error::Device { device: attempt.node.clone(), what };
        attempt.seconds = clock.elapsed().as_secs_f64();
        attempt.exit = error.exit_code();
        attempt.error = Some(error.to_string());
        if let Err(error) = write_json_atomic(&note, &attempt) {
            tracing::error!(%error, "no note of it could be left");
        }
        std::process::exit(attempt.exit.into());
    })
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
    (telling, attempt): (&mut Telling<'_>, &mut Attempt),
) -> Result<()> {
    let pass = Folder(out).pass(plan.tasks[task].pass);
    let prepared = plan.prepare(plan.tasks[task].pass, device, Some(out))?;
    claim_kind(&prepared, &pass)?;
    telling.metrics.runs_on(&prepared.devices);
    attempt.devices = prepared.devices.facts().into_iter().map(|device| device.name).collect();
    let asked = (plan.tasks[task], Folder(out).task(plan, task), pass);
    match &prepared.devices {
        Devices::Cpu => on(
            &prepared,
            asked,
            vec![devices::cpu(prepared.config.model.dtype)],
            (telling, attempt),
        ),
        Devices::Cuda(found) => {
            let slots = devices::gpus(found, prepared.config.model.dtype);
            on(&prepared, asked, slots, (telling, attempt))
        }
    }
}

fn on<O: Device>(
    prepared: &Prepared,
    (task, folder, pass): (Task, PathBuf, PathBuf),
    slots: Vec<Slot<'_, O>>,
    (telling, attempt): (&mut Telling<'_>, &mut Attempt),
) -> Result<()> {
    let wanted: BTreeSet<Site> = prepared.sites.iter().copied().collect();
    let setup = Setup::forward(&prepared.model, prepared.limits, &wanted);
    let mut fleet = Fleet::new(slots, setup);
    (telling.report)("calibrating", 0, 0.0);
    let known = Known::open(prepared, (&pass, &attempt.node), &mut fleet)?;
    let pass = pass_of(prepared, known.ask(&mut fleet)?);
    let load = || {
        let states = States::load(&folder, prepared.run_id, pass.sites.clone())?;
        Ok(states.commit_every(prepared.commit_interval()))
    };
    let mut states: States<RunStatistics> = load()?;
    let (before, left) = (states.tokens(), todo(&states, task).len());
    let earlier = task.end - task.first - u32::try_from(left).expect("blocks are u32");
    telling.metrics.begin((f64::from(earlier), task.end - task.first), before);
    loop {
        let todo = todo(&states, task);
        if todo.is_empty() {
            break;
        }
        let clock = Instant::now();
        let ended = turn(prepared, (&mut fleet, &pass), (&mut states, todo, task), telling);
        let missing = self::todo(&states, task).len();
        attempt.blocks = u32::try_from(left.saturating_sub(missing)).expect("blocks are u32");
        attempt.tokens = states.tokens().saturating_sub(before);
        attempt.lost = fleet.lost().to_vec();
        let over = clock.elapsed() >= TURN && !telling.stop.load(Ordering::Relaxed);
        match ended {
            Err(Error::Unfinished { .. }) if over => {}
            other => other?,
        }
        if clock.elapsed() >= WORTH_ASKING {
            let devices = fleet.len();
            let asked = known.ask(&mut fleet);
            if asked.is_err() || fleet.len() < devices {
                // What it did since it was asked last is not believed either.
                states.take_back()?;
                attempt.lost = fleet.lost().to_vec();
                asked?;
                states = load()?;
            }
        }
    }
    // A large corpus may be read once more here.
    telling.watchdog.rest();
    prepared.check_unchanged()
}

/// Blocks of a task that are not done.
fn todo(states: &States<RunStatistics>, task: Task) -> Vec<u32> {
    let mut todo = states.missing(task.end);
    todo.retain(|block| *block >= task.first);
    todo
}

/// Reads blocks until there are none left, or it is time to ask the devices again.
fn turn<O: Device>(
    prepared: &Prepared,
    (fleet, pass): (&mut Fleet<'_, O>, &PassPlan),
    (states, todo, task): (&mut States<RunStatistics>, Vec<u32>, Task),
    telling: &mut Telling<'_>,
) -> Result<()> {
    let Telling { stop, report, metrics, watchdog } = telling;
    let (clock, all) = (Instant::now(), f64::from(task.end - task.first));
    let pause = AtomicBool::new(stop.load(Ordering::Relaxed));
    let blocks = BlockStream::start_for(fleet.len(), prepared.block_rules(), todo)?;
    run_pass(
        fleet,
        pass,
        states,
        blocks,
        (&pause, |PassProgress { tokens, blocks }| {
            if stop.load(Ordering::Relaxed) || clock.elapsed() >= TURN {
                pause.store(true, Ordering::Relaxed);
            }
            metrics.note(tokens, blocks);
            watchdog.note(tokens, blocks);
            report("reading neurons", tokens, blocks / all);
        }),
    )
}

/// The first attempt at a pass says on which kind of device it is read; others are refused.
pub(super) fn claim_kind(prepared: &Prepared, pass: &Path) -> Result<()> {
    let own = Kind {
        run_id: hex(&prepared.run_id),
        kind: prepared.devices.kind(prepared.config.model.dtype),
    };
    let path = pass.join(KIND);
    if !path.exists() {
        // Two that claim at once write one after the other; what stands there then decides.
        write_sealed(&path, &own)?;
    }
    let bytes = disk::read(&path).map_err(Error::io(&path, "read"))?;
    let there: Kind = read_sealed(&path, &bytes, REMEDY)?;
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
    match disk::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(&path, "read")(error)),
        Ok(bytes) => {
            let kind: Kind = read_sealed(&path, &bytes, REMEDY)?;
            Ok(Some(kind.run_id))
        }
    }
}
