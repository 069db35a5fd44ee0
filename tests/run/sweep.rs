//! Sweeps. Oracle: every point run by itself with `electrode run`, whatever was shared, killed, done
//! twice or in another order; the job files against the options that Slurm documents.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Bench, Finished, assert_same, electrode, finish, leftovers, snapshot, tables};

/// Twelve points of which eleven are left, in two passes; labels of one axis come from two columns.
fn sweep_file(bench: &Bench, out: &str, more: &str) -> PathBuf {
    let path = bench.path(&format!("{out}.toml"));
    let text = format!(
        r#"
name = "tiny"
out = "{out}"
run = "{run}"
task_blocks = 2
exclude = [{{ sites = "stream", seed = "1", methods = "probeless" }}]
{more}

[[axis]]
key = "statistics.seed"
range = [0, 1]

[[axis]]
key = "capture.sites"
values = [["layers.*.mlp_act"], ["layers.0.resid_post", "layers.*.mlp_act"], ["layers.*.resid_post"]]
names = ["neurons", "both", "stream"]

[[axis]]
key = "methods"
values = [["probeless", "topctx"], ["auroc", "mi"]]
names = ["probeless", "order"]

[[override]]
when = {{ seed = "1" }}
set = {{ "output.keep" = 7 }}
"#,
        out = bench.path(out).display(),
        run = bench.path("run.toml").display(),
    );
    fs::write(&path, text).expect("written");
    path
}

fn sweep(arguments: &[&str]) -> Finished {
    finish(electrode().arg("sweep").args(arguments))
}

