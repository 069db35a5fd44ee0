//! From exec to work: the program itself, killed once its log says that a stage has begun.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;

use crate::print::{line, median};

#[derive(Args)]
pub(crate) struct Start {
    #[arg(long, default_value_t = 25)]
    runs: usize,
    #[arg(long, default_value = "configs/runs/quickstart.toml")]
    run: String,
}

fn electrode() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_electrode"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

pub(crate) fn run(args: &Start) {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    line("| until | median ms | fastest | slowest |");
    line("|---|---|---|---|");
    let help = |_| {
        let clock = Instant::now();
        electrode().arg("--help").status().expect("the program starts");
        clock.elapsed().as_secs_f64()
    };
    tell("`--help` has ended", (0..args.runs).map(help).collect());
    for (what, mark) in [
        ("the calibration's batches begin", "stage=\"calibrating\""),
        ("the first block begins", "block taken"),
    ] {
        let to_mark =
            |run: usize| until(args, mark, &folder.path().join(format!("{mark:.5}{run}")));
        tell(what, (0..args.runs).map(to_mark).collect());
    }
}

fn tell(what: &str, seconds: Vec<f64>) {
    let (low, high) = seconds.iter().fold((f64::MAX, 0.0_f64), |(a, b), s| (a.min(*s), b.max(*s)));
    line(&format!(
        "| {what} | {:.0} | {:.0} | {:.0} |",
        1e3 * median(seconds),
        1e3 * low,
        1e3 * high
    ));
}

/// Seconds from exec to a line of the log.
fn until(args: &Start, mark: &str, out: &Path) -> f64 {
    let clock = Instant::now();
    let mut command = electrode();
    command.args(["run", &args.run, "-vv"]).arg(format!("out={}", out.display()));
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
    let log = BufReader::new(child.stderr.take().expect("it was asked for"));
    let found = log.lines().map_while(Result::ok).any(|line| line.contains(mark));
    let seconds = clock.elapsed().as_secs_f64();
    assert!(found, "the log never said {mark}");
    child.kill().expect("it still runs");
    child.wait().expect("it was ours");
    seconds
}
