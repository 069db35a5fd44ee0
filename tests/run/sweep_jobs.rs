//! Sweeps as jobs of a cluster. Oracle: the options that Slurm documents, and programs of the names of
//! Slurm's that write down how they are called. tests/slurm asks a real one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::sweep::{plan_of, planned, sweep, sweep_file};
use super::{Bench, Finished, electrode, finish};

/// Programs of the names that Slurm's have: they write down how they are called.
fn cluster(bench: &Bench, queue: &str) -> (PathBuf, PathBuf) {
    let (bin, log) = (bench.path("bin"), bench.path("calls"));
    fs::create_dir_all(&bin).expect("made");
    for (name, says) in [
        ("sbatch", "echo 41\"$(wc -l < LOG)\"\";cluster\""),
        ("squeue", &format!("printf '{queue}'")[..]),
        ("scancel", ":"),
        (
            "sacct",
            "for job in $(echo $5 | tr , ' '); do echo \"${job}_0|OUT_OF_MEMORY|0:125|node1\"; done",
        ),
        ("sinfo", "echo node1; echo node3"),
        ("scontrol", "echo 'MaxArraySize            = 5'"),
    ] {
        let says = says.replace("LOG", &log.display().to_string());
        let text = format!("#!/bin/sh\necho {name} \"$@\" >> {}\n{says}\n", log.display());
        fs::write(bin.join(name), text).expect("written");
        let all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(bin.join(name), all).expect("set");
    }
    (bin, log)
}

fn on_cluster(bin: &Path, arguments: &[&str]) -> Finished {
    let path = std::env::var("PATH").expect("there is one");
    let mut command: Command = electrode();
    command.env("PATH", format!("{}:{path}", bin.display()));
    finish(command.arg("sweep").args(arguments))
}

#[test]
fn arrays_are_cut_and_a_merge_waits_behind_them() {
    let bench = Bench::new(300);
    let slurm = "[slurm]\ngpus = 2\ncpus = 3\nlimit = 7\nsetup = [\"module load cuda\"]\n\
                 extra = [\"--constraint=h100\"]\nrequeues = 5\nnotice = 90\n";
    let file = sweep_file(&bench, "sweep", "");
    let text = fs::read_to_string(&file).expect("just written");
    fs::write(&file, format!("{text}\n{slurm}")).expect("written");
    let done = sweep(&["plan", &file.display().to_string()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let out = bench.path("sweep").display().to_string();
    let tasks = plan_of(&out)["tasks"].as_array().expect("a list").len();
    let (bin, log) = cluster(&bench, "");
    let arguments = ["submit", &out, "--partition", "gpu", "--time", "2:00:00"];
    let done = on_cluster(&bin, &arguments);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let calls = fs::read_to_string(&log).expect("it was called");
    let submitted: Vec<&str> = calls.lines().filter(|line| line.starts_with("sbatch")).collect();
    // MaxArraySize 5: indices 0 to 3.
    assert_eq!(submitted.len(), tasks.div_ceil(4) + 1, "{calls}");
    let last = submitted.last().expect("the merge");
    assert!(last.contains("--dependency=afterany:41"), "{last}");
    assert_eq!(last.matches(":41").count(), submitted.len() - 1, "{last}");
    let job = fs::read_to_string(Path::new(&out).join("jobs/array-000.sbatch")).expect("there");
    for line in [
        "#SBATCH --array=0-3%7",
        "#SBATCH --partition=gpu",
        "#SBATCH --time=2:00:00",
        "#SBATCH --gpus-per-task=2",
        "#SBATCH --cpus-per-task=3",
        "#SBATCH --constraint=h100",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "#SBATCH --signal=B:USR1@90",
        "#SBATCH --kill-on-invalid-dep=yes",
        "module load cuda",
    ] {
        assert!(job.lines().any(|one| one == line), "{line} is not in\n{job}");
    }
    let run = job.lines().last().expect("a last line");
    assert!(run.starts_with("exec ") && run.contains("--requeues 5"), "{run}");
    let listed = fs::read_to_string(Path::new(&out).join("jobs/array-000.tasks")).expect("there");
    assert_eq!(listed, "0\n1\n2\n3\n");
    // What the array's second index does: the task in that line.
    let list = Path::new(&out).join("jobs/array-000.tasks").display().to_string();
    let done = sweep(&["task", &out, "--list", &list, "--index", "1"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.starts_with("task 1: "), "{}", done.stdout);
}

#[test]
fn nothing_is_submitted_twice() {
    let bench = Bench::new(60);
    let out = planned(&bench, "sweep");
    let tasks = plan_of(&out)["tasks"].as_array().expect("a list").len();
    let jobs = Path::new(&out).join("jobs");
    fs::create_dir_all(&jobs).expect("made");
    // Of all tasks but the first: the last is in an array of its own. Jobs of the same plan in another
    // folder are not ours.
    let file = |name: &str| jobs.join(name).display().to_string();
    let queue = (0..tasks - 1)
        .map(|index| format!("7_{index}|RUNNING|None|node3|{}\\n", file("array-000.sbatch")))
        .chain(["8|PENDING|Dependency||/else/jobs/merge.sbatch\\n".to_owned()])
        .chain([format!("9|PENDING|Dependency||{}\\n", file("merge.sbatch"))]);
    let (bin, log) = cluster(&bench, &queue.collect::<String>());
    // Nobody knows what these jobs do.
    let done = on_cluster(&bin, &["submit", &out]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("its list is gone"), "{}", done.stderr);
    let list: String = (1..tasks).map(|task| format!("{task}\n")).collect();
    fs::write(file("array-000.tasks"), list).expect("written");
    fs::write(file("submitted.json"), r#"[{"file":"array-000","tasks":1,"job":null}]"#)
        .expect("written");
    let done = on_cluster(&bin, &["submit", &out]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let more = format!("1 tasks\n{} more are in the queue already\n", tasks - 1);
    assert!(done.stdout.starts_with(&more), "{}", done.stdout);
    assert_eq!(fs::read_to_string(file("array-001.tasks")).expect("there"), "0\n");
    // The merge that would not have waited for it is replaced.
    let calls = fs::read_to_string(&log).expect("it was called");
    assert!(calls.contains("scancel 9\n"), "{calls}");
    let merge = calls.lines().rfind(|line| line.starts_with("sbatch")).expect("submitted");
    assert!(merge.contains("--dependency=afterany:41") && merge.contains(":7 "), "{merge}");
    let status = on_cluster(&bin, &["status", &out]);
    assert!(status.stdout.contains("7_0 RUNNING node3, task 1"), "{}", status.stdout);
    assert!(status.stdout.contains("9 PENDING (Dependency), the merge"), "{}", status.stdout);
    let killed = "_0 OUT_OF_MEMORY node1 (exit 0:125), task 0";
    assert!(status.stdout.contains(killed), "{}", status.stdout);
    let done = on_cluster(&bin, &["cancel", &out]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.starts_with(&format!("{tasks} jobs")), "{}", done.stdout);
    assert!(fs::read_to_string(&log).expect("there").contains("scancel 9\n"));
    assert!(fs::read_to_string(&log).expect("there").ends_with("scancel 7\n"));
    // A rehearsal writes the files, and asks the cluster nothing.
    fs::remove_file(&log).expect("it was there");
    let done = on_cluster(&bin, &["submit", &out, "--dry-run"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(Path::new(&out).join("jobs/merge.sbatch").exists() && !log.exists());
}
