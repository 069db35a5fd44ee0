//! GPUs of the fake driver with too little memory, with the real program.
//! Oracle: the same run with enough. Where memory ends, and when, changes no bit of a table.

use std::process::Command;

use super::gpus::on_fake;
use super::{Bench, Finished, assert_same, tables};

/// Nearly all memory is the workspace of the forward pass, which follows the size of the batch. One
/// batch calibrates, so that the first block is the first to need the second half of the uploads.
const LARGE: [&str; 4] = [
    "--device=cuda",
    "statistics.batch_tokens=8192",
    "statistics.calibration_rows=64",
    "corpus.block_bytes=1024",
];
/// The uploads' two halves, the model, and the workspace of a small batch; of the large one no more
/// than a third.
const LITTLE: &str = "11500000";
/// Not even the lists of one batch.
const NONE: &str = "4000000";
const SMALLER: &str = "goes on with smaller batches";

fn command(bench: &Bench, out: &str) -> Command {
    bench.command(out, &LARGE)
}

fn undisturbed(bench: &Bench) -> Option<Finished> {
    let done = on_fake(&mut command(bench, "whole"), &[])?;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(!done.stderr.contains(SMALLER), "{}", done.stderr);
    Some(done)
}

#[test]
fn batches_get_smaller_until_there_is_room() {
    let bench = Bench::new(150);
    if undisturbed(&bench).is_none() {
        return;
    }
    let done = on_fake(&mut command(&bench, "out"), &[("FAKECUDA_MEMORY", LITTLE)]);
    let done = done.expect("as above");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains(SMALLER), "{}", done.stderr);
    assert_same(&tables(&bench.path("whole")), &tables(&bench.path("out")), "little memory");
}

/// Somebody else takes the memory after the calibration: the block begins again, on the same device.
#[test]
fn memory_that_goes_away_inside_a_block_costs_no_bit() {
    let bench = Bench::new(150);
    if undisturbed(&bench).is_none() {
        return;
    }
    let settings = [("FAKECUDA_SHRINK", "0:1:11500000")];
    let mut command = command(&bench, "out");
    command.env("ELECTRODE_LOG", "electrode=debug");
    let done = on_fake(&mut command, &settings).expect("as above");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let block = done.stderr.find("block taken").expect("blocks are told");
    let smaller = done.stderr.rfind(SMALLER).unwrap_or_else(|| panic!("{}", done.stderr));
    assert!(block < smaller, "it happened before the first block: {}", done.stderr);
    assert_same(&tables(&bench.path("whole")), &tables(&bench.path("out")), "shrunk");
}

/// The message says which device, what was asked and what there was, and what to do; nothing done so
/// far is lost.
#[test]
fn no_room_for_one_sequence_is_75_and_resumes() {
    let bench = Bench::new(150);
    if undisturbed(&bench).is_none() {
        return;
    }
    for (i, settings) in [
        [("FAKECUDA_MEMORY", NONE)],
        [("FAKECUDA_SHRINK", "0:1:4000000")],
        [("FAKECUDA_REFUSE", "0:cuEventCreate:2")],
    ]
    .into_iter()
    .enumerate()
    {
        let out = i.to_string();
        let done = on_fake(&mut command(&bench, &out), &settings).expect("as above");
        assert_eq!(done.code, Some(75), "{settings:?}: {}", done.stderr);
        let last = done.stderr.find("error: cuda:0").unwrap_or_else(|| panic!("{}", done.stderr));
        let said = &done.stderr[last..];
        assert!(said.contains("remedy: make room on the device"), "{said}");
        let words: &[&str] = match i {
            2 => &["cuEventCreate failed: CUDA_ERROR_OUT_OF_MEMORY"],
            _ => &["out of memory: ", " MiB more were asked for, ", " MiB are held and ", "free"],
        };
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        let again = on_fake(&mut command(&bench, &out), &[]).expect("as above");
        assert_eq!(again.code, Some(0), "{}", again.stderr);
        assert_same(&tables(&bench.path("whole")), &tables(&bench.path(&out)), "with room again");
    }
}

#[test]
fn another_gpu_does_the_work_of_one_without_room() {
    let bench = Bench::new(150);
    if undisturbed(&bench).is_none() {
        return;
    }
    let settings = [("FAKECUDA_DEVICES", "2"), ("FAKECUDA_SHRINK", "1:0:4000000")];
    let done = on_fake(&mut command(&bench, "out"), &settings).expect("as above");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("device given up"), "{}", done.stderr);
    assert_same(&tables(&bench.path("whole")), &tables(&bench.path("out")), "one without room");
}
