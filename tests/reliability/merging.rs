//! Shards, their order, doubles and gaps: through segments, folders and the merge tree.
//! Oracle: the tree by its definition over all blocks (`states.rs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use electrode::accumulate::run::RunStatistics;
use electrode::engine::segment::{RunId, SegmentWriter};
use electrode::engine::segment_reader::load_folder;
use electrode::engine::states::States;
use electrode::error::Result;
use rayon::prelude::*;

use crate::data::Random;
use crate::figures::{cases, folder, hold};
use crate::states::{Plan, RUN, blocks, bytes, merged, segments, shuffled, small_plan};

const SHARDS: [usize; 6] = [1, 2, 3, 7, 16, 64];
const WORLDS: u64 = 4;
const MOST_BLOCKS: usize = 70;

/// An attempt at some blocks, in a folder of its own: with a state on the disk after every block, or at
/// the end alone.
fn attempt(path: &Path, plan: &Plan, (all, own): (&[RunStatistics], &[usize]), often: bool) {
    let interval = if often { Duration::ZERO } else { Duration::from_secs(3600) };
    let states: Result<States<RunStatistics>> = States::load(path, RUN, plan.clone());
    let mut states = states.expect("an empty folder").commit_every(interval);
    for &block in own {
        states.add(block as u32, all[block].clone()).expect("added");
    }
    states.commit().expect("committed");
}

/// What is on the disk, merged.
fn finish(folders: &[PathBuf], run: RunId, plan: &Plan, count: usize) -> Result<Vec<u8>> {
    let states: States<RunStatistics> = States::load_all(folders, run, plan.clone())?;
    Ok(bytes(&states.finish(count as u32)?))
}

/// One case: says what differed.
fn sharded(seed: u64, plan: &Plan, worlds: &[Vec<RunStatistics>]) -> Option<String> {
    let mut random = Random(seed);
    let all = &worlds[random.below(WORLDS) as usize];
    let count = match random.below(8) {
        0 => 1 + random.below(MOST_BLOCKS as u64),
        _ => 1 + random.below(20),
    } as usize;
    let shards = SHARDS[random.below(6) as usize];
    let owner: Vec<usize> = shuffled((0..count).collect(), &mut random);
    let place = folder();
    let mut folders = vec![place.path().join("merged")];
    for shard in 0..shards.min(count) {
        let own: Vec<usize> = owner.iter().copied().skip(shard).step_by(shards).collect();
        // Mostly once, up to three times more; each attempt in an order of its own.
        for copy in 0..=random.below(8).saturating_sub(4) {
            let path = place.path().join(format!("{shard}-{copy}"));
            attempt(&path, plan, (all, &shuffled(own.clone(), &mut random)), random.below(2) == 0);
            folders.push(path);
        }
    }
    let folders = shuffled(folders, &mut random);
    match finish(&folders, RUN, plan, count) {
        Ok(ours) if ours == bytes(&merged(&all[..count])) => None,
        Ok(_) => Some(format!("seed {seed}: other bits")),
        Err(error) => Some(format!("seed {seed}: {error}")),
    }
}

#[test]
fn any_shards_in_any_order_with_doubles() {
    let plan = small_plan();
    let worlds: Vec<_> = (0..WORLDS).map(|seed| blocks(&plan, seed, MOST_BLOCKS)).collect();
    let count = cases(10_000, 1_000_000);
    let wrong: Vec<String> =
        (0..count).into_par_iter().filter_map(|seed| sharded(seed, &plan, &worlds)).collect();
    hold("shards, merge orders and doubles: equal bits", count, &wrong);
}

