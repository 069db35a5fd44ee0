//! `electrode run` from its command line to its folder, with the real binary.

mod bad_corpus;
mod bad_model;
mod devices;
#[path = "../support/faulty_device.rs"]
pub(crate) mod faulty_device;
mod gpu_memory;
mod gpu_trained;
pub(crate) mod gpus;
mod memory;
mod neuronpedia;
mod nvml;
mod pieces;
mod pieces_on_gpus;
mod planted;
mod probes;
mod probes_stopped;
mod probing;
mod refused;
mod same_bits;
mod similarity;
mod similarity_whole;
mod stopped;
mod sweep;
mod sweep_jobs;
mod sweep_watch;

use std::path::{Path, PathBuf};

use crate::bench::{Bench, assert_same, leftovers, manifest, snapshot, tables};
pub(crate) use crate::bench::{Finished, electrode, finish, tiny};

/// The command ends with this code, says these words, and no result or claim is in its folder.
fn assert_refused(done: &Finished, code: i32, words: &[&str], out: &Path) {
    assert_eq!(done.code, Some(code), "expected {words:?}: {}", done.stderr);
    for word in words {
        assert!(done.stderr.contains(word), "'{word}' is not in: {}", done.stderr);
    }
    assert_eq!(done.stdout, "", "{words:?}");
    let left: Vec<PathBuf> = snapshot(out).into_keys().collect();
    let only_lock = left.iter().all(|path| path.ends_with("run.lock"));
    assert!(only_lock, "{words:?}: left behind {left:?}");
}
