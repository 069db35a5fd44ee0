//! Submissions that are killed, doubled or repeated. Oracle: the queue of the real Slurm, where each
//! task is once, and one merge behind all of them. Jobs are held, so that they stay to be counted.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::{Bench, Finished, electrode, finish};
use crate::cluster::{ask, beside, wait};
use crate::figures::{cases, say};

/// Tasks of the sweep, and the size of arrays that the wrapper of `scontrol` pretends.
const ARRAY: usize = 5;

/// Commands of the cluster's names before the real ones: arrays are small, and at one call of `sbatch`
/// the submitter is killed: before it, while it is on its way, or once it has been accepted.
fn wrappers(bench: &Bench) -> PathBuf {
    let bin = bench.path("bin");
    fs::create_dir_all(&bin).expect("made");
    let write = |name: &str, text: String| {
        fs::write(bin.join(name), text).expect("written");
        let all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(bin.join(name), all).expect("set");
    };
    let real = |name: &str| ask("which", &[name]).trim().to_owned();
    let config =
        format!("[ \"$1 $2\" = 'show config' ] && {{ echo MaxArraySize = {ARRAY}; exit; }}");
    write("scontrol", format!("#!/bin/sh\n{config}\nexec {} \"$@\"\n", real("scontrol")));
    let sbatch = real("sbatch");
    let text = format!(
        "#!/bin/sh\n\
         n=$(($(cat \"$COUNT\" 2>/dev/null || echo 0) + 1)); echo $n >\"$COUNT\"\n\
         [ $n = \"$KILL_AT\" ] || exec {sbatch} \"$@\"\n\
         case $KILL_HOW in\n\
         before) kill -KILL $PPID; exit 1 ;;\n\
         within) kill -KILL $PPID; sleep 0.5; exec {sbatch} \"$@\" ;;\n\
         after) {sbatch} \"$@\"; kill -KILL $PPID ;;\n\
         esac\n"
    );
    write("sbatch", text);
    bin
}

struct Held {
    out: PathBuf,
    tasks: usize,
}

impl Held {
    fn plan(bench: &Bench, name: &str) -> Self {
        let (out, file) = (bench.path(name), bench.path(&format!("{name}.toml")));
        let text = format!(
            "name = \"held\"\nout = \"{}\"\nrun = \"{}\"\ntask_blocks = 1\n\
             [slurm]\ngpus = 0\ncpus = 1\nextra = [\"--hold\"]\n",
            out.display(),
            bench.path("run.toml").display()
        );
        fs::write(&file, text).expect("written");
        let done = finish(electrode().args(["sweep", "plan"]).arg(&file));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let plan = fs::read(out.join("sweep.json")).expect("a plan");
        let plan: serde_json::Value = serde_json::from_slice(&plan).expect("JSON");
        Self { out, tasks: plan["tasks"].as_array().expect("a list").len() }
    }

    fn command(&self, command: &str, bin: &Path) -> Command {
        let path = std::env::var("PATH").expect("there is one");
        let mut electrode = electrode();
        electrode.args(["sweep", command]).arg(&self.out);
        electrode.env("PATH", format!("{}:{path}", bin.display()));
        electrode.env("COUNT", self.out.join("count"));
        electrode
    }

    fn submit(&self, bin: &Path) -> Finished {
        let done = finish(&mut self.command("submit", bin));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done
    }

    /// Lines of the queue that are this sweep's: job, file, what it waits for.
    fn queue(&self) -> Vec<[String; 3]> {
        let text = ask("squeue", &["-h", "--array", "--format", "%i|%E|%o"]);
        let folder = format!("{}/jobs/", self.out.display());
        let line = |line: &str| {
            let mut fields = line.splitn(3, '|').map(str::to_owned);
            let (job, after, file) = (fields.next()?, fields.next()?, fields.next()?);
            Some([job, file.strip_prefix(&folder)?.to_owned(), after])
        };
        text.lines().filter_map(line).collect()
    }

