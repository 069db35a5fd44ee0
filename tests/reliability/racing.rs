//! Programs that work on one folder at a time.
//! Oracle: one undisturbed program; of two, one wins or both agree, and no job is submitted twice.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use crate::bench::{Bench, leftovers, tables};
use crate::data::Random;
use crate::figures::{cases, hold};
use crate::sweeps::Small;

/// Two programs, the second a little later; how each ended.
fn two(mut of: impl FnMut() -> Command, random: &mut Random, most: u64) -> [Output; 2] {
    let mut begin = || -> Child { of().spawn().expect("it starts") };
    let first = begin();
    std::thread::sleep(Duration::from_micros(random.below(1_000 * most)));
    let second = begin();
    [first, second].map(|child| child.wait_with_output().expect("it ends"))
}

fn said(ended: &[Output; 2]) -> String {
    let one = |output: &Output| {
        format!("{:?} {}", output.status.code(), String::from_utf8_lossy(&output.stderr))
    };
    format!("{} | {}", one(&ended[0]), one(&ended[1]))
}

/// One ended well, the other too or by saying that somebody else is at work.
fn agreed(ended: &[Output; 2], words: &str) -> bool {
    let codes = ended.each_ref().map(|output| output.status.code());
    let refused = ended.iter().all(|output| match output.status.code() {
        Some(0) => true,
        Some(2) => String::from_utf8_lossy(&output.stderr).contains(words),
        _ => false,
    });
    codes.contains(&Some(0)) && refused
}

#[test]
fn two_runs_in_one_folder() {
    let bench = Bench::new(60);
    let want = bench.tables("alone", &[]);
    let (count, mut random, mut wrong) = (cases(40, 2_000), Random(11), Vec::new());
    for case in 0..count {
        let out = format!("both-{case}");
        let ended = two(|| bench.command(&out, &[]), &mut random, 120);
        let place = bench.path(&out);
        let good = agreed(&ended, "another run is working in this folder")
            && tables(&place) == want
            && leftovers(&place).is_empty();
        if !good {
            wrong.push(format!("case {case}: {}", said(&ended)));
        }
        fs::remove_dir_all(place).expect("removed");
    }
    hold("two runs in one folder: one wins or both agree", count, &wrong);
}

#[test]
fn two_merges_of_one_sweep() {
    let small = Small::done();
    let want = small.tables();
    let (count, mut random, mut wrong) = (cases(30, 1_500), Random(12), Vec::new());
    for case in 0..count {
        small.unmerge();
        let ended = two(|| small.command("merge"), &mut random, 150);
        let good = agreed(&ended, "another run is working in this folder")
            && small.tables() == want
            && leftovers(&small.out()).is_empty();
        if !good {
            wrong.push(format!("case {case}: {}", said(&ended)));
        }
    }
    hold("two merges of one sweep: one wins or both agree", count, &wrong);
}

/// A line for each task of what was submitted, in the form that is asked for.
const SQUEUE: &str = r#"n=0
[ ! -e QUEUE ] || while read -r line; do
    n=$((n + 1)) file=${line##* } i=0
    case $file in
    */merge.sbatch) echo "$n|PENDING|None||$file" ;;
    *) while read -r _; do
        echo "${n}_$i|PENDING|None||$file"
        i=$((i + 1))
    done <"${file%.sbatch}.tasks" ;;
    esac
done <QUEUE"#;

/// Programs of the names that Slurm's have, over a queue that is a file; submitting takes a moment.
fn cluster(bin: &Path, queue: &Path) {
    fs::create_dir_all(bin).expect("made");
    let queue = queue.display();
    for (name, says) in [
        ("sbatch", format!("sleep 0.02\necho \"$@\" >> {queue}\nwc -l < {queue}")),
        ("squeue", SQUEUE.replace("QUEUE", &queue.to_string())),
        ("scontrol", "echo 'MaxArraySize            = 1001'".to_owned()),
    ] {
        fs::write(bin.join(name), format!("#!/bin/sh\n{says}\n")).expect("written");
        let all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(bin.join(name), all).expect("set");
    }
}

#[test]
fn two_submitters_of_one_sweep() {
    let small = Small::planned();
    let (bin, queue) = (small.bench.path("bin"), small.bench.path("queue"));
    cluster(&bin, &queue);
    let path = std::env::var("PATH").expect("there is one");
    let path = format!("{}:{path}", bin.display());
    let (count, mut random, mut wrong) = (cases(30, 1_500), Random(13), Vec::new());
    for case in 0..count {
        let submit = || {
            let mut command = small.command("submit");
            command.env("PATH", &path);
            command
        };
        let ended = two(submit, &mut random, 80);
        let calls = fs::read_to_string(&queue).expect("something was submitted");
        // An array and a merge behind it, once; whoever came second was told so.
        let once = calls.lines().count() == 2 && calls.matches("merge.sbatch").count() == 1;
        let codes = ended.each_ref().map(|output| output.status.code());
        let words = said(&ended);
        let said = |output: &Output| {
            String::from_utf8_lossy(&output.stdout).contains("more are in the queue already")
        };
        let told = ended.iter().filter(|output| said(output)).count() == 1;
        if !(once && codes == [Some(0), Some(0)] && told) {
            wrong.push(format!("case {case}: {calls} {words}"));
        }
        fs::remove_file(&queue).expect("removed");
    }
    hold("two submitters of one sweep: no double submission", count, &wrong);
}

/// Two plans of one folder: whichever stands there is whole, and only its own program was content.
#[test]
fn two_plans_of_one_folder() {
    let small = Small::planned();
    let files: [PathBuf; 2] = [small.file(), small.bench.path("other.toml")];
    let text = fs::read_to_string(small.file()).expect("it is there");
    fs::write(&files[1], text.replace("task_blocks = 2", "task_blocks = 4")).expect("written");
    let mut random = Random(14);
    for case in 0..cases(10, 500) {
        fs::remove_dir_all(small.out()).expect("removed");
        let mut turn = files.iter();
        let plan = || {
            let mut command = crate::bench::electrode();
            command.args(["sweep", "plan"]).arg(turn.next().expect("two of them"));
            command
        };
        let ended = two(plan, &mut random, 60);
        let codes = ended.each_ref().map(|output| output.status.code());
        let standing = electrode::run::sweep::SweepPlan::read(&small.out()).expect("a whole plan");
        let first_won = standing.tasks[0].end == 2;
        let want = if first_won { [Some(0), Some(2)] } else { [Some(2), Some(0)] };
        assert_eq!(codes, want, "case {case}: {}", said(&ended));
    }
}
