//! What happens to jobs, each thing once. Oracle: the undisturbed sweep, and what Slurm itself says of
//! the jobs: that the event took place, and that no task was submitted a second time for it.

use std::process::Command;
use std::time::Duration;

use crate::cluster::{alone, ask, at_work, beside, slurm_up, wait, wait_for_node};
use crate::figures::say;
use crate::sweeps::{LONG, MEDIUM, SHORT, Sweep};

/// One task and one merge were ever submitted.
fn assert_submitted_once(sweep: &Sweep) {
    let jobs = sweep.jobs("all");
    assert_eq!(jobs.len(), 2, "{jobs:?}");
}

fn on(node: &str) -> String {
    let others: Vec<String> =
        (0..4).map(|n| format!("n{n}")).filter(|other| other != node).collect();
    format!("gpus = 0\nextra = [\"--exclude={}\"]\n", others.join(","))
}

fn task_job(sweep: &Sweep) -> String {
    let jobs = sweep.jobs("all");
    jobs.into_iter().find(|(.., file)| file.starts_with("array")).expect("a task").0
}

/// The shortest limit there is. The notice comes up to a minute early; then the task asks by itself to
/// be queued again, for Slurm would not.
#[test]
fn a_time_limit_only_costs_time() {
    let Some(_share) = beside() else { return };
    let sweep = Sweep::plan("limit", LONG, &format!("time = \"1\"\nnotice = 30\n{}", on("n0")));
    sweep.submit();
    assert_eq!(sweep.finish(), 0, "it went on by itself");
    assert!(sweep.restarts() >= 1, "it was done before its time was up");
    assert_submitted_once(&sweep);
    say("slurm: time limits reached", u64::from(sweep.restarts()), 0);
}

/// The node is given up while its processes live on: two attempts write at a time.
#[test]
fn a_lost_network_makes_two_writers() {
    let Some(_share) = beside() else { return };
    let sweep = Sweep::plan("network", MEDIUM, &on("n1"));
    sweep.submit();
    sweep.wait_for_blocks();
    slurm_up(&["node-kill", "n1"]);
    ask("scontrol", &["update", "nodename=n1", "state=down", "reason=lost"]);
    let job = task_job(&sweep);
    wait("it is queued again", 60, || {
        sweep.live().iter().any(|one| one.0 == job && one.1 == "PENDING")
    });
    ask("scontrol", &["update", &format!("job={job}"), "ExcNodeList=n0,n1,n2"]);
    wait("two are at work", 60, || at_work(&sweep.out).len() == 2);
    // The merge wants that node as well.
    slurm_up(&["node-start", "n1"]);
    assert_eq!(sweep.finish(), 0);
    assert_eq!(sweep.restarts(), 1);
    assert_submitted_once(&sweep);
    wait_for_node("n1");
    say("slurm: nodes lost with their programs alive (two writers)", 1, 0);
}

/// The node and all that ran there are gone, and the controller finds out by itself.
#[test]
fn a_lost_node_is_made_up_for() {
    let Some(_share) = beside() else { return };
    let sweep = Sweep::plan("power", SHORT, &on("n2"));
    sweep.submit();
    sweep.wait_for_blocks();
    slurm_up(&["node-crash", "n2"]);
    wait("nothing of it lives on", 20, || at_work(&sweep.out).is_empty());
    wait("it is queued again", 90, || sweep.live().iter().all(|(_, state, _)| state == "PENDING"));
    slurm_up(&["node-start", "n2"]);
    assert_eq!(sweep.finish(), 0);
    assert_eq!(sweep.restarts(), 1);
    assert_submitted_once(&sweep);
    say("slurm: nodes crashed", 1, 0);
    wait_for_node("n2");

    let sweep = Sweep::plan("downed", SHORT, &on("n2"));
    sweep.submit();
    sweep.wait_for_blocks();
    ask("scontrol", &["update", "nodename=n2", "state=down", "reason=test"]);
    wait("it was queued again", 60, || sweep.restarts() == 1);
    // It may have come back by itself, which then is an error.
    let _ = Command::new("scontrol").args(["update", "nodename=n2", "state=resume"]).output();
    assert_eq!(sweep.finish(), 0);
    assert_submitted_once(&sweep);
    say("slurm: nodes set down", 1, 0);
}

/// With a grace time the notice comes first, and the task ends by itself; without one it is put out.
#[test]
fn pre_emption_with_and_without_notice() {
    let Some(_share) = beside() else { return };
    for (name, grace) in [("notice", 20), ("at-once", 0)] {
        ask("scontrol", &["update", "partition=spot", &format!("GraceTime={grace}")]);
        let slurm = "gpus = 2\npartition = \"spot\"\nnotice = 10\nextra = [\"--nodelist=n3\"]\n";
        let sweep = Sweep::plan(name, SHORT, slurm);
        sweep.submit();
        sweep.wait_for_blocks();
        let urgent =
            ["--parsable", "--output=/dev/null", "--gres=gpu:2", "--nodelist=n3", "--wrap=true"];
        let urgent = ask("sbatch", &urgent);
        wait("the urgent job ran", 60, || {
            let state = ask("squeue", &["-h", "-t", "all", "-j", urgent.trim(), "-o", "%T"]);
            state.trim() == "COMPLETED"
        });
        assert_eq!(sweep.finish(), 0, "{name}");
        assert!(sweep.restarts() >= 1, "{name}: it was not pre-empted");
        assert_submitted_once(&sweep);
        say(&format!("slurm: pre-emptions, {name}"), 1, 0);
    }
}

