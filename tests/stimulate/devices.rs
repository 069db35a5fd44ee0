//! An experiment on many devices, some of them faulty. Oracle: the same experiment on one processor
//! that is well. How many devices there are, which of them fails, when, and how large its batches are
//! changes no bit of a table.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use electrode::error::Result;
use electrode::run::questions::{Answered, Experiment, ExperimentConfig, stimulate, stimulate_on};
use tempfile::TempDir;

use crate::run::faulty_device::{Fault, FaultyDevice};
use crate::run::tiny;

/// Questions to the tiny model: prompts of 4 to 11 words, an answer, a wrong one, a second prompt, two
/// groups and a number.
pub(super) fn questions(count: usize) -> String {
    let word = |at: usize| format!("w{}", (at * 7 + at / 3) % 40);
    let text = |seed: usize, length: usize| -> String {
        (0..length).map(|i| word(seed * 13 + i)).collect::<Vec<_>>().join(" ")
    };
    let line = |at: usize| {
        let length = 4 + at % 8;
        let question = serde_json::json!({
            "prompt": text(at, length), "answer": word(at), "wrong": word(at + 1),
            "second": text(at + 50, length), "group": if at.is_multiple_of(2) { "even" } else { "odd" },
            "number": (at * at) % 11,
        });
        format!("{question}\n")
    };
    (0..count).map(line).collect()
}

/// A folder with the tiny model, its questions and an experiment of every kind of pass.
pub(super) struct Bench {
    folder: TempDir,
}

impl Bench {
    pub(super) fn new(methods: &str) -> Self {
        let bench = Self { folder: tempfile::tempdir().expect("a folder") };
        tiny::write_model(&bench.path("model"));
        fs::write(bench.path("q.jsonl"), questions(30)).expect("written");
        let root = bench.folder.path().display();
        let text = format!(
            r#"
name = "many devices"
out = "{root}/out"
methods = [{methods}]
[model]
path = "{root}/model"
[questions]
files = ["{root}/q.jsonl"]
wrong = "wrong"
counterfactual = "second"
group = "group"
quantity = "number"
[neurons]
block = 5
batch_tokens = 64
[judge]
sizes = [1, 3]
random = 1
greedy = 1
candidates = 2
steer = [2]
[probe]
align = "end"
[device]
commit_seconds = 0
"#
        );
        fs::write(bench.path("experiment.toml"), text).expect("written");
        bench
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn experiment(&self, out: &str) -> Experiment {
        let overrides =
            [format!("out={:?}", self.path(out).display().to_string()), "device.name=cpu".into()];
        let config = ExperimentConfig::load(&self.path("experiment.toml"), &overrides);
        Experiment::new(config.expect("a good file")).expect("opens")
    }

    /// On devices with these faults.
    fn attempt(&self, out: &str, faults: &[Fault]) -> Result<Answered> {
        let slot = |(i, fault): (usize, &Fault)| FaultyDevice::slot(format!("test:{i}"), *fault);
        let slots = faults.iter().enumerate().map(slot).collect();
        let stop = AtomicBool::new(false);
        stimulate_on(&self.experiment(out), slots, &stop, &mut |_, _, _| {})
    }

    /// To the end: what it leaves.
    fn done(&self, out: &str, faults: &[Fault]) -> Left {
        self.attempt(out, faults).unwrap_or_else(|error| panic!("{out}: {error}"));
        left(&self.path(out))
    }

    /// On the processor.
    fn undisturbed(&self) -> Left {
        let stop = AtomicBool::new(false);
        stimulate(&self.experiment("whole"), &stop, &mut |_, _, _| {}).expect("runs");
        left(&self.path("whole"))
    }
}

/// Tables and gates by name.
pub(super) type Left = BTreeMap<String, Vec<u8>>;

/// What an experiment leaves beside its manifest and its page.
pub(super) fn left(folder: &Path) -> Left {
    let entries = fs::read_dir(folder).expect("a folder");
    let files = entries.map(|entry| entry.expect("its entries too").path());
    let of = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        let kept = name.ends_with(".parquet") || name.starts_with("gates-");
        kept.then(|| (name, fs::read(&path).expect("readable")))
    };
    files.filter_map(of).collect()
}

pub(super) fn assert_same(a: &Left, b: &Left, what: &str) {
    assert!(a.len() >= 4 && a.keys().eq(b.keys()), "{what}: {:?}, {:?}", a.keys(), b.keys());
    for (name, bytes) in a {
        assert!(*bytes == b[name], "{what}: {name} differs");
    }
}