/// A record of an attempt is written again with a changed payload, or with other counts, elsewhere.
fn contradicted(seed: u64, plan: &Plan, all: &[RunStatistics]) -> Option<String> {
    let mut random = Random(seed ^ 0xd0b1e);
    let count = 2 + random.below(16) as usize;
    let place = folder();
    let [first, second] = ["first", "second"].map(|name| place.path().join(name));
    let order: Vec<usize> = shuffled((0..count).collect(), &mut random);
    attempt(&first, plan, (all, &order), true);
    let nodes = load_folder(&first, RUN).expect("just written").nodes;
    let stored = &nodes[random.below(nodes.len() as u64) as usize];
    let (mut counts, mut payload) = (stored.counts, stored.payload(RUN).expect("just written"));
    match random.below(4) {
        0 => counts.tokens += 1,
        _ => {
            let bit = random.below(8 * payload.len() as u64) as usize;
            payload[bit / 8] ^= 1 << (bit % 8);
        }
    }
    let mut writer = SegmentWriter::create(&second, RUN).expect("a folder");
    writer.append(stored.node, &counts, &payload).expect("appended");
    writer.sync().expect("synced");
    let folders = shuffled(vec![first.clone(), second], &mut random);
    match finish(&folders, RUN, plan, count) {
        Ok(_) => Some(format!("seed {seed}: not found")),
        Err(error) => {
            let text = error.to_string();
            let both = text.contains(&writer.path().display().to_string())
                && segments(&first).iter().any(|path| text.contains(&path.display().to_string()));
            let good = error.exit_code() == 70 && both;
            (!good).then(|| format!("seed {seed}: {text}"))
        }
    }
}

#[test]
fn doubles_that_differ_are_a_contradiction() {
    let plan = small_plan();
    let all = blocks(&plan, 3, 20);
    let count = cases(100, 1_000);
    let wrong: Vec<String> =
        (0..count).into_par_iter().filter_map(|seed| contradicted(seed, &plan, &all)).collect();
    hold("doubles of different content: 70, both files named", count, &wrong);
}

/// What is wrong with the files of a case, and the exit code that it must give.
fn spoil(kind: u64, path: &Path, random: &mut Random) -> u8 {
    let files = segments(path);
    let file = &files[random.below(files.len() as u64) as usize];
    let bytes = fs::read(file).expect("it is there");
    match kind {
        // All that an attempt left.
        0 => fs::remove_dir_all(path).expect("removed"),
        1 => fs::write(file, &bytes[..random.below(40) as usize]).expect("written"),
        // No segment at all, under the name of one.
        2 => fs::write(file, vec![b'x'; 500]).expect("written"),
        // The tail of the only record.
        3 => fs::write(file, &bytes[..bytes.len() - 1]).expect("written"),
        // A segment of another run or pass beside the right ones.
        _ => {
            let other = [random.below(200) as u8 + 8; 32];
            SegmentWriter::create(path, other).expect("made").sync().expect("synced");
            return 65;
        }
    }
    75
}

fn incomplete(seed: u64, plan: &Plan, all: &[RunStatistics]) -> Option<String> {
    let mut random = Random(seed ^ 0x9a9);
    let place = folder();
    let (count, lost) = (8_usize, random.below(8) as usize);
    let path = |block: usize| place.path().join(block.to_string());
    (0..count).for_each(|block| attempt(&path(block), plan, (all, &[block]), false));
    let folders: Vec<PathBuf> = (0..count).map(path).collect();
    let (code, run) = match seed % 6 {
        5 => (65, [9; 32]),
        kind => (spoil(kind, &path(lost), &mut random), RUN),
    };
    let error = match finish(&folders, run, plan, count) {
        Ok(_) => return Some(format!("seed {seed}: merged all the same")),
        Err(error) => error,
    };
    let named = code == 65 || error.to_string().contains(&format!("missing: {lost}"));
    let good = error.exit_code() == code && named;
    (!good).then(|| format!("seed {seed}: not {code}: {error}"))
}

#[test]
fn gaps_and_strangers_are_never_merged() {
    let plan = small_plan();
    let all = blocks(&plan, 4, 8);
    let count = cases(500, 5_000);
    let wrong: Vec<String> =
        (0..count).into_par_iter().filter_map(|seed| incomplete(seed, &plan, &all)).collect();
    hold("missing blocks, other runs, strange segments: 75 or 65, no table", count, &wrong);
}