    /// How often each task is in the queue; the merge waits for all of them.
    fn assert_once(&self, what: &str) {
        let (merges, tasks): (Vec<_>, Vec<_>) =
            self.queue().into_iter().partition(|[_, file, _]| file == "merge.sbatch");
        let mut times: BTreeMap<usize, usize> = BTreeMap::new();
        for [job, file, _] in &tasks {
            let list = self.out.join("jobs").join(file).with_extension("tasks");
            let list = fs::read_to_string(list).expect("a list");
            let (_, index) = job.split_once('_').expect("of an array");
            let task = list.lines().nth(index.parse().expect("a number")).expect("a line");
            *times.entry(task.parse().expect("a task")).or_default() += 1;
        }
        let wanted: BTreeMap<usize, usize> = (0..self.tasks).map(|task| (task, 1)).collect();
        assert_eq!(times, wanted, "{what}");
        let [[_, _, after]] = &merges[..] else { panic!("{what}: merges {merges:?}") };
        for [job, ..] in &tasks {
            let array = format!(":{}_", job.split('_').next().expect("an array"));
            assert!(after.contains(&array), "{what}: {after} lacks {array}");
        }
    }

    fn cancel(&self, bin: &Path) {
        let done = finish(&mut self.command("cancel", bin));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        wait("it is off the queue", 20, || self.queue().is_empty());
    }
}

/// Killed at each call of `sbatch`, in three ways; the same command again does the rest, and a third
/// time nothing.
#[test]
fn killed_submitters_leave_nothing_twice() {
    let Some(_share) = beside() else { return };
    let bench = Bench::new(600);
    let bin = wrappers(&bench);
    let mut count = 0;
    for round in 0..cases(1, 10) {
        for how in ["before", "within", "after"] {
            let mut at = 0;
            loop {
                at += 1;
                let name = format!("held-{round}-{how}-{at}");
                let sweep = Held::plan(&bench, &name);
                assert!(sweep.tasks > 2 * (ARRAY - 1), "{} tasks", sweep.tasks);
                let mut command = sweep.command("submit", &bin);
                let killed = finish(command.env("KILL_AT", at.to_string()).env("KILL_HOW", how));
                let all = killed.code == Some(0);
                let again = sweep.submit(&bin);
                sweep.assert_once(&name);
                let third = sweep.submit(&bin);
                assert!(third.stdout.starts_with("0 tasks\n"), "{}", third.stdout);
                sweep.assert_once(&name);
                sweep.cancel(&bin);
                if all {
                    assert!(again.stdout.starts_with("0 tasks\n"), "{}", again.stdout);
                    break;
                }
                count += 1;
            }
        }
    }
    assert!(count >= 12, "{count} submitters were killed");
    say("slurm: submitters killed at a call of sbatch", count, 0);
}

/// Several at once, and one after an array was taken away: its tasks are submitted anew, with a merge
/// that waits for the new array as well.
#[test]
fn submitters_at_once_agree() {
    let Some(_share) = beside() else { return };
    let bench = Bench::new(600);
    let bin = wrappers(&bench);
    let rounds = cases(3, 50);
    for round in 0..rounds {
        let sweep = Held::plan(&bench, &format!("at-once-{round}"));
        let submitters: Vec<_> =
            (0..3).map(|_| sweep.command("submit", &bin).spawn().expect("it starts")).collect();
        for submitter in submitters {
            let ended = submitter.wait_with_output().expect("it ends");
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        }
        sweep.assert_once("at once");
        let queue = sweep.queue();
        let array = queue.iter().find(|[_, file, _]| file == "array-000.sbatch").expect("there");
        ask("scancel", &[array[0].split('_').next().expect("an array")]);
        let again = sweep.submit(&bin);
        assert!(again.stdout.starts_with(&format!("{} tasks\n", ARRAY - 1)), "{}", again.stdout);
        sweep.assert_once("after an array was taken away");
        sweep.cancel(&bin);
    }
    say("slurm: three submitters at once", rounds, 0);
}
