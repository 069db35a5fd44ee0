//! An array of a thousand tasks on four nodes, of which one in twenty is killed. Oracle: the undisturbed
//! sweep; for the status, the blocks that the segments hold.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::{Bench, electrode, finish};
use crate::cluster::{alone, ask, at_work, wait};
use crate::figures::{cases, say};
use crate::sweeps::tables;

/// Sentences of 1000 blocks, and a few.
const SENTENCES: usize = 34_500;

fn plan(bench: &Bench, name: &str, task_blocks: u32) -> std::path::PathBuf {
    let (out, file) = (bench.path(name), bench.path(&format!("{name}.toml")));
    let text = format!(
        "name = \"{name}\"\nout = \"{}\"\nrun = \"{}\"\ntask_blocks = {task_blocks}\n\
         [[override]]\nwhen = {{}}\nset = {{ \"corpus.block_bytes\" = 1024, \"methods\" = [\"topctx\"], \
         \"capture.sites\" = [\"layers.1.mlp_act\"] }}\n\
         [slurm]\ngpus = 0\ncpus = 1\n",
        out.display(),
        bench.path("run.toml").display()
    );
    fs::write(&file, text).expect("written");
    let done = finish(electrode().args(["sweep", "plan"]).arg(&file));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    out
}

#[test]
fn a_thousand_tasks_of_which_some_are_killed() {
    let Some(_whole) = alone() else { return };
    let bench = Bench::new(SENTENCES * usize::try_from(cases(1, 10)).expect("small"));
    let alone = plan(&bench, "alone", 256);
    let sweep = |command: &str, out: &std::path::Path, more: &[&str]| {
        let done = finish(electrode().args(["sweep", command]).arg(out).args(more));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done.stdout
    };
    sweep("submit", &alone, &["--local", "2"]);
    let out = plan(&bench, "array", 1);
    let status =
        || -> Value { serde_json::from_str(&sweep("status", &out, &["--json"])).expect("JSON") };
    let tasks = status()["blocks"].as_u64().expect("a number");
    assert!(tasks >= cases(1000, 10_000), "{tasks} tasks");

    let begun = Instant::now();
    sweep("submit", &out, &[]);
    let (mut killed, mut polls, mut before) = (0, 0, 0);
    let in_queue = || ask("squeue", &["-h", "-r", "-o", "%i"]).lines().count();
    while in_queue() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(cases(600, 6000)), "{} left", in_queue());
        let done = status()["done"].as_u64().expect("a number");
        assert!((before..=tasks).contains(&done), "{done} after {before} of {tasks}");
        // One in twenty of all in the end, as they come.
        while killed * 16 < done {
            let Some(&one) = at_work(&out).last() else { break };
            let ended = Command::new("kill").args(["-KILL", &one.to_string()]).output();
            killed += u64::from(ended.expect("it starts").status.success());
        }
        (before, polls) = (done, polls + 1);
        std::thread::sleep(Duration::from_millis(500));
    }
    let missing = tasks - status()["done"].as_u64().expect("a number");
    assert!(killed * 20 >= tasks, "{killed} of {tasks} were killed");
    assert!(missing > 0 && missing <= killed, "{missing} missing, {killed} killed");
    sweep("resume", &out, &[]);
    wait("the rest and the merge", cases(200, 2000), || in_queue() == 0);
    let done = status()["done"].as_u64().expect("a number");
    assert_eq!(done, tasks);
    assert!(at_work(&out).is_empty());
    let (ours, reference) = (tables(&out), tables(&alone));
    assert_eq!(ours.keys().collect::<Vec<_>>(), reference.keys().collect::<Vec<_>>());
    assert!(!ours.is_empty() && ours == reference, "tables differ");
    say("slurm: tasks in arrays", tasks, 0);
    say("slurm: of these killed, complete after one resume", killed, 0);
    say("slurm: looks at the status while they ran", polls, 0);
}
