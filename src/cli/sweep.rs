//! `electrode sweep`: plan, submit, status, resume, merge, cancel, and the task that jobs run.

mod status;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use self::status::StatusArgs;
use super::run::{stop_at, stop_flag, with_progress};
use super::{device, output};
use crate::disk;
use crate::error::{Error, Result};
use crate::run::sweep::{self, Local, Merging, SlurmConfig, Submission, SweepConfig, SweepPlan};

/// Task lists are written by us; anything larger is some other file.
const MOST_LIST: u64 = 1 << 24;

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
        /// What one device reads, for the estimate of device-hours
        #[arg(long, value_name = "N")]
        tokens_per_second: Option<f64>,
    },
    /// Submit every task that is not done, and a merge behind them; or run them here
    Submit(SubmitArgs),
    /// The same as submit: what is done stays done
    Resume(SubmitArgs),
    /// Say how far a sweep is, from what is on the disk
    Status(StatusArgs),
    /// Merge what the tasks left into tables and reports
    Merge {
        /// The sweep's folder
        #[arg(value_name = "DIR")]
        out: PathBuf,
        /// Also what is unfinished, into DIR/partial, marked with what it covers
        #[arg(long)]
        partial: bool,
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
        SweepCommand::Plan { file, dry_run, tokens_per_second } => {
            plan(&file, dry_run, tokens_per_second)
        }
        SweepCommand::Submit(args) | SweepCommand::Resume(args) => submit(args),
        SweepCommand::Status(args) => status::run(&args),
        SweepCommand::Merge { out, partial, on } => {
            device::threads(on.threads.map(usize::from))?;
            merge(&out, Merging { device: on.device.as_deref(), partial })
        }
        SweepCommand::Cancel { out } => {
            let jobs = sweep::cancel(&SweepPlan::read(&out)?, &out)?;
            output::print(&format!("{jobs} jobs taken off the queue\n"))
        }
        SweepCommand::Task { out, task, list, index, requeues, on } => {
            // Before anything else: a notice that comes early must not end the process.
            let stop = told_to_end()?;
            let task = match (task, list, index) {
                (Some(task), _, _) => task,
                (None, Some(list), Some(index)) => listed(&list, index)?,
                _ => unreachable!("clap asks for one of them"),
            };
            device::threads(on.threads.map(usize::from))?;
            do_task((&out, task), (&stop, requeues), on.device.as_deref())
        }
    }
}

/// Set by INT, of which a second one ends the process, and by what a cluster sends: the notice and
/// TERM come one after the other, and the second must not cost what the first began to save.
fn told_to_end() -> Result<Arc<AtomicBool>> {
    let stop = stop_at(&[SIGINT])?;
    for signal in [SIGTERM, SIGUSR1] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(Error::io("signal handler", "create"))?;
    }
    Ok(stop)
}

/// Does a task; as a job, is queued again if it ends unfinished.
fn do_task(
    (out, task): (&Path, usize),
    (stop, requeues): (&AtomicBool, u32),
    device: Option<&str>,
) -> Result<()> {
    let plan = SweepPlan::read(out)?;
    let done = || sweep::status_of((&plan, out), [task]).map(|status| status.blocks().0);
    let before = done()?;
    let ended = with_progress(|report| sweep::work((&plan, out), task, device, (stop, report)));
    match ended {
        Ok(blocks) => output::print(&format!("task {task}: {blocks} blocks\n")),
        Err(error) => {
            if requeues > 0 && error.exit_code() == 75 {
                sweep::queue_again(requeues, done()? > before);
            }
            Err(error)
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
    let text = disk::read_to_string(path).map_err(Error::io(path, "read"))?;
    let line = text.lines().nth(index).ok_or_else(|| damaged(format!("has no line {index}")))?;
    line.parse().map_err(|_| damaged(format!("line {}: '{line}' is no task", index + 1)))
}

fn plan(file: &Path, dry_run: bool, tokens_per_second: Option<f64>) -> Result<()> {
    let config = SweepConfig::load(file)?;
    let plan = SweepPlan::make(&config)?;
    let estimate = sweep::estimate((&plan, &config.out), tokens_per_second)?;
    if !dry_run {
        plan.write(&config.out)?;
    }
    let blocks: u64 = plan.passes.iter().map(|pass| u64::from(pass.blocks)).sum();
    let bytes: u64 = plan.points.iter().map(|point| plan.passes[point.pass].bytes).sum();
    let read: u64 = plan.passes.iter().map(|pass| pass.bytes).sum();
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
        mib(estimate.disk),
    );
    let hours = estimate.hours.map_or_else(|| "unknown".to_owned(), |hours| format!("{hours:.2}"));
    writeln!(
        text,
        "about {} tokens ({}); device-hours: {hours} ({})",
        estimate.tokens, estimate.tokens_from, estimate.hours_from
    )
    .expect("a String takes text");
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
        let device = local.devices.first().map(String::as_str);
        return merge(&args.out, Merging { device, partial: false });
    }
    let mut slurm: SlurmConfig = plan.slurm.clone();
    slurm.partition = args.partition.or(slurm.partition);
    slurm.account = args.account.or(slurm.account);
    slurm.time = args.time.or(slurm.time);
    slurm.limit = args.limit.or(slurm.limit);
    let Submission { files, jobs, tasks, queued, left_out } =
        sweep::submit((&plan, &args.out), &slurm, args.dry_run)?;
    let mut text = format!("{tasks} tasks\n");
    let mut line = |what: String| writeln!(text, "{what}").expect("a String takes text");
    if queued > 0 {
        line(format!("{queued} more are in the queue already"));
    }
    if !left_out.is_empty() {
        line(format!("without {}: a device was at fault there", left_out.join(", ")));
    }
    for (at, file) in files.iter().enumerate() {
        let job = jobs.get(at).map_or_else(String::new, |job| format!(" is job {job}"));
        line(format!("{}{job}", file.display()));
    }
    output::print(&text)
}

fn merge(out: &Path, merging: Merging<'_>) -> Result<()> {
    let plan = SweepPlan::read(out)?;
    let merged = with_progress(|report| sweep::merge((&plan, out), merging, report))?;
    let page = out.join(sweep::OVERVIEW);
    sweep::overview((&plan, out), &sweep::status(&plan, out)?, &page)?;
    let mut text = format!("{} points from {} tokens\n", merged.points.len(), merged.tokens);
    for missing in &merged.missing {
        writeln!(text, "partial: {missing}").expect("a String takes text");
    }
    let data = out.join(if merged.missing.is_empty() { sweep::DATA } else { sweep::PARTIAL });
    output::print(&(text + &format!("{}\n{}\n", data.display(), page.display())))
}
