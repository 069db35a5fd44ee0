//! Every bit of what a run has on the disk, changed one at a time.
//! Oracle: the records that were written; what is accepted is one of them, what was hit is not.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use electrode::engine::merge::Node;
use electrode::engine::segment::SegmentWriter;
use electrode::engine::segment_reader::load_folder;
use electrode::run::sweep::{SweepPlan, status};
use rayon::prelude::*;

use crate::data::Random;
use crate::figures::{cases, folder, hold};
use crate::states::{RUN, blocks, bytes, medium_plan};
use crate::sweeps::Small;

/// Blocks of the run: with them its segment has more than 10^5 bits.
const BLOCKS: usize = 4;
/// Bits of a thread's share.
const SHARE: u64 = 2_000;

/// A segment with a record for each block, in a folder of its own.
struct Written {
    folder: tempfile::TempDir,
    path: std::path::PathBuf,
    payloads: Vec<Vec<u8>>,
}

impl Written {
    fn new() -> Self {
        let plan = medium_plan();
        let folder = folder();
        let mut writer = SegmentWriter::create(folder.path(), RUN).expect("a folder");
        let payloads: Vec<Vec<u8>> = blocks(&plan, 8, BLOCKS).iter().map(bytes).collect();
        for (at, (state, payload)) in blocks(&plan, 8, BLOCKS).iter().zip(&payloads).enumerate() {
            writer.append(Node::block(at as u32), &state.counts, payload).expect("appended");
        }
        writer.sync().expect("synced");
        let path = writer.path().to_path_buf();
        Self { folder, path, payloads }
    }

    fn bits(&self) -> u64 {
        8 * fs::metadata(&self.path).expect("it is there").len()
    }

    /// Reads the folder with this bit changed.
    fn with_bit(&self, bit: u64) -> Option<String> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path).expect("it is there");
        let mut byte = [0];
        file.read_exact_at(&mut byte, bit / 8).expect("inside");
        let changed = [byte[0] ^ 1 << (bit % 8)];
        file.write_all_at(&changed, bit / 8).expect("written");
        let answer = self.read(bit);
        file.write_all_at(&byte, bit / 8).expect("put back");
        answer
    }

    fn read(&self, bit: u64) -> Option<String> {
        let wrong = |what: &str| Some(format!("bit {bit}: {what}"));
        let loaded = match load_folder(self.folder.path(), RUN) {
            Ok(loaded) => loaded,
            Err(error) => return wrong(&error.to_string()),
        };
        if loaded.damage.is_empty() {
            return wrong("not found");
        }
        // The header speaks for all records; any other bit belongs to one.
        let want = if bit < 8 * 48 { 0 } else { BLOCKS - 1 };
        if loaded.nodes.len() != want {
            return wrong(&format!("{} records are left", loaded.nodes.len()));
        }
        let same = loaded.nodes.iter().all(|stored| {
            let payload = stored.payload(RUN).expect("it was read a moment ago");
            stored.node.level == 0 && payload == self.payloads[stored.node.index as usize]
        });
        if same { None } else { wrong("a wrong record was accepted") }
    }
}

#[test]
fn every_bit_of_a_segment() {
    let bits = Written::new().bits();
    assert!(bits >= 100_000, "only {bits} bits");
    let night = cases(0, 10_000_000);
    let shares: Vec<u64> = (0..bits.max(night)).step_by(SHARE as usize).collect();
    let wrong: Vec<String> = shares
        .into_par_iter()
        .flat_map_iter(|first| {
            let (written, mut random) = (Written::new(), Random(first));
            let last = (first + SHARE).min(bits.max(night));
            // After each bit once, bits by chance.
            let bit = |at: u64| if at < bits { at } else { random.below(bits) };
            let chosen: Vec<u64> = (first..last).map(bit).collect();
            chosen.into_iter().filter_map(move |bit| written.with_bit(bit)).collect::<Vec<_>>()
        })
        .collect();
    hold("bits of segments changed: found, that block missing", bits.max(night), &wrong);
}

/// Changes every bit of a file in turn; `refused` says whether what reads it finds out.
fn every_bit(path: &Path, refused: impl Fn() -> bool) -> (u64, Vec<String>) {
    let whole = fs::read(path).expect("it is there");
    let mut wrong = Vec::new();
    for bit in 0..8 * whole.len() {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(path, &bytes).expect("written");
        if !refused() {
            wrong.push(format!("{}: bit {bit} is not found", path.display()));
        }
    }
    fs::write(path, &whole).expect("put back");
    (8 * whole.len() as u64, wrong)
}

#[test]
fn every_bit_of_a_plan() {
    let small = Small::planned();
    let (bits, wrong) = every_bit(&small.out().join("sweep.json"), || {
        SweepPlan::read(&small.out()).is_err_and(|error| error.exit_code() == 65)
    });
    let plan = SweepPlan::read(&small.out()).expect("as it was");
    small.run_task(0);
    let (more, kinds) = every_bit(&small.out().join("passes/0000/kind.json"), || {
        status(&plan, &small.out()).is_err_and(|error| error.exit_code() == 65)
    });
    assert_eq!(status(&plan, &small.out()).expect("as it was").blocks().0, 2);
    let wrong: Vec<String> = wrong.into_iter().chain(kinds).collect();
    hold("bits of sweep.json and kind.json changed: 65", bits + more, &wrong);
}

/// A run folder belongs to one run: with a bit of run.json changed nobody's results go in silence, and with
/// one that says the same (a blank) they are the same.
#[test]
fn bits_of_the_owner_of_a_folder() {
    let bench = crate::bench::Bench::new(40);
    let want = bench.tables("out", &[]);
    let path = bench.path("out/run.json");
    let whole = fs::read(&path).expect("it is there");
    let (count, mut random) = (cases(10, 500), Random(17));
    let mut wrong = Vec::new();
    for _ in 0..count {
        let bit = random.below(8 * whole.len() as u64) as usize;
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).expect("written");
        let done = bench.run("out", &[]);
        let same = done.code == Some(0) && crate::bench::tables(&bench.path("out")) == want;
        if !(matches!(done.code, Some(2 | 65)) || same) {
            wrong.push(format!("bit {bit}: {:?} {}", done.code, done.stderr));
        }
    }
    hold("bits of run.json changed: 2 or 65, or the same tables", count, &wrong);
}
