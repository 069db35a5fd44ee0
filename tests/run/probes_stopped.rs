//! `electrode probe` that is killed, told to stop, or loses devices, with the real binary.
//! Oracle: the run undisturbed, on one device. What earlier attempts and other devices did changes no bit.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::gpus::on_fake;
use super::probes::{RESULTS, command, probe, results};
use super::stopped::{signal, wait};
use super::{Bench, finish, snapshot};

/// Two sites more than a few devices have, quickly trained.
const SMALL: [&str; 7] = [
    "corpus.block_bytes=1024",
    "probes.epochs=2",
    "probes.seeds=[0]",
    "judge.retain=[1]",
    "judge.ablate=[0.5]",
    "judge.code_length=false",
    "penalties=[{ l1 = 1e-3 }]",
];
const CACHES: [&str; 3] = ["memory", "disk", "none"];

fn assert_same(whole: &[Vec<u8>], folder: &Path, what: &str) {
    for ((name, a), b) in RESULTS.iter().zip(whole).zip(results(folder)) {
        assert!(*a == b, "{what}: {name} differs");
    }
}

/// Bytes of the states of sites, beyond the heads of their files.
fn stored(folder: &Path) -> bool {
    snapshot(&folder.join("states/sites")).values().any(|bytes| bytes.len() > 1000)
}

