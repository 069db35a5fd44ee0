//! Runs and sweeps under a wall clock that jumps or stands still.
//! Oracle: the same run under the true clock; the time that the run took by our own clock.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::bench::{Bench, finish, manifest, tables};
use crate::figures::{cases, hold};
use crate::sweeps::Small;

const DAY: i64 = 86_400;

/// The clock of `clock.c`, or a line that says why there is none.
fn library(folder: &Path) -> Option<PathBuf> {
    let path = folder.join("clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reliability/clock.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&path).arg(source).status();
    if built.is_ok_and(|status| status.success()) {
        return Some(path);
    }
    eprintln!("skipped: no C compiler for a clock that jumps");
    None
}

/// What the clock does in a case, as the library reads it.
fn setting(case: u64) -> (&'static str, String) {
    let size = [1, 60, 3_600, DAY, 30 * DAY][(case / 4 % 5) as usize];
    match case % 4 {
        0 => ("CLOCK_JUMP", size.to_string()),
        1 => ("CLOCK_JUMP", (-size).to_string()),
        2 => ("CLOCK_STILL", (1_700_000_000 + size).to_string()),
        // The first day of all, and a time beyond 32 bits.
        _ => ("CLOCK_STILL", (size * (case / 4 % 2) as i64 * 2_000).to_string()),
    }
}

/// Whether the library is what the program asks: its manifest begins at the time that it says.
fn is_used(bench: &Bench, library: &Path) {
    let mut command = bench.command("still", &[]);
    let done = finish(command.env("LD_PRELOAD", library).env("CLOCK_STILL", "951782399"));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let start = manifest(&bench.path("still"))["timings"]["start"].clone();
    assert_eq!(start, "2000-02-28T23:59:59Z");
}

#[test]
fn a_wall_clock_that_jumps_changes_nothing() {
    let bench = Bench::new(60);
    let Some(library) = library(&bench.path("")) else { return };
    is_used(&bench, &library);
    let want = bench.tables("true", &[]);
    let count = cases(20, 200);
    let mut wrong = Vec::new();
    for case in 0..count {
        let (out, (variable, value)) = (format!("case-{case}"), setting(case));
        let clock = Instant::now();
        let mut command = bench.command(&out, &[]);
        let done = finish(command.env("LD_PRELOAD", &library).env(variable, &value));
        let took = clock.elapsed().as_secs_f64();
        let place = bench.path(&out);
        let good = done.code == Some(0) && tables(&place) == want && {
            let timings = &manifest(&place)["timings"];
            let seconds = timings["seconds"].as_f64().unwrap_or(f64::NAN);
            let start = timings["start"].as_str().unwrap_or_default();
            (0.0..=took).contains(&seconds) && start.ends_with('Z') && start.len() >= 20
        };
        if !good {
            wrong.push(format!("{variable}={value}: {:?} {}", done.code, done.stderr));
        }
        std::fs::remove_dir_all(place).expect("removed");
    }
    hold("wall clock jumping or standing still: equal bits, sane durations", count, &wrong);
}

/// The same of a task of a sweep, whose note says how long it took.
#[test]
fn notes_of_attempts_have_sane_durations() {
    let small = Small::planned();
    let Some(library) = library(&small.bench.path("")) else { return };
    for (task, jump) in [-DAY, DAY].into_iter().enumerate() {
        let clock = Instant::now();
        let mut command = small.command("task");
        command.arg(task.to_string()).env("LD_PRELOAD", &library);
        let done = finish(command.env("CLOCK_JUMP", jump.to_string()));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let took = clock.elapsed().as_secs_f64();
        let plan = electrode::run::sweep::SweepPlan::read(&small.out()).expect("a plan");
        let status = electrode::run::sweep::status(&plan, &small.out()).expect("a status");
        let attempt = &status.tasks[task].attempts[0];
        assert!((0.0..=took).contains(&attempt.seconds), "{} of {took} s", attempt.seconds);
    }
}
