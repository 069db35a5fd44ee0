//! kill -9 at any moment, begun again until it is done. Oracle: the same run undisturbed.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Tables, leftovers, tables};
use crate::figures::{cases, say};
use crate::noise::Noise;
use crate::undisturbed::{in_threads, run_id_of};
use electrode::engine::segment_reader::load_folder;

/// Blocks on the disk.
fn blocks(folder: &Path, run_id: [u8; 32]) -> u64 {
    let nodes = load_folder(&folder.join("states"), run_id).expect("states can be read").nodes;
    nodes.iter().map(|stored| stored.node.blocks().count() as u64).sum()
}

/// Starts runs and kills them until so many were killed; gives what was wrong.
fn kill(
    bench: &Bench,
    (right, run_id): (&Tables, [u8; 32]),
    (seed, kills): (u64, u64),
) -> Vec<String> {
    let mut random = Noise::new(seed);
    let (mut wrong, mut killed, mut before, mut round) = (Vec::new(), 0, 0, 0);
    let clock = Instant::now();
    let small = ["corpus.block_bytes=1024", "output.keep=3"];
    bench.tables(&format!("timed-{seed}"), &small);
    let whole = clock.elapsed().as_secs_f64();
    let finish = |out: &str, round: u64, wrong: &mut Vec<String>| {
        if tables(&bench.path(out)) != *right {
            wrong.push(format!("seed {seed}, round {round}: other tables"));
        }
        let left = leftovers(&bench.path(out));
        if !left.is_empty() {
            wrong.push(format!("seed {seed}, round {round}: left behind {left:?}"));
        }
    };
    while killed < kills {
        let out = format!("killed-{seed}-{round}");
        let mut child = bench.command(&out, &small).spawn().expect("it starts");
        std::thread::sleep(Duration::from_secs_f64(whole * random.uniform()));
        let alive = child.try_wait().expect("it is ours").is_none();
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        if alive {
            killed += 1;
        } else {
            finish(&out, round, &mut wrong);
            (round, before) = (round + 1, 0);
            continue;
        }
        let now = blocks(&bench.path(&out), run_id);
        if now < before {
            wrong.push(format!("seed {seed}, kill {killed}: {now} blocks after {before}"));
        }
        before = now;
    }
    let out = format!("killed-{seed}-{round}");
    bench.tables(&out, &small);
    finish(&out, round, &mut wrong);
    wrong
}

#[test]
fn kills_change_no_bit() {
    let bench = Bench::in_memory(400);
    let right = bench.tables("right", &["corpus.block_bytes=1024", "output.keep=3"]);
    let run_id = run_id_of(&bench.path("right"));
    let (workers, kills) = (4, cases(200, 5_000));
    let wrong =
        in_threads(workers, |_, seed| kill(&bench, (&right, run_id), (seed, kills / workers)));
    say("runs killed with kill -9 at any moment", kills, wrong.len() as u64);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