/// Every kind of pass, and of copies of a batch.
pub(super) const METHODS: &str = r#""gradact:where=answer", "ablate:how=resample",
    "ablate:how=mean,where=answer,metric=kl", "ablate:metric=cosine", "kn:steps=3,metric=prob",
    "patch:top=4", "attrpatch:steps=2", "logprob-inc:exact=3", "diag-weights",
    "diffmask:steps=4,towards=learn", "diffmask:mode=flip,steps=3""#;

fn well() -> Fault {
    Fault::default()
}

fn fails_after(batches: usize) -> Fault {
    Fault { fails_after: Some(batches), ..Fault::default() }
}

#[test]
fn one_two_and_three_devices_give_the_same_bits() {
    let bench = Bench::new(METHODS);
    let whole = bench.undisturbed();
    assert!(whole.contains_key("gates-10.json") && whole.contains_key("time.parquet"));
    for count in [1, 2, 3] {
        let out = count.to_string();
        assert_same(&whole, &bench.done(&out, &vec![well(); count]), &format!("{count} devices"));
    }
    let slow = |ms| Fault { slow: Duration::from_millis(ms), ..well() };
    assert_same(&whole, &bench.done("slow", &[slow(3), slow(0), slow(1)]), "uneven devices");
}

/// Prompts have at most 11 words, the budget is 64. At opening, and at a batch of every pass.
#[test]
fn a_device_out_of_memory_gets_smaller_batches() {
    let bench = Bench::new(METHODS);
    let whole = bench.undisturbed();
    for (most, from) in [(40, 0), (33, 0), (31, 0), (33, 2), (33, 9), (33, 60), (33, 200)] {
        let fault = Fault { rows_from: Some((most, from)), ..well() };
        let out = format!("{most}-{from}");
        assert_same(&whole, &bench.done(&out, &[fault]), &out);
    }
    let fault = Fault { rows_from: Some((35, 30)), ..well() };
    assert_same(&whole, &bench.done("two", &[well(), fault]), "one of two");
}

/// In the survey, in the methods, in the search of gates, while judging.
#[test]
fn a_device_that_fails_is_dropped_and_its_block_done_by_another() {
    let bench = Bench::new(METHODS);
    let whole = bench.undisturbed();
    for after in [0, 1, 5, 40, 150, 400] {
        for faults in [[fails_after(after), well()], [well(), fails_after(after)]] {
            let out = format!("{after}-{}", faults[0].fails_after.is_some());
            assert_same(&whole, &bench.done(&out, &faults), &out);
        }
    }
    let manifest = fs::read_to_string(bench.path("0-true/manifest.json")).expect("a manifest");
    assert!(manifest.contains("device test:0 failed on the way"), "{manifest}");
}

#[test]
fn when_the_only_one_fails_what_is_done_is_kept() {
    let bench = Bench::new(METHODS);
    let whole = bench.undisturbed();
    let mut attempts = 0;
    // What is read for probes is read again by each attempt, and does not fit in fewer.
    for after in [2, 30, 60, 90, 120, 150, 180, 210, 240] {
        match bench.attempt("out", &[fails_after(after)]) {
            Ok(_) => break,
            Err(error) => assert_eq!(error.exit_code(), 76, "{error}"),
        }
        attempts += 1;
    }
    assert!(attempts > 2, "{attempts}");
    let mut shares = Vec::new();
    let slots = vec![FaultyDevice::slot("well".into(), well())];
    let mut progress = |stage, _: u64, share: f64| shares.push((stage, share));
    let stop = AtomicBool::new(false);
    stimulate_on(&bench.experiment("out"), slots, &stop, &mut progress).expect("it resumes");
    let first = shares.iter().find(|(stage, _)| *stage == "asking").expect("a pass");
    assert!(first.1 > 0.2, "nothing was kept: {shares:?}");
    assert_same(&whole, &left(&bench.path("out")), "after the only device had failed");
}

#[test]
fn no_room_for_a_question_is_75_and_a_stop_too_and_both_resume() {
    let bench = Bench::new(METHODS);
    let whole = bench.undisturbed();
    for from in [0, 25, 300] {
        let fault = Fault { rows_from: Some((10, from)), ..well() };
        let error = bench.attempt("out", &[fault]).expect_err("no room");
        assert_eq!(error.exit_code(), 75, "{error}");
        assert!(error.to_string().contains("out of memory"), "{error}");
    }
    for until in [0.1, 0.5] {
        let stop = AtomicBool::new(false);
        let slots = (0..3).map(|i| FaultyDevice::slot(i.to_string(), well())).collect();
        let mut report = |_: &'static str, _: u64, share: f64| {
            stop.fetch_or(share > until && share < 1.0, Ordering::Relaxed);
        };
        let error = stimulate_on(&bench.experiment("out"), slots, &stop, &mut report);
        assert_eq!(error.expect_err("it was stopped").exit_code(), 75);
    }
    assert_same(&whole, &bench.done("out", &[well(), well()]), "after the stops");
}
