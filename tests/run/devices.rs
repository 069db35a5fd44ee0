//! Many devices, some of them faulty. Oracle: the same run on one device that is well. How many there
//! are, which of them fails, when, and how large its batches are changes no bit of a table.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use electrode::config::RunConfig;
use electrode::error::{Error, Result};
use electrode::run::{Finished, Prepared, run_on};

use super::faulty_device::{Fault, FaultyDevice};
use super::{Bench, assert_same, manifest, tables};

type Tables = BTreeMap<&'static str, Vec<u8>>;

fn prepared(bench: &Bench, out: &str) -> Prepared {
    let arguments = [format!("out={}", bench.path(out).display()), "device.name=cpu".to_owned()];
    let config = RunConfig::load(bench.path("run.toml"), &arguments).expect("a run file");
    Prepared::new(config).expect("all is there")
}

/// Runs on devices with these faults.
fn attempt(bench: &Bench, out: &str, faults: &[Fault]) -> Result<Finished> {
    let devices = faults.iter().enumerate();
    let devices = devices.map(|(i, fault)| FaultyDevice::slot(format!("test:{i}"), *fault));
    let stop = AtomicBool::new(false);
    run_on(&prepared(bench, out), devices.collect(), &stop, &mut |_, _, _| {})
}

/// Runs to the end and gives the tables.
fn done(bench: &Bench, out: &str, faults: &[Fault]) -> Tables {
    let finished = attempt(bench, out, faults).unwrap_or_else(|error| panic!("{out}: {error}"));
    assert!(finished.tokens_per_second > 0.0);
    tables(&bench.path(out))
}

fn well() -> Fault {
    Fault::default()
}

fn fails_after(batches: usize) -> Fault {
    Fault { fails_after: Some(batches), ..Fault::default() }
}

#[test]
fn one_two_three_and_eight_devices_give_the_same_bits() {
    let bench = Bench::new(600);
    let cli = bench.tables("cli", &[]);
    for count in [1, 2, 3, 8] {
        let out = count.to_string();
        assert_same(&cli, &done(&bench, &out, &vec![well(); count]), &format!("{count} devices"));
    }
    let blocks = manifest(&bench.path("8"))["plan"]["blocks"].as_u64().expect("a number");
    assert!(blocks > 8, "{blocks} blocks are too few for eight devices");
    // Devices of different speed finish blocks in another order.
    let slow = |ms| Fault { slow: Duration::from_millis(ms), ..Fault::default() };
    assert_same(&cli, &done(&bench, "slow", &[slow(9), slow(0), slow(3)]), "uneven devices");
}

/// At every stage: before its first batch, in the calibration, in its first block, between blocks.
#[test]
fn a_device_that_fails_is_dropped_and_its_block_done_by_another() {
    let bench = Bench::new(300);
    let whole = done(&bench, "whole", &[well()]);
    for after in [0, 1, 4, 11, 23] {
        for faults in [[fails_after(after), well()], [well(), fails_after(after)]] {
            let out = format!("{after}-{}", faults[0].fails_after.is_some());
            assert_same(&whole, &done(&bench, &out, &faults), &out);
        }
    }
    let notes = manifest(&bench.path("0-true"))["notes"].to_string();
    assert!(notes.contains("device test:0 failed on the way"), "{notes}");
}

/// The slow one fails when everything else is done: who waits must still take its block.
#[test]
fn the_last_block_may_come_back() {
    let bench = Bench::new(300);
    let whole = done(&bench, "whole", &[well()]);
    let steady = Fault { slow: Duration::from_millis(30), ..well() };
    let late = Fault { slow: Duration::from_millis(1500), ..fails_after(1) };
    assert_same(&whole, &done(&bench, "late", &[steady, late, steady]), "a late failure");
    let notes = manifest(&bench.path("late"))["notes"].to_string();
    assert!(notes.contains("device test:1 failed on the way"), "{notes}");
}

#[test]
fn when_all_fail_the_error_is_theirs_and_what_is_done_is_kept() {
    let bench = Bench::new(600);
    let whole = done(&bench, "whole", &[well()]);
    // Each does some of some thirty batches; what one leaves undone the others do for a while.
    let faults = [fails_after(8), fails_after(4), fails_after(7)];
    let error = attempt(&bench, "out", &faults).expect_err("none is left");
    assert_eq!(error.exit_code(), 76, "{error}");
    assert!(matches!(&error, Error::Device { what, .. } if what.contains("bus")), "{error}");
    let finished = attempt(&bench, "out", &[well(), well()]).expect("it resumes");
    let blocks = manifest(&bench.path("out"))["plan"]["blocks"].as_u64().expect("a number");
    let resumed = finished.resumed_blocks;
    assert!(resumed >= 1 && resumed < blocks, "{resumed} of {blocks} blocks were kept");
    assert_same(&whole, &tables(&bench.path("out")), "after all had failed");
}

/// Sentences have at most 14 words, the model takes 32 tokens, the budget is 256.
#[test]
fn a_device_out_of_memory_gets_smaller_batches() {
    let bench = Bench::new(600);
    let whole = done(&bench, "whole", &[well()]);
    for (most, from) in [(128, 0), (33, 0), (32, 5), (200, 17)] {
        let fault = Fault { rows_from: Some((most, from)), ..Fault::default() };
        let out = format!("{most}-{from}");
        assert_same(&whole, &done(&bench, &out, &[fault]), &out);
        let out = format!("{out}-two");
        assert_same(&whole, &done(&bench, &out, &[well(), fault]), &out);
    }
}

#[test]
fn a_device_without_room_for_one_sequence_is_given_up() {
    let bench = Bench::new(300);
    let whole = done(&bench, "whole", &[well()]);
    let fault = Fault { rows_from: Some((31, 9)), ..Fault::default() };
    let error = attempt(&bench, "out", &[fault]).expect_err("no room");
    assert_eq!(error.exit_code(), 75, "{error}");
    assert!(error.to_string().contains("out of memory"), "{error}");
    assert_same(&whole, &done(&bench, "out", &[fault, well()]), "another does it");
}

#[test]
fn a_stop_ends_every_worker_and_the_run_resumes() {
    let bench = Bench::new(600);
    let whole = done(&bench, "whole", &[well()]);
    let stop = AtomicBool::new(false);
    let devices = (0..3).map(|i| FaultyDevice::slot(i.to_string(), well())).collect();
    let mut report = |_: &'static str, _: u64, share: f64| {
        if share > 0.4 {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let error = run_on(&prepared(&bench, "out"), devices, &stop, &mut report);
    let error = error.expect_err("it was stopped");
    assert_eq!(error.exit_code(), 75, "{error}");
    let finished = attempt(&bench, "out", &[well()]).expect("it resumes");
    assert!(finished.resumed_blocks > 0);
    assert_same(&whole, &tables(&bench.path("out")), "after a stop");
}

/// A panic is a fault of ours: it ends the run, and nobody waits for the thread that had it.
#[test]
fn a_panic_in_one_worker_ends_the_run() {
    let bench = Bench::new(300);
    let whole = done(&bench, "whole", &[well()]);
    let panics = |after| Fault { panics_after: Some(after), ..Fault::default() };
    let steady = Fault { slow: Duration::from_millis(20), ..well() };
    for (out, faults) in [("one", vec![panics(6)]), ("three", vec![steady, panics(1), steady])] {
        let run = catch_unwind(AssertUnwindSafe(|| attempt(&bench, out, &faults)));
        assert!(run.is_err(), "{out}: the panic was lost");
        assert_same(&whole, &done(&bench, out, &[well()]), out);
    }
}