fn planned(bench: &Bench, out: &str) -> String {
    let done = sweep(&["plan", &sweep_file(bench, out, "").display().to_string()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("11 points share 2 passes"), "{}", done.stdout);
    bench.path(out).display().to_string()
}

fn plan_of(out: &str) -> serde_json::Value {
    let bytes = fs::read(Path::new(out).join("sweep.json")).expect("a plan");
    serde_json::from_slice(&bytes).expect("it is JSON")
}

/// Every point has the bytes of its own run.
fn assert_as_alone(bench: &Bench, out: &str) {
    let plan = plan_of(out);
    let points = plan["points"].as_array().expect("a list");
    assert_eq!(points.len(), 11);
    for point in points {
        let name = point["name"].as_str().expect("a name");
        let config = &point["config"];
        let text = |value: &serde_json::Value| value.to_string();
        let alone = bench.tables(
            &format!("alone/{name}"),
            &[
                &format!("capture.sites={}", text(&config["capture"]["sites"])),
                &format!("methods={}", text(&config["methods"])),
                &format!("statistics.seed={}", config["statistics"]["seed"]),
                &format!("output.keep={}", config["output"]["keep"]),
            ],
        );
        let folder = Path::new(out).join("points").join(name);
        assert_same(&alone, &tables(&folder), name);
        assert!(folder.join("report.html").exists(), "{name} has a page");
        let values = point["values"].as_object().expect("by axis");
        let mut data = Path::new(out).join("data/rankings");
        data.extend(
            values
                .iter()
                .map(|(axis, value)| format!("{axis}={}", value.as_str().expect("a name"))),
        );
        let there = fs::read(data.join("rankings.parquet")).expect("the table of the data set");
        assert!(there == alone["rankings.parquet"], "{name}: data");
    }
    assert_eq!(leftovers(Path::new(out)), [] as [PathBuf; 0]);
}

#[test]
fn points_have_the_bytes_of_their_own_runs() {
    let bench = Bench::new(300);
    let out = planned(&bench, "sweep");
    let done = sweep(&["submit", &out, "--local", "3"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("11 points"), "{}", done.stdout);
    assert_as_alone(&bench, &out);
    // A second time nothing is left to do, and the same comes out.
    let again = sweep(&["resume", &out, "--local", "1"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let status = sweep(&["status", &out]);
    assert!(status.stdout.contains("0.00 device-hours are left"), "{}", status.stdout);
}

/// Tasks killed at any moment, done twice at a time, in any order, some of them merged before others
/// are done: no bit changes, and nothing is merged that is not complete.
#[test]
fn tasks_may_be_killed_doubled_and_disordered() {
    let bench = Bench::new(400);
    let out = planned(&bench, "sweep");
    let tasks = plan_of(&out)["tasks"].as_array().expect("a list").len();
    assert!(tasks >= 6, "{tasks} tasks");
    let missing = sweep(&["merge", &out]);
    assert_eq!(missing.code, Some(75), "{}", missing.stderr);
    assert!(missing.stderr.contains("blocks of pass 0 are missing"), "{}", missing.stderr);
    assert!(!Path::new(&out).join("points").exists(), "nothing is written of an unfinished sweep");
    let task = |number: usize| {
        let mut command = electrode();
        command.args(["sweep", "task", &out, &number.to_string()]);
        command
    };
    for number in (0..tasks).rev() {
        let mut killed = task(number).spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(7 * (number as u64 % 9)));
        killed.kill().expect("it can be killed");
        killed.wait().expect("it ends");
        let twice = [task(number).spawn(), task(number).spawn()];
        for one in twice {
            let ended = one.expect("it starts").wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!(ended.status.code(), Some(0), "task {number}: {said}");
        }
        if number == tasks / 2 {
            assert_eq!(sweep(&["merge", &out]).code, Some(75), "half is not all");
        }
    }
    let done = sweep(&["merge", &out]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_as_alone(&bench, &out);
}

/// A damaged record costs its blocks, which a later attempt does again.
#[test]
fn damaged_states_are_done_again() {
    let bench = Bench::new(120);
    let out = planned(&bench, "sweep");
    assert_eq!(sweep(&["submit", &out, "--local", "2"]).code, Some(0));
    let before = snapshot(&Path::new(&out).join("points"));
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "seg");
    fs::remove_dir_all(Path::new(&out).join("points")).expect("it was there");
    for pass in ["0000", "0001"] {
        let merged = Path::new(&out).join("passes").join(pass).join("merged");
        if merged.exists() {
            fs::remove_dir_all(merged).expect("it can be removed");
        }
    }
    for path in snapshot(&Path::new(&out).join("passes")).into_keys().filter(is_segment) {
        let mut bytes = fs::read(&path).expect("it is there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("written");
    }
    let damaged = sweep(&["merge", &out]);
    assert_eq!(damaged.code, Some(75), "{}", damaged.stderr);
    let done = sweep(&["resume", &out, "--local", "2"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let after = snapshot(&Path::new(&out).join("points"));
    for (path, bytes) in &before {
        if path.extension().is_some_and(|suffix| suffix == "parquet") {
            assert!(after.get(path) == Some(bytes), "{}", path.display());
        }
    }
}

#[test]
fn other_sweeps_models_and_corpora_are_refused() {
    let bench = Bench::new(60);
    let out = planned(&bench, "sweep");
    let other = sweep_file(&bench, "sweep", "").display().to_string();
    let text = fs::read_to_string(&other).expect("just written").replace("[0, 1]", "[0, 2]");
    fs::write(&other, text).expect("written");
    let done = sweep(&["plan", &other]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("the folder holds sweep"), "{}", done.stderr);
    assert_eq!(sweep(&["task", &out, "0"]).code, Some(0));
    // One more sentence: no task of the old plan may read it.
    for name in ["c.word", "c.label"] {
        let text = fs::read_to_string(bench.path(name)).expect("it is there");
        let more = text.lines().next().expect("a line").to_owned();
        fs::write(bench.path(name), format!("{text}{more}\n")).expect("written");
    }
    for command in [&["task", &out, "0"][..], &["merge", &out]] {
        let done = sweep(command);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains("changed since the sweep was planned"), "{}", done.stderr);
    }
    let none = sweep(&["status", &bench.path("nowhere").display().to_string()]);
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    let far = sweep(&["task", &out, "9999"]);
    assert_eq!(far.code, Some(2), "{}", far.stderr);
    let path = Path::new(&out).join("sweep.json");
    let bytes = fs::read(&path).expect("a plan");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
    let damaged = sweep(&["status", &out]);
    assert_eq!(damaged.code, Some(65), "{}", damaged.stderr);
    assert!(damaged.stderr.contains("sweep.json"), "{}", damaged.stderr);
}

#[test]
fn wrong_sweep_files_name_the_place() {
    let bench = Bench::new(40);
    let good = fs::read_to_string(sweep_file(&bench, "sweep", "")).expect("just written");
    let file = bench.path("wrong.toml");
    for (from, to, words) in [
        ("task_blocks = 2", "task_blocks = 3", &["task_blocks", "power of two"][..]),
        ("task_blocks = 2", "task_block = 2", &["wrong.toml:5", "task_block"]),
        ("range = [0, 1]", "range = [1, 0]", &["statistics.seed", "there is none"]),
        ("range = [0, 1]", "values = [0]\nrange = [0, 1]", &["exactly one of them"]),
        ("[\"neurons\", \"both\", \"stream\"]", "[\"a\", \"b\"]", &["2 names for 3 values"]),
        ("[\"neurons\", \"both\", \"stream\"]", "[\"a/b\", \"b\", \"c\"]", &["'a/b' is no name"]),
        ("sites = \"stream\"", "sites = \"river\"", &["no axis 'sites' with a value 'river'"]),
        (
            "key = \"statistics.seed\"",
            "key = \"statistics.sed\"\nname = \"seed\"",
            &["statistics.sed"],
        ),
        ("name = \"tiny\"", "name = \"a b\"", &["name", "part of a job's name"]),
        ("\"mi\"]", "\"mix\"]", &["mix"]),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(&file, good.replacen(from, to, 1)).expect("written");
        let done = sweep(&["plan", &file.display().to_string()]);
        assert_eq!(done.code, Some(2), "{to}: {}", done.stderr);
        for word in words {
            assert!(done.stderr.contains(word), "{to}: no '{word}' in {}", done.stderr);
        }
        assert!(!bench.path("sweep").exists(), "{to}: something was written");
    }
}

/// Programs of the names that Slurm's have: they write down how they are called.
fn cluster(bench: &Bench, queue: &str) -> (PathBuf, PathBuf) {
    let (bin, log) = (bench.path("bin"), bench.path("calls"));
    fs::create_dir_all(&bin).expect("made");
    for (name, says) in [
        ("sbatch", "echo 41\"$(wc -l < LOG)\"\";cluster\""),
        ("squeue", &format!("printf '{queue}'")[..]),
        ("scancel", ":"),
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
    let (bin, log) = cluster(&bench, "7_1 RUNNING node3\\n7_2 PENDING (Priority)\\n");
    let done = on_cluster(&bin, &["submit", &out]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("2 of its jobs are in the queue"), "{}", done.stderr);
    let calls = fs::read_to_string(&log).expect("it was called");
    assert!(!calls.contains("sbatch"), "{calls}");
    let status = on_cluster(&bin, &["status", &out]);
    assert!(status.stdout.contains("7_2 PENDING (Priority)"), "{}", status.stdout);
    let done = on_cluster(&bin, &["cancel", &out]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("2 jobs"), "{}", done.stdout);
    assert!(fs::read_to_string(&log).expect("there").contains("scancel --name electrode-"));
    // A rehearsal writes the files, and asks the cluster nothing.
    fs::remove_file(&log).expect("it was there");
    let done = on_cluster(&bin, &["submit", &out, "--dry-run"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(Path::new(&out).join("jobs/merge.sbatch").exists() && !log.exists());
}