#[test]
fn a_requeue_goes_on() {
    let Some(_share) = beside() else { return };
    let sweep = Sweep::plan("requeued", SHORT, &on("n3"));
    sweep.submit();
    sweep.wait_for_blocks();
    ask("scontrol", &["requeue", &task_job(&sweep)]);
    assert_eq!(sweep.finish(), 0);
    assert_eq!(sweep.restarts(), 1, "once, and not a second time by itself");
    assert_submitted_once(&sweep);
    say("slurm: requeues by an operator", 1, 0);
}

/// A task that is taken off the queue is told to end as at a limit, and must not come back.
#[test]
fn what_is_cancelled_stays_cancelled() {
    let Some(_share) = beside() else { return };
    let sweep = Sweep::plan("cancelled", SHORT, &on("n3"));
    sweep.submit();
    sweep.wait_for_blocks();
    let done = sweep.sweep("cancel", &[]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "2 jobs taken off the queue\n"));
    wait("all is off the queue", 30, || sweep.live().is_empty());
    std::thread::sleep(Duration::from_secs(2));
    assert!(sweep.live().is_empty() && at_work(&sweep.out).is_empty(), "it came back");
    assert_eq!(sweep.restarts(), 0);
    let status = sweep.sweep("status", &[]);
    assert!(status.stdout.contains("CANCELLED"), "{}", status.stdout);
    assert_eq!(sweep.finish(), 1, "what is left is submitted once more");
    say("slurm: sweeps cancelled and resumed", 1, 0);
}

/// A task killed by the system fails; the merge finds its blocks missing, and says so.
#[test]
fn a_killed_task_is_resumed() {
    let Some(_share) = beside() else { return };
    let sweep = Sweep::plan("killed", SHORT, &on("n3"));
    sweep.submit();
    sweep.wait_for_blocks();
    for program in at_work(&sweep.out) {
        let killed = Command::new("kill").args(["-KILL", &program.to_string()]).status();
        assert!(killed.expect("it starts").success());
    }
    wait("the merge has been there", 60, || sweep.live().is_empty());
    let status = sweep.sweep("status", &[]);
    assert!(status.stdout.contains("FAILED"), "{}", status.stdout);
    let logs = std::fs::read_dir(sweep.out.join("logs")).expect("there").flatten();
    let merge = logs.map(|log| log.path()).find(|log| {
        log.file_name().is_some_and(|name| name.to_string_lossy().starts_with("merge-"))
    });
    let said = std::fs::read_to_string(merge.expect("a log")).expect("readable");
    assert!(said.contains("are missing"), "{said}");
    assert_eq!(sweep.finish(), 1);
    say("slurm: tasks killed", 1, 0);
}

/// What an operator does after a controller that knew too little has begun a job a second time: the node
/// refused it ("duplicate jobid"), which drains the node and holds the job.
fn mend(sweep: &Sweep) {
    let run = |arguments: &[&str]| {
        // Of nodes and jobs that need nothing, an error.
        let _ = Command::new("scontrol").args(arguments).output();
    };
    for _ in 0..8 {
        std::thread::sleep(Duration::from_secs(1));
        (0..4).for_each(|n| run(&["update", &format!("nodename=n{n}"), "state=resume"]));
        for (job, state, file) in sweep.live() {
            if state == "PENDING" && file.starts_with("array") {
                run(&["release", &job]);
            }
        }
    }
}

/// Jobs go on while nobody answers; a submission then fails as one to be repeated, and is in the queue
/// once in the end. A controller that is killed may forget jobs of its last seconds, which are then
/// resumed; it gives their numbers to others.
#[test]
fn a_controller_that_was_killed() {
    let Some(_whole) = alone() else { return };
    let (sweep, other) =
        (Sweep::plan("head", MEDIUM, &on("n3")), Sweep::plan("late", SHORT, &on("n2")));
    sweep.submit();
    sweep.wait_for_blocks();
    // Its state goes to the disk some seconds after it changed.
    std::thread::sleep(Duration::from_secs(6));
    slurm_up(&["controller-kill"]);
    let done = other.sweep("submit", &[]);
    assert_eq!(done.code, Some(75), "{}", done.stderr);
    assert_eq!(sweep.sweep("status", &[]).code, Some(0), "the disk says how far it is");
    slurm_up(&["start"]);
    mend(&sweep);
    other.submit();
    let forgotten = sweep.finish();
    assert!(forgotten <= 1, "resumed {forgotten} times");
    if forgotten == 0 {
        assert_submitted_once(&sweep);
    }
    assert_eq!(other.finish(), 0);
    assert_submitted_once(&other);
    say("slurm: controllers killed", 1, 0);
}
