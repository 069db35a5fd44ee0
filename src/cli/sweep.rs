//! `electrode sweep`: plan, submit, status, resume, merge, cancel, and the task that jobs run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use super::run::{stop_at, stop_flag, with_progress};
use super::{device, output};
use crate::error::{Error, Result};
use crate::run::sweep::{self, Local, SlurmConfig, Status, Submission, SweepConfig, SweepPlan};

/// Task lists are written by us; anything larger is some other file.
const MOST_LIST: u64 = 1 << 24;
/// Tasks with a line of their own in a status.
const LISTED: usize = 20;

/// Run a grid of models, layers, labels, methods and seeds, here or on a Slurm cluster
#[derive(Args, Debug)]
pub struct SweepArgs {
    #[command(subcommand)]
    command: SweepCommand,
}

#[derive(Subcommand, Debug)]
enum SweepCommand {
    /// Write the plan of a sweep file, and say what it will take
    Plan {
        /// Sweep file (TOML), see docs/sweeps.md
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Say what it would take, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Submit every task that is not done, and a merge behind them; or run them here
    Submit(SubmitArgs),
    /// The same as submit: what is done stays done
    Resume(SubmitArgs),
    /// Say how far a sweep is, from what is on the disk
    Status {
        /// The sweep's folder
        #[arg(value_name = "DIR")]
        out: PathBuf,
        /// Say it again every so many seconds, until all is done
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10")]
        watch: Option<u64>,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Merge what the tasks left into tables and reports
    Merge {
        /// The sweep's folder
        #[arg(value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        on: OnArgs,
    },
    /// Take the sweep's jobs off the queue; what is done stays
    Cancel {
        /// The sweep's folder
        #[arg(value_name = "DIR")]
        out: PathBuf,
    },
    /// Do one task: what jobs run
    Task {
        /// The sweep's folder
        #[arg(value_name = "DIR")]
        out: PathBuf,
        /// Its number
        #[arg(value_name = "TASK", required_unless_present = "list")]
        task: Option<usize>,
        /// A file with a task in each line, of which `--index` is done
        #[arg(long, value_name = "FILE", requires = "index", conflicts_with = "task")]
        list: Option<PathBuf>,
        /// See `--list`, from 0
        #[arg(long, value_name = "N", requires = "list")]
        index: Option<usize>,
        /// As a Slurm job that was told to end: be queued again, at most so often
        #[arg(long, value_name = "N", default_value_t = 0)]
        requeues: u32,
        #[command(flatten)]
        on: OnArgs,
    },
}

#[derive(Args, Debug)]
struct OnArgs {
    /// Where it runs: auto, cpu, cuda, cuda:0,2; by default what the run file says
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// CPU threads; all by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
}

#[derive(Args, Debug)]
struct SubmitArgs {
    /// The sweep's folder
    #[arg(value_name = "DIR")]
    out: PathBuf,
    /// Run the tasks here, so many at a time, then merge
    #[arg(long, value_name = "N", conflicts_with_all = ["partition", "account", "time", "limit", "dry_run"])]
    local: Option<u16>,
    /// With --local: a device for each of them, cuda:0 cuda:1
    #[arg(long, value_name = "DEVICE", num_args = 1.., requires = "local")]
    devices: Vec<String>,
    /// With --local: CPU threads of each; all cores shared out by default
    #[arg(long, value_name = "N", requires = "local", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// Write the job files, and submit nothing
    #[arg(long)]
    dry_run: bool,
    /// Partition, in place of the sweep file's
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Account, in place of the sweep file's
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Time limit of a task, in place of the sweep file's
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Tasks at a time, in place of the sweep file's
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

pub(super) fn run(args: SweepArgs) -> Result<()> {
    match args.command {
        SweepCommand::Plan { file, dry_run } => plan(&file, dry_run),
        SweepCommand::Submit(args) | SweepCommand::Resume(args) => submit(args),
        SweepCommand::Status { out, watch, json } => status(&out, watch, json),
        SweepCommand::Merge { out, on } => {
            device::threads(on.threads.map(usize::from))?;
            merge(&out, on.device.as_deref())
        }
        SweepCommand::Cancel { out } => {
            let jobs = sweep::cancel(&SweepPlan::read(&out)?)?;
            output::print(&format!("{jobs} jobs taken off the queue\n"))
        }
        SweepCommand::Task { out, task, list, index, requeues, on } => {
            // Before anything else: a notice that comes early must not end the process.
            let stop = stop_at(&[SIGTERM, SIGINT, SIGUSR1])?;
            let task = match (task, list, index) {
                (Some(task), _, _) => task,
                (None, Some(list), Some(index)) => listed(&list, index)?,
                _ => unreachable!("clap asks for one of them"),
            };
            device::threads(on.threads.map(usize::from))?;
            let plan = SweepPlan::read(&out)?;
            let mut before = None;
            let ended = with_progress(|report| {
                before = sweep::status(&plan, &out)?.tasks.get(task).map(|task| task.done);
                sweep::work((&plan, &out), task, on.device.as_deref(), (&stop, report))
            });
            match ended {
                Ok(blocks) => output::print(&format!("task {task}: {blocks} blocks\n")),
                Err(error) => {
                    let now = sweep::status(&plan, &out)?.tasks.get(task).map(|task| task.done);
                    if error.exit_code() == 75 && requeues > 0 && now > before {
                        sweep::queue_again(requeues);
                    }
                    Err(error)
                }
            }
        }
    }
}

/// The task in a line of a list.
fn listed(path: &Path, index: usize) -> Result<usize> {
    let bytes = std::fs::metadata(path).map_err(Error::io(path, "read"))?.len();
    let damaged = |what: String| Error::input(path, what, "submit the sweep again");
    if bytes > MOST_LIST {
        return Err(damaged("is too large for a list of tasks".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    let line = text.lines().nth(index).ok_or_else(|| damaged(format!("has no line {index}")))?;
    line.parse().map_err(|_| damaged(format!("line {}: '{line}' is no task", index + 1)))
}

fn plan(file: &Path, dry_run: bool) -> Result<()> {
    let config = SweepConfig::load(file)?;
    let plan = SweepPlan::make(&config)?;
    if !dry_run {
        plan.write(&config.out)?;
    }
    let blocks: u64 = plan.passes.iter().map(|pass| u64::from(pass.blocks)).sum();
    let bytes: u64 = plan.points.iter().map(|point| plan.passes[point.pass].bytes).sum();
    let read: u64 = plan.passes.iter().map(|pass| pass.bytes).sum();
    let disk: u64 = plan.tasks.iter().map(|task| 2 * plan.passes[task.pass].state_bytes).sum();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "sweep {} ({})\n{} points share {} passes: {:.1} MiB of text are read for what would be {:.1}\n\
         {} tasks of {} blocks; states of at most {:.1} MiB on disk until the merge\n",
        plan.name,
        &plan.sweep_id[..12],
        plan.points.len(),
        plan.passes.len(),
        mib(read),
        mib(bytes),
        plan.tasks.len(),
        blocks,
        mib(disk),
    );
    for (number, pass) in plan.passes.iter().enumerate() {
        let points = plan.points.iter().filter(|point| point.pass == number).count();
        writeln!(
            text,
            "pass {number}: {}, {} documents, {} blocks, for {points} points",
            pass.config.model.path, pass.documents, pass.blocks
        )
        .expect("a String takes text");
    }
    let next = if dry_run {
        "nothing was written\n".to_owned()
    } else {
        format!("next: electrode sweep submit {} (--local 2 runs it here)\n", config.out.display())
    };
    output::print(&(text + &next))
}

fn submit(args: SubmitArgs) -> Result<()> {
    let plan = SweepPlan::read(&args.out)?;
    if let Some(slots) = args.local {
        let stop = stop_flag()?;
        let slots = usize::from(slots.max(1));
        let threads = args.threads.map_or(rayon::current_num_threads() / slots, usize::from);
        let local = Local { slots, threads, devices: args.devices };
        with_progress(|report| sweep::run_here((&plan, &args.out), &local, (&stop, report)))?;
        return merge(&args.out, local.devices.first().map(String::as_str));
    }
    let mut slurm: SlurmConfig = plan.slurm.clone();
    slurm.partition = args.partition.or(slurm.partition);
    slurm.account = args.account.or(slurm.account);
    slurm.time = args.time.or(slurm.time);
    slurm.limit = args.limit.or(slurm.limit);
    let Submission { files, jobs, tasks } =
        sweep::submit((&plan, &args.out), &slurm, args.dry_run)?;
    let mut text = format!("{tasks} tasks\n");
    for (at, file) in files.iter().enumerate() {
        let job = jobs.get(at).map_or_else(String::new, |job| format!(" is job {job}"));
        writeln!(text, "{}{job}", file.display()).expect("a String takes text");
    }
    output::print(&text)
}

fn merge(out: &Path, device: Option<&str>) -> Result<()> {
    let plan = SweepPlan::read(out)?;
    let merged = with_progress(|report| sweep::merge((&plan, out), device, report))?;
    output::print(&format!(
        "{} points from {} tokens\n{}\n",
        merged.points.len(),
        merged.tokens,
        out.join(sweep::DATA).display()
    ))
}

fn status(out: &Path, watch: Option<u64>, json: bool) -> Result<()> {
    let plan = SweepPlan::read(out)?;
    let stop = stop_flag()?;
    loop {
        let status = sweep::status(&plan, out)?;
        let queued = sweep::queued(&plan).unwrap_or_default();
        let text = if json { as_json(&status, &queued) } else { as_text(&status, &queued) };
        output::print(&text)?;
        let Some(seconds) = watch else { return Ok(()) };
        for _ in 0..10 * seconds.max(1) {
            if status.missing().is_empty() || stop.load(std::sync::atomic::Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn as_text(status: &Status, queued: &[String]) -> String {
    let (done, all) = status.blocks();
    let finished = status.tasks.len() - status.missing().len();
    let mut text = format!(
        "{finished} of {} tasks, {done} of {all} blocks, {} tokens\n",
        status.tasks.len(),
        status.tokens()
    );
    let mut line = |what: String| writeln!(text, "{what}").expect("a String takes text");
    if let Some(seconds) = status.seconds_per_block() {
        let left = seconds * (all - done) as f64;
        line(format!("{seconds:.1} s a block; about {:.2} device-hours are left", left / 3600.0));
    }
    let failed: Vec<_> = status.tasks.iter().filter(|task| task.failure().is_some()).collect();
    for task in failed.iter().take(LISTED) {
        let attempt = task.failure().expect("just filtered");
        let what = attempt.error.as_deref().unwrap_or("no message").replace('\n', " ");
        line(format!(
            "task {}: {} of {} blocks, attempt {} on {} ended with {}: {what}",
            task.task,
            task.done,
            task.blocks,
            task.attempts.len(),
            attempt.node,
            attempt.exit
        ));
    }
    if failed.len() > LISTED {
        line(format!("and {} more that failed", failed.len() - LISTED));
    }
    if !queued.is_empty() {
        line(format!("{} jobs in the queue", queued.len()));
        queued.iter().take(LISTED).for_each(|job| line(format!("  {job}")));
    }
    text
}

fn as_json(status: &Status, queued: &[String]) -> String {
    let (done, all) = status.blocks();
    let task = |task: &sweep::TaskStatus| {
        serde_json::json!({
            "task": task.task, "blocks": task.blocks, "done": task.done, "tokens": task.tokens,
            "attempts": task.attempts,
        })
    };
    let value = serde_json::json!({
        "blocks": all, "done": done, "tokens": status.tokens(),
        "seconds_per_block": status.seconds_per_block(),
        "queued": queued,
        "tasks": status.tasks.iter().map(task).collect::<Vec<_>>(),
    });
    format!("{value}\n")
}
