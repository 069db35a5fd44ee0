//! Memory does not grow with the corpus. Oracle: the system's own high-water mark (`VmHWM`).

use std::fs;

use super::{Bench, manifest};

/// A process of a few megabytes moves by as much with its threads' stacks and allocator arenas.
const SLACK: f64 = 3.0 * 1_048_576.0;

#[cfg(target_os = "linux")]
#[test]
fn eight_times_the_corpus_takes_the_same_memory() {
    let bench = Bench::new(1200);
    let peak = |out: &str| {
        bench.tables(out, &["--threads", "2", "device.commit_seconds=20"]);
        let manifest = manifest(&bench.path(out));
        let blocks = manifest["plan"]["blocks"].as_u64().expect("a number");
        (manifest["timings"]["peak_memory_bytes"].as_f64().expect("Linux tells it"), blocks)
    };
    let (small, blocks) = peak("small");
    for name in ["c.word", "c.label"] {
        let text = fs::read_to_string(bench.path(name)).expect("it was written");
        fs::write(bench.path(name), text.repeat(8)).expect("written");
    }
    let (large, more) = peak("large");
    assert!(more >= 7 * blocks, "{more} blocks, {blocks} before");
    let bound = small * 1.05 + SLACK;
    eprintln!("peak memory {small} bytes, {large} with eight times the corpus");
    assert!(large <= bound, "{large} bytes for 8 times the corpus, {small} for it once");
    assert!(small > 1e6);
}