#[test]
fn a_signal_ends_the_probes_with_75_and_they_go_on() {
    let bench = Bench::new(400);
    let done = probe(&bench, "whole", &[]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let whole = results(&bench.path("whole"));
    for cache in CACHES {
        let caches = format!("probes.cache={cache}");
        let mut child = command(&bench, cache, &[&caches]).spawn().expect("the program starts");
        assert!(wait(&mut child, || stored(&bench.path(cache))), "{cache}: a site is put away");
        signal(&child, "TERM");
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(75), "{cache}: {said}");
        assert!(said.contains("unfinished: stopped by a signal"), "{said}");
        assert!(!bench.path(cache).join("probes.parquet").exists());
        assert_eq!(bench.path(cache).join("activations/whole.json").exists(), cache == "disk");
        let done = probe(&bench, cache, &[&caches, "--threads=1"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(done.stdout.contains("sites from earlier attempts"), "{}", done.stdout);
        assert_same(&whole, &bench.path(cache), cache);
        assert!(!bench.path(cache).join("activations").exists(), "files go with the run");
    }
}

/// Where the model runs at each pass, an epoch is lost and not the epochs before it.
#[test]
fn training_goes_on_after_its_last_epoch() {
    let bench = Bench::new(120);
    for solver in ["adam", "fista"] {
        let solvers = format!("probes.solver={solver}");
        let few = ["probes.epochs=60", "probes.iterations=60", "probes.tolerance=1e-9"];
        let only = ["probes.cache=none", "judge.retain=[]", &solvers];
        let more = [&SMALL[..], &few, &only].concat();
        let done = probe(&bench, &format!("whole-{solver}"), &more);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let whole = results(&bench.path(&format!("whole-{solver}")));
        let out = bench.path(solver);
        let mut child = command(&bench, solver, &more).spawn().expect("the program starts");
        assert!(wait(&mut child, || out.join("states/training/from-0.banks").exists()));
        child.kill().expect("it can be killed");
        assert!(!child.wait().expect("it ends").success(), "most of the epochs were before it");
        assert!(!stored(&out), "no site is done");
        let mut again = command(&bench, solver, &more);
        let done = finish(again.env("ELECTRODE_LOG", "electrode=info"));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_eq!(done.stderr.matches("training goes on").count(), 4, "{}", done.stderr);
        assert_same(&whole, &out, solver);
    }
}

/// Times are random over the length of a whole run, so that kills meet every stage.
#[test]
fn kills_change_no_bit_of_the_probes() {
    let bench = Bench::new(200);
    let clock = Instant::now();
    let done = probe(&bench, "whole", &[]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let (length, whole) = (clock.elapsed(), results(&bench.path("whole")));
    let (mut seed, mut killed) = (2026_u64, 0);
    for cache in CACHES {
        let caches = format!("probes.cache={cache}");
        for _ in 0..6 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            let share = (seed >> 40) as f64 / f64::from(1_u32 << 24);
            let mut child = command(&bench, cache, &[&caches]).spawn().expect("it starts");
            std::thread::sleep(length.mul_f64(share).max(Duration::from_millis(20)));
            child.kill().expect("it can be killed");
            killed += u32::from(!child.wait().expect("it ends").success());
        }
        let done = probe(&bench, cache, &[&caches]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_same(&whole, &bench.path(cache), cache);
    }
    assert!(killed > 6, "{killed} attempts were killed");
}

/// Files of activations that are torn, or of another run, are made again.
#[test]
fn files_that_do_not_fit_are_made_again() {
    let bench = Bench::new(120);
    let more = [&SMALL[..], &["probes.cache=disk"]].concat();
    let done = probe(&bench, "whole", &more);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let whole = results(&bench.path("whole"));
    for damage in ["torn", "other"] {
        let folder = bench.path(damage);
        let mut child = command(&bench, damage, &more).spawn().expect("the program starts");
        wait(&mut child, || folder.join("activations/whole.json").exists());
        child.kill().expect("it can be killed");
        if child.wait().expect("it ends").success() {
            continue;
        }
        let (file, note) = ("activations/rows-1.f32", "activations/whole.json");
        let path = folder.join(if damage == "torn" { file } else { note });
        let mut bytes = fs::read(&path).expect("it is there");
        match damage {
            "torn" => bytes.truncate(bytes.len() - 4),
            _ => {
                let text = String::from_utf8(bytes).expect("JSON");
                bytes = text.replace("\"rows\": 1", "\"rows\": 2").into_bytes();
            }
        }
        fs::write(&path, bytes).expect("written");
        let done = probe(&bench, damage, &more);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_same(&whole, &folder, damage);
    }
}

#[test]
fn one_two_and_three_gpus_give_the_same_probes() {
    let bench = Bench::new(60);
    let more = [&SMALL[..], &["--device", "cuda"]].concat();
    let Some(one) = on_fake(&mut command(&bench, "one", &more), &[]) else { return };
    assert_eq!(one.code, Some(0), "{}", one.stderr);
    let whole = results(&bench.path("one"));
    for (count, cache) in [("2", "memory"), ("3", "disk"), ("2", "none"), ("3", "memory")] {
        let out = format!("{count}-{cache}");
        let caches = format!("probes.cache={cache}");
        let more = [&more[..], &[&caches]].concat();
        let devices = [("FAKECUDA_DEVICES", count)];
        let done = on_fake(&mut command(&bench, &out, &more), &devices).expect("as above");
        assert_eq!(done.code, Some(0), "{out}: {}", done.stderr);
        assert_same(&whole, &bench.path(&out), &out);
    }
}

/// All sites side by side are one device's, the others share the rest.
#[test]
fn all_sites_together_are_the_same_on_two_gpus() {
    let bench = Bench::new(60);
    let more = [&SMALL[..], &["--device", "cuda", "probes.all_sites=true"]].concat();
    let Some(one) = on_fake(&mut command(&bench, "one", &more), &[]) else { return };
    assert_eq!(one.code, Some(0), "{}", one.stderr);
    let whole = results(&bench.path("one"));
    let two = on_fake(&mut command(&bench, "two", &more), &[("FAKECUDA_DEVICES", "2")]);
    assert_eq!(two.expect("as above").code, Some(0));
    assert_same(&whole, &bench.path("two"), "two GPUs");
}

/// 719: a kernel failed, and nothing works on that device any more.
#[test]
fn a_gpu_that_is_lost_costs_the_site_it_was_at() {
    let bench = Bench::new(60);
    let more = [&SMALL[..], &["--device", "cuda"]].concat();
    let Some(one) = on_fake(&mut command(&bench, "one", &more), &[]) else { return };
    assert_eq!(one.code, Some(0), "{}", one.stderr);
    let whole = results(&bench.path("one"));
    let settings = [("FAKECUDA_DEVICES", "2"), ("FAKECUDA_FAIL", "1:40:719")];
    let done = on_fake(&mut command(&bench, "lost", &more), &settings).expect("as above");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("device given up"), "{}", done.stderr);
    assert_same(&whole, &bench.path("lost"), "one of two GPUs");
    // Alone: each attempt gets a little further.
    for cache in CACHES {
        let caches = format!("probes.cache={cache}");
        let more = [&more[..], &[&caches]].concat();
        let mut launches = 40;
        loop {
            let fail = format!("0:{launches}:719");
            let settings = [("FAKECUDA_FAIL", fail.as_str())];
            let done = on_fake(&mut command(&bench, cache, &more), &settings).expect("as above");
            if done.code == Some(0) {
                break;
            }
            assert_eq!(done.code, Some(76), "{}", done.stderr);
            launches += launches / 2;
            assert!(launches < 1_000_000, "it never ends");
        }
        assert_same(&whole, &bench.path(cache), cache);
    }
}
