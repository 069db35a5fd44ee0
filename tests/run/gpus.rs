//! Runs on several GPUs of the fake driver (tests/fake-cuda), with the real program.
//! Oracle: the same run on one GPU that is well. How many there are, which fails and when, and how
//! large the batches are changes no bit of a table.

use std::process::Command;

use super::{Bench, Finished, assert_same, finish, manifest, tables};

/// The program on so many GPUs; nothing where the fake could not be built.
fn on_gpus(bench: &Bench, out: &str, settings: &[(&str, &str)]) -> Option<Finished> {
    if !fake_cuda::library_dir().join("libcuda.so.1").exists() {
        eprintln!("skipped: {}", fake_cuda::reason_for_none());
        return None;
    }
    let mut command: Command = bench.command(out, &["--device", "cuda", "corpus.block_bytes=1024"]);
    command.env("LD_LIBRARY_PATH", fake_cuda::library_dir());
    command.env("ELECTRODE_KERNEL_IMAGES", fake_cuda::Fake::images());
    command.env_remove("CUDA_VISIBLE_DEVICES").envs(settings.iter().copied());
    if let Some(library) = fake_cuda::preload() {
        command.env("LD_PRELOAD", library);
    }
    Some(finish(&mut command))
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
