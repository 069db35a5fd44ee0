//! An experiment on GPUs of the fake driver (tests/fake-cuda), with the real program. Oracle: the same
//! experiment on one GPU that is well, to the bit; what `--dry-run` counts, against where memory ends.

use std::process::Command;

use super::devices::{Bench, Left, assert_same, left};
use crate::run::gpus::on_fake;
use crate::run::{Finished, electrode};

const METHODS: &str = r#""gradact:where=answer", "ablate:how=resample,where=answer", "kn:steps=3",
    "attrpatch", "diffmask:steps=2""#;
/// What does not fill a large batch with copies, which takes the fake driver long.
const FEW: &str = r#""gradact:where=answer", "attrpatch", "diffmask:steps=2""#;
const SMALLER: &str = "goes on with smaller batches";

fn command(bench: &Bench, out: &str, more: &[&str]) -> Command {
    let mut command = electrode();
    command.arg("stimulate").arg(bench.path("experiment.toml"));
    command.arg(format!("out={:?}", bench.path(out).display().to_string()));
    command.args(["--device=cuda", "questions.limit=12", "neurons.block=3"]).args(more);
    command
}

fn run(bench: &Bench, out: &str, settings: &[(&str, &str)]) -> Option<Finished> {
    on_fake(&mut command(bench, out, &[]), settings)
}

fn whole(bench: &Bench) -> Option<Left> {
    let one = run(bench, "whole", &[])?;
    assert_eq!(one.code, Some(0), "{}", one.stderr);
    assert!(!one.stderr.contains(SMALLER), "{}", one.stderr);
    Some(left(&bench.path("whole")))
}

#[test]
fn one_two_and_three_gpus_give_the_same_bits() {
    let bench = Bench::new(METHODS);
    let Some(whole) = whole(&bench) else { return };
    for count in ["2", "3"] {
        let done = run(&bench, count, &[("FAKECUDA_DEVICES", count)]).expect("as above");
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_same(&whole, &left(&bench.path(count)), &format!("{count} GPUs"));
    }
}

/// 719: a kernel failed, and nothing works on that device any more.
#[test]
fn a_gpu_that_is_lost_on_the_way_costs_its_block_alone() {
    let bench = Bench::new(METHODS);
    let Some(whole) = whole(&bench) else { return };
    for (out, fail) in [("first", "0:400:719"), ("second", "1:40:719")] {
        let settings = [("FAKECUDA_DEVICES", "2"), ("FAKECUDA_FAIL", fail)];
        let done = run(&bench, out, &settings).expect("as above");
        assert_eq!(done.code, Some(0), "{out}: {}", done.stderr);
        assert!(done.stderr.contains("device given up"), "{out}: {}", done.stderr);
        assert_same(&whole, &left(&bench.path(out)), out);
    }
    let alone = run(&bench, "alone", &[("FAKECUDA_FAIL", "0:900:719")]).expect("as above");
    assert_eq!(alone.code, Some(76), "{}", alone.stderr);
    assert!(alone.stderr.contains("error: cuda:0"), "{}", alone.stderr);
    let again = run(&bench, "alone", &[]).expect("as above");
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_same(&whole, &left(&bench.path("alone")), "after the only GPU was lost");
}

/// Nearly all memory is the buffers of a batch, which follow its size. The plan says where it ends, but
/// for what the driver's own lists take.
#[test]
fn batches_get_smaller_where_the_plan_says_so() {
    let bench = Bench::new(FEW);
    let large = ["neurons.batch_tokens=4096"];
    let dry = |settings: &[(&str, &str)]| {
        let more = [&large[..], &["--dry-run"]].concat();
        on_fake(&mut command(&bench, "none", &more), settings)
    };
    let Some(planned) = dry(&[]) else { return };
    assert_eq!(planned.code, Some(0), "{}", planned.stderr);
    assert!(!bench.path("none").exists(), "a dry run leaves nothing");
    let line = planned.stdout.lines().find(|line| line.starts_with("# cuda:0")).expect("a plan");
    assert!(line.contains("transposed") && line.contains("kept of a batch"), "{line}");
    let mib: f64 = line
        .split_once("): ")
        .and_then(|(_, after)| after.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{line}"));
    let bytes = |share: f64| format!("{:.0}", share * mib * 1_048_576.0);
    let little = bytes(0.6);
    let said = dry(&[("FAKECUDA_MEMORY", &little)]).expect("as above");
    assert!(said.stdout.contains("not all fits, batches get smaller"), "{}", said.stdout);
    let go = |out: &str, settings: &[(&str, &str)]| {
        let done = on_fake(&mut command(&bench, out, &large), settings).expect("as above");
        assert_eq!(done.code, Some(0), "{out}: {}", done.stderr);
        (done.stderr, left(&bench.path(out)))
    };
    let (stderr, enough) = go("enough", &[("FAKECUDA_MEMORY", &bytes(1.3))]);
    assert!(!stderr.contains(SMALLER), "{mib} MiB were planned: {stderr}");
    let (stderr, short) = go("short", &[("FAKECUDA_MEMORY", &little)]);
    assert!(stderr.contains("not all fits") && stderr.contains(SMALLER), "{stderr}");
    assert_same(&enough, &short, "little memory");
    let shrink = format!("0:300:{little}");
    let (stderr, shrunk) = go("shrunk", &[("FAKECUDA_SHRINK", &shrink)]);
    assert!(stderr.contains(SMALLER), "{stderr}");
    assert_same(&enough, &shrunk, "memory that went away");
    let none = on_fake(&mut command(&bench, "no", &large), &[("FAKECUDA_MEMORY", "300000")]);
    let none = none.expect("as above");
    assert_eq!(none.code, Some(75), "{}", none.stderr);
}
