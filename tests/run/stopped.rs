//! Runs that are killed, told to stop, or meet each other. Oracle: the run undisturbed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::{Bench, assert_same, finish, leftovers, snapshot, tables};

const KILLS: u64 = 20;

/// Waits until something is true of a running child; false if the child ends first.
pub(super) fn wait(child: &mut Child, ready: impl Fn() -> bool) -> bool {
    let patience = Instant::now() + Duration::from_secs(120);
    while Instant::now() < patience {
        if ready() {
            return true;
        }
        if child.try_wait().expect("it can be asked").is_some() {
            return ready();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("nothing happened");
}

/// Through the shell, whose `kill` knows the names of signals.
pub(super) fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", child.id())).status();
    assert!(sent.expect("a shell").success(), "{name} to a process of ours");
}

/// Bytes of stored states.
fn stored(folder: &Path) -> usize {
    snapshot(&folder.join("states")).values().map(Vec::len).sum()
}

/// Times are random over the length of a whole run, so that kills meet every stage.
#[test]
fn twenty_kills_change_no_bit() {
    let bench = Bench::new(1500);
    let clock = Instant::now();
    let whole = bench.tables("whole", &[]);
    let length = clock.elapsed();
    let (mut seed, mut stored_once, mut ended) = (2026_u64, false, 0);
    for _ in 0..KILLS {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (seed >> 40) as f64 / f64::from(1_u32 << 24);
        let mut child = bench.command("out", &[]).spawn().expect("the program starts");
        std::thread::sleep(length.mul_f64(share));
        child.kill().expect("it can be killed");
        ended += u32::from(child.wait().expect("it ends").success());
        stored_once |= stored(&bench.path("out")) > 0;
    }
    assert!(stored_once, "no attempt left a state");
    assert!(ended < 20, "no attempt was killed");
    assert_same(&whole, &bench.tables("out", &[]), "after 20 kills");
    assert_eq!(leftovers(&bench.path("out")), [] as [std::path::PathBuf; 0]);
    let again = bench.run("out", &[]);
    assert!(again.stdout.contains("blocks from earlier attempts"), "{}", again.stdout);
}

/// A state on disk that was torn, and one that was lost.
#[test]
fn damaged_states_are_done_again() {
    let bench = Bench::new(300);
    let whole = bench.tables("out", &[]);
    let states: Vec<_> = snapshot(&bench.path("out/states")).into_iter().collect();
    let (path, bytes) = &states[0];
    for damaged in [bytes[..bytes.len() * 2 / 3].to_vec(), {
        let mut bytes = bytes.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        bytes
    }] {
        fs::write(path, damaged).expect("written");
        let done = bench.run("out", &[]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(done.stderr.contains("its blocks are done again"), "{}", done.stderr);
        assert_same(&whole, &tables(&bench.path("out")), "a damaged state");
    }
}

#[test]
fn temporary_files_of_killed_runs_are_removed() {
    let bench = Bench::new(60);
    fs::create_dir(bench.path("out")).expect("made");
    fs::write(bench.path("out/.electrode-AbC123.tmp"), b"half a table").expect("written");
    bench.tables("out", &[]);
    assert_eq!(leftovers(&bench.path("out")), [] as [std::path::PathBuf; 0]);
}

#[test]
fn a_signal_ends_the_run_with_75_and_it_resumes() {
    let bench = Bench::new(3000);
    let whole = bench.tables("whole", &[]);
    for attempt in 0..5 {
        let out = format!("out{attempt}");
        let mut child = bench.command(&out, &[]).spawn().expect("the program starts");
        wait(&mut child, || stored(&bench.path(&out)) > 0);
        signal(&child, "TERM");
        let output = child.wait_with_output().expect("it ends");
        if output.status.code() == Some(0) {
            continue; // It was past its last block.
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(75), "{said}");
        assert!(said.contains("unfinished: stopped by a signal"), "{said}");
        assert!(said.contains("it resumes"), "{said}");
        assert!(!bench.path(&out).join("rankings.parquet").exists());
        let done = bench.run(&out, &[]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(done.stdout.contains("blocks from earlier attempts"), "{}", done.stdout);
        assert_same(&whole, &tables(&bench.path(&out)), "after TERM");
        return;
    }
    panic!("five runs ended before a signal reached them");
}

#[test]
fn a_second_run_in_the_same_folder_is_refused() {
    let bench = Bench::new(1500);
    let mut first = bench.command("out", &[]).spawn().expect("the program starts");
    assert!(wait(&mut first, || bench.path("out/run.json").exists()), "the first run begins");
    signal(&first, "STOP");
    let second = finish(&mut bench.command("out", &[]));
    let other = finish(&mut bench.command("out", &["statistics.bins=8"]));
    signal(&first, "CONT");
    for refused in [second, other] {
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains("another run is working"), "{}", refused.stderr);
    }
    assert!(first.wait_with_output().expect("it ends").status.success());
    assert_same(&tables(&bench.path("out")), &bench.tables("alone", &[]), "beside another");
}
