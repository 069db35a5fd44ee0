//! Runs on several GPUs of the fake driver (tests/fake-cuda), with the real program.
//! Oracle: the same run on one GPU that is well. How many there are, which fails and when, and how
//! large the batches are changes no bit of a table.

use std::process::Command;

use super::{Bench, Finished, assert_same, finish, manifest, tables};
use crate::cuda::give_driver;

/// The command on the fake driver with these settings; nothing where it could not be built.
pub(crate) fn on_fake(command: &mut Command, settings: &[(&str, &str)]) -> Option<Finished> {
    give_driver(command, fake_cuda::library_dir()).then(|| {
        let command = command.envs(settings.iter().copied());
        finish(command)
    })
}

/// The program on so many GPUs.
fn on_gpus(bench: &Bench, out: &str, settings: &[(&str, &str)]) -> Option<Finished> {
    let more = ["--device", "cuda", "corpus.block_bytes=1024"];
    on_fake(&mut bench.command(out, &more), settings)
}

const SENTENCES: usize = 150;

#[test]
fn one_two_and_three_gpus_give_the_same_bits() {
    let bench = Bench::new(SENTENCES);
    let Some(one) = on_gpus(&bench, "one", &[]) else { return };
    assert_eq!(one.code, Some(0), "{}", one.stderr);
    for count in ["2", "3"] {
        let done = on_gpus(&bench, count, &[("FAKECUDA_DEVICES", count)]).expect("as above");
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let (one, other) = (tables(&bench.path("one")), tables(&bench.path(count)));
        assert_same(&one, &other, &format!("{count} GPUs"));
        let manifest = manifest(&bench.path(count));
        assert_eq!(manifest["devices"][0]["count"].to_string(), count, "{}", manifest["devices"]);
        assert!(manifest["plan"]["blocks"].as_u64().is_some_and(|blocks| blocks >= 4));
    }
}

/// 719: a kernel failed, and nothing works on that device any more.
#[test]
fn a_gpu_that_is_lost_on_the_way_costs_its_block_alone() {
    let bench = Bench::new(SENTENCES);
    let Some(one) = on_gpus(&bench, "one", &[]) else { return };
    assert_eq!(one.code, Some(0), "{}", one.stderr);
    let whole = tables(&bench.path("one"));
    for (out, fail) in [("first", "0:150:719"), ("second", "1:40:719")] {
        let settings = [("FAKECUDA_DEVICES", "2"), ("FAKECUDA_FAIL", fail)];
        let done = on_gpus(&bench, out, &settings).expect("as above");
        assert_eq!(done.code, Some(0), "{out}: {}", done.stderr);
        assert!(done.stderr.contains("device given up"), "{out}: {}", done.stderr);
        assert_same(&whole, &tables(&bench.path(out)), out);
    }
    let alone = on_gpus(&bench, "alone", &[("FAKECUDA_FAIL", "0:150:719")]).expect("as above");
    assert_eq!(alone.code, Some(76), "{}", alone.stderr);
    assert!(alone.stderr.contains("error: cuda:0"), "{}", alone.stderr);
    let again = on_gpus(&bench, "alone", &[]).expect("as above");
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stdout.contains("blocks from earlier attempts"), "{}", again.stdout);
    assert_same(&whole, &tables(&bench.path("alone")), "after the only GPU was lost");
}

/// Work that the device has not been waited for is done late, and streams take turns at random: no
/// event may be missing.
#[test]
fn late_streams_change_no_bit_of_a_run() {
    let bench = Bench::new(SENTENCES);
    let Some(one) = on_gpus(&bench, "one", &[]) else { return };
    assert_eq!(one.code, Some(0), "{}", one.stderr);
    let whole = tables(&bench.path("one"));
    for (seed, devices) in [("1", "1"), ("2", "1"), ("3", "2")] {
        let lazy = [("FAKECUDA_LAZY", "1"), ("FAKECUDA_SEED", seed), ("FAKECUDA_DEVICES", devices)];
        let done = on_gpus(&bench, seed, &lazy).expect("as above");
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(!done.stderr.contains("fake cuda:"), "{}", done.stderr);
        assert_same(&whole, &tables(&bench.path(seed)), &format!("late, turns of {seed}"));
    }
}

/// By default the device's own size, which is a whole block here.
#[test]
fn the_size_of_batches_changes_no_bit_on_a_gpu() {
    let bench = Bench::new(SENTENCES);
    let Some(one) = on_gpus(&bench, "one", &[]) else { return };
    assert_eq!(one.code, Some(0), "{}", one.stderr);
    let some = tables(&bench.path("one"));
    let run = std::fs::read_to_string(bench.path("run.toml")).expect("readable");
    for (out, line) in [("32", "batch_tokens = 32\n"), ("default", "")] {
        let run = run.replace("batch_tokens = 256\n", line);
        std::fs::write(bench.path("run.toml"), run).expect("written");
        let done = on_gpus(&bench, out, &[]).expect("as above");
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_same(&some, &tables(&bench.path(out)), &format!("{out} tokens"));
    }
}
