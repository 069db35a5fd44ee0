//! One small run in this process, and what it leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use electrode::config::RunConfig;
use electrode::error::Result;
use electrode::run::{Prepared, run};

use crate::bench::{Bench, TABLES, Tables, tables};

/// Sentences of the small corpus: some ten blocks.
pub(crate) const SENTENCES: usize = 120;

/// Runs the bench's run file into `out` from opening the model to the page.
pub(crate) fn run_into(bench: &Bench, out: &str) -> Result<()> {
    let out = format!("out={}", bench.path(out).display());
    // Few rows for the page: pages are drawn anew at each of some thousand runs.
    let arguments = [out, "corpus.block_bytes=1024".to_owned(), "output.keep=3".to_owned()];
    let prepared = Prepared::new(RunConfig::load(bench.path("run.toml"), &arguments)?)?;
    run(&prepared, &AtomicBool::new(false), &mut |_, _, _| {}).map(drop)
}

/// Those tables of a folder that are there.
pub(crate) fn tables_there(folder: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    let read = |name: &'static str| Some((name, fs::read(folder.join(name)).ok()?));
    TABLES.into_iter().filter_map(read).collect()
}

/// Whether each table that is there is the whole and right one.
pub(crate) fn whole_or_absent(folder: &Path, right: &BTreeMap<&'static str, Vec<u8>>) -> bool {
    tables_there(folder).iter().all(|(name, bytes)| right.get(name) == Some(bytes))
}

/// The id that stands in the folder of a run.
pub(crate) fn run_id_of(folder: &Path) -> [u8; 32] {
    let bytes = fs::read(folder.join("run.json")).expect("a finished run has one");
    let owner: serde_json::Value = serde_json::from_slice(&bytes).expect("it is JSON");
    let hex = owner["run_id"].as_str().expect("text");
    let byte = |at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex");
    std::array::from_fn(byte)
}

/// Does so many things in a few threads, each with a bench and its tables, and gives what was wrong. Not in the pool of the program: a
/// run waits for its workers, which wait for the pool.
pub(crate) fn in_threads(
    count: u64,
    work: impl Fn(&(Bench, Tables), u64) -> Vec<String> + Sync,
) -> Vec<String> {
    let (next, wrong) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let bench = Bench::in_memory(SENTENCES);
                run_into(&bench, "right").expect("nothing is in its way");
                let right = tables(&bench.path("right"));
                let own = (bench, right);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let found = work(&own, number);
                    wrong.lock().expect("nobody panics").extend(found);
                }
            });
        }
    });
    wrong.into_inner().expect("nobody panics")
}
