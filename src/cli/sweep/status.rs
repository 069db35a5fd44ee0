//! `electrode sweep status`: for people, as JSON, for Prometheus, and as a page.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::artifact::atomic::write_bytes_atomic;
use crate::cli::output;
use crate::cli::run::stop_flag;
use crate::error::Result;
use crate::run::sweep::{self, Status, SweepPlan, TaskStatus};

/// Tasks with a line of their own.
const LISTED: usize = 20;

#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// The sweep's folder
    #[arg(value_name = "DIR")]
    out: PathBuf,
    /// Say it again every so many seconds, until all is done
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10")]
    watch: Option<u64>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
    /// Also into a file for the textfile collector of Prometheus' node exporter
    #[arg(long, value_name = "FILE")]
    prometheus: Option<PathBuf>,
    /// Also as a page of its own
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn run(args: &StatusArgs) -> Result<()> {
    let plan = SweepPlan::read(&args.out)?;
    let stop = stop_flag()?;
    loop {
        let status = sweep::status(&plan, &args.out)?;
        let queued = sweep::queued(&plan, &args.out).unwrap_or_default();
        let ended = sweep::explain((&plan, &args.out), &status).unwrap_or_default();
        let cluster = (&queued[..], &ended[..]);
        if let Some(path) = &args.prometheus {
            write_bytes_atomic(path, sweep::prometheus(&plan, &status).as_bytes())?;
        }
        if let Some(path) = &args.html {
            sweep::overview((&plan, &args.out), &status, path)?;
        }
        let text = match args.json {
            true => format!("{}\n", as_json(&status, cluster)),
            false => as_text(&status, cluster),
        };
        output::print(&text)?;
        let Some(seconds) = args.watch else { return Ok(()) };
        for _ in 0..10 * seconds.max(1) {
            if status.missing().is_empty() || stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// `queued`, `ended`: what the cluster says of jobs that wait or run, and of those that left no word.
fn as_text(status: &Status, (queued, ended): (&[String], &[String])) -> String {
    let mut lines = Lines(String::new());
    let (done, all) = status.blocks();
    let finished = status.tasks.len() - status.missing().len();
    lines.add(format!(
        "{finished} of {} tasks, {done} of {all} blocks, {} tokens",
        status.tasks.len(),
        status.tokens()
    ));
    if let Some(seconds) = status.seconds_per_block() {
        let left = seconds * status.blocks_left() / 3600.0;
        let eta = match status.seconds_left() {
            Some(left) if done < all => {
                format!("; done in {} with {} tasks at work", duration(left), status.working())
            }
            _ => String::new(),
        };
        lines.add(format!("{seconds:.1} s a block; about {left:.2} device-hours are left{eta}"));
    }
    if status.energy_joules() > 0.0 {
        lines.add(format!("{:.3} kWh by the GPUs so far", status.energy_joules() / 3.6e6));
    }
    nodes(&mut lines, status);
    working(&mut lines, status);
    failed(&mut lines, status);
    if !queued.is_empty() {
        lines.add(format!("{} jobs in the queue", queued.len()));
        queued.iter().take(LISTED).for_each(|job| lines.add(format!("  {job}")));
    }
    if !ended.is_empty() {
        lines.add(format!("{} tasks ended without a word; of them Slurm says", ended.len()));
        ended.iter().take(LISTED).for_each(|job| lines.add(format!("  {job}")));
    }
    lines.0
}

struct Lines(String);

impl Lines {
    fn add(&mut self, line: impl std::fmt::Display) {
        writeln!(self.0, "{line}").expect("a String takes text");
    }

    fn more(&mut self, count: usize, what: &str) {
        if count > LISTED {
            self.add(format!("and {} more {what}", count - LISTED));
        }
    }
}

/// What machines do that have something at work.
fn nodes(lines: &mut Lines, status: &Status) {
    let nodes = status.nodes();
    let busy: Vec<_> = nodes.iter().filter(|(_, node)| node.working > 0).collect();
    for (name, node) in busy.iter().take(LISTED) {
        let rate = node.tokens_per_second;
        lines.add(format!("{name}: {} tasks at work, {rate:.0} tokens/s", node.working));
    }
    lines.more(busy.len(), "machines");
}

fn working(lines: &mut Lines, status: &Status) {
    let at_work: Vec<_> = status
        .tasks
        .iter()
        .flat_map(|task| task.working.iter().map(move |one| (task, one)))
        .collect();
    for (task, sample) in at_work.iter().take(LISTED) {
        let gpus: f64 = sample.gpus.iter().filter_map(|gpu| gpu.power_watts).sum();
        let power = if gpus > 0.0 { format!(", {gpus:.0} W") } else { String::new() };
        lines.add(format!(
            "task {} on {}: {}, {:.1} of {} blocks, {:.0} tokens/s{power}",
            task.task,
            sample.node,
            sample.stage,
            sample.blocks_done,
            task.blocks,
            sample.tokens_per_second
        ));
    }
    lines.more(at_work.len(), "at work");
}

fn failed(lines: &mut Lines, status: &Status) {
    let failed: Vec<_> = status.tasks.iter().filter(|task| task.failure().is_some()).collect();
    for task in failed.iter().take(LISTED) {
        let attempt = task.failure().expect("just filtered");
        let what = attempt.error.as_deref().unwrap_or("no message").replace('\n', " ");
        lines.add(format!(
            "task {}: {} of {} blocks, attempt {} on {} ended with {}: {what} (blocks {} are missing)",
            task.task,
            task.done,
            task.blocks,
            task.attempts.len(),
            attempt.node,
            attempt.exit,
            task.missing_ranges()
        ));
    }
    lines.more(failed.len(), "that failed");
}

fn as_json(status: &Status, (queued, ended): (&[String], &[String])) -> Value {
    let (done, all) = status.blocks();
    let task = |task: &TaskStatus| {
        json!({
            "task": task.task, "state": task.state(), "blocks": task.blocks, "done": task.done,
            "missing": task.missing_ranges(), "tokens": task.tokens, "attempts": task.attempts,
            "working": task.working, "energy_joules": task.energy_joules,
        })
    };
    let failure = |task: &TaskStatus| {
        let attempt = task.failure()?;
        Some(json!({
            "task": task.task, "missing": task.missing_ranges(), "node": attempt.node,
            "exit": attempt.exit, "error": attempt.error,
        }))
    };
    json!({
        "blocks": all, "done": done, "tokens": status.tokens(),
        "working": status.working(),
        "seconds_per_block": status.seconds_per_block(),
        "seconds_left": status.seconds_left(),
        "energy_joules": status.energy_joules(),
        "nodes": status.nodes(),
        "failed": status.tasks.iter().filter_map(failure).collect::<Vec<_>>(),
        "queued": queued,
        "ended": ended,
        "tasks": status.tasks.iter().map(task).collect::<Vec<_>>(),
    })
}

/// `2 h 05 min`, `12 min`, `40 s`.
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round();
    match () {
        () if seconds < 90.0 => format!("{seconds:.0} s"),
        () if minutes < 60.0 => format!("{minutes} min"),
        () => format!("{} h {:02} min", (minutes / 60.0).floor(), minutes % 60.0),
    }
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.

    #[test]
    fn times_are_said_as_people_say_them() {
        let cases = [
            (0.4, "0 s"),
            (89.0, "89 s"),
            (91.0, "2 min"),
            (3599.0, "1 h 00 min"),
            (7500.0, "2 h 05 min"),
        ];
        for (seconds, said) in cases {
            assert_eq!(super::duration(seconds), said);
        }
    }
}
