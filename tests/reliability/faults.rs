//! The k-th call on a file fails, for every k. Oracle: the same run undisturbed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use electrode::disk::{Act, Watcher, watch};

use crate::bench::{Bench, leftovers, tables};
use crate::figures::{cases, say};
use crate::undisturbed::{SENTENCES, in_threads, run_into, whole_or_absent};

/// What becomes of the call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The disk cannot read or write: this once.
    Eio,
    /// No room from here on.
    Enospc,
    /// A signal came: once.
    Eintr,
    /// Fewer bytes are written than were given: once.
    Short,
}

const FAULTS: [Fault; 4] = [Fault::Eio, Fault::Enospc, Fault::Eintr, Fault::Short];

struct Kth {
    k: usize,
    fault: Fault,
    seen: AtomicUsize,
}

impl Kth {
    fn new(k: usize, fault: Fault) -> Arc<Self> {
        Arc::new(Self { k, fault, seen: AtomicUsize::new(0) })
    }
}

impl Watcher for Kth {
    fn before(&self, _: &Path, act: Act<'_>) -> io::Result<Option<usize>> {
        let number = self.seen.fetch_add(1, Ordering::SeqCst);
        let takes_room = !matches!(act, Act::Open | Act::Map | Act::Remove | Act::RemoveFolder);
        let system = |code| Err(io::Error::from_raw_os_error(code));
        match (self.fault, act) {
            (Fault::Eio, _) if number == self.k => system(5),
            (Fault::Enospc, _) if number >= self.k && takes_room => system(28),
            (Fault::Eintr, _) if number == self.k => system(4),
            (Fault::Short, Act::Write(bytes)) if number == self.k => {
                Ok(Some(bytes.len().div_ceil(2)))
            }
            _ => Ok(None),
        }
    }
}

/// Nothing may differ but what the disk refused: gives what is wrong.
fn strike(
    bench: &Bench,
    right: &crate::bench::Tables,
    (k, fault): (usize, Fault),
) -> Option<String> {
    let out = format!("{fault:?}-{k}");
    let root = bench.path("");
    let watching = watch(&root, Kth::new(k, fault));
    let ended = run_into(bench, &out);
    drop(watching);
    let folder = bench.path(&out);
    let wrong = match &ended {
        Ok(()) if tables(&folder) != *right => Some("other tables".to_owned()),
        Ok(()) => None,
        Err(error) if matches!(fault, Fault::Eintr | Fault::Short) => {
            Some(format!("a call was not made again: {error}"))
        }
        Err(error) if error.exit_code() != 74 => Some(format!("{}: {error}", error.exit_code())),
        Err(error) if !error.to_string().contains(&root.display().to_string()) => {
            Some(format!("no path in: {error}"))
        }
        Err(_) if !whole_or_absent(&folder, right) => Some("a part of a table".to_owned()),
        Err(_) => match again(bench, &out) {
            Err(error) => Some(format!("did not go on: {error}")),
            Ok(()) if tables(&folder) != *right => Some("other tables after going on".to_owned()),
            Ok(()) => None,
        },
    };
    let wrong = wrong.or_else(|| {
        let left = leftovers(&folder);
        (!left.is_empty()).then(|| format!("left behind {left:?}"))
    });
    let _ = std::fs::remove_dir_all(&folder);
    wrong.map(|what| format!("call {k}, {fault:?}: {what}"))
}

/// A lock may outlive its run for a moment: a test beside this one that starts a program hands it every
/// open file until the program is there.
fn again(bench: &Bench, out: &str) -> electrode::error::Result<()> {
    for _ in 0..50 {
        match run_into(bench, out) {
            Err(error) if error.to_string().contains("another run is working") => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            other => return other,
        }
    }
    run_into(bench, out)
}

#[test]
fn the_kth_call_fails_for_every_k() {
    let reference = Bench::in_memory(SENTENCES);
    let counter = Kth::new(usize::MAX, Fault::Eio);
    let watching = watch(&reference.path(""), Arc::clone(&counter) as Arc<dyn Watcher>);
    run_into(&reference, "out").expect("nothing is in its way");
    drop(watching);
    let calls = counter.seen.load(Ordering::SeqCst);
    assert!(calls > 100, "{calls} calls");
    let rounds = cases(1, 3) as usize;
    let all: Vec<(usize, Fault)> =
        (0..rounds).flat_map(|_| (0..calls).flat_map(|k| FAULTS.map(|fault| (k, fault)))).collect();
    let wrong = in_threads(all.len() as u64, |(bench, right), number| {
        strike(bench, right, all[number as usize]).into_iter().collect()
    });
    say(
        "calls on files that failed: each of them, by EIO, ENOSPC, EINTR and short writes",
        all.len() as u64,
        wrong.len() as u64,
    );
    assert!(
        wrong.is_empty(),
        "{} of {}: {:#?}",
        wrong.len(),
        all.len(),
        &wrong[..wrong.len().min(20)]
    );
}
