//! A task that gets no further is ended: some failures of devices and disks are calls that never
//! return, which nobody but another thread can see.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long nothing may happen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// So many times the median of what a block took.
    pub(super) blocks: u32,
    /// But never less than this.
    pub(super) least: Duration,
    /// Before the first block is done: models are loaded, kernels compiled.
    pub(super) first: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { blocks: 10, least: Duration::from_secs(120), first: Duration::from_secs(3600) }
    }
}

impl Patience {
    /// How long nothing may happen after blocks that took so many seconds each.
    fn after(&self, took: &[f64]) -> Duration {
        if took.is_empty() {
            return self.first;
        }
        let mut sorted = took.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        self.least.max(Duration::from_secs_f64(median).saturating_mul(self.blocks))
    }
}

/// What has been seen.
struct Seen {
    tokens: u64,
    blocks: f64,
    moved: Instant,
    /// When the last block was done.
    block: Instant,
    took: Vec<f64>,
    ended: bool,
}

/// Watches from a thread of its own until it is dropped.
pub(super) struct Watchdog {
    shared: Arc<(Mutex<Seen>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Calls `bite` with what it saw, once, if nothing is noted for too long.
    pub(super) fn start(patience: Patience, bite: impl FnOnce(String) + Send + 'static) -> Self {
        let now = Instant::now();
        let seen =
            Seen { tokens: 0, blocks: 0.0, moved: now, block: now, took: Vec::new(), ended: false };
        let shared = Arc::new((Mutex::new(seen), Condvar::new()));
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            if let Some(what) = wait(&theirs, patience) {
                bite(what);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// So many tokens were read so far, which makes so many blocks, the running ones in part.
    pub(super) fn note(&self, tokens: u64, blocks: f64) {
        let mut seen = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if tokens == seen.tokens && blocks == seen.blocks {
            return;
        }
        if blocks.floor() > seen.blocks.floor() && seen.tokens > 0 {
            let took = now.duration_since(seen.block).as_secs_f64();
            seen.took.push(took);
            seen.block = now;
        }
        (seen.tokens, seen.blocks, seen.moved) = (tokens, blocks, now);
    }
}

impl Watchdog {
    /// Nothing more will be noted: what comes now takes as long as it takes.
    pub(super) fn rest(&self) {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.shared.1.notify_all();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.rest();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Waits until the watch is over, or nothing has happened for too long, and says so.
fn wait((seen, over): &(Mutex<Seen>, Condvar), patience: Patience) -> Option<String> {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if seen.ended {
            return None;
        }
        let (allowed, idle) = (patience.after(&seen.took), seen.moved.elapsed());
        let Some(left) = allowed.checked_sub(idle).filter(|left| !left.is_zero()) else {
            return Some(format!(
                "nothing happened for {:.0} s, after {} tokens and {:.1} blocks",
                idle.as_secs_f64(),
                seen.tokens,
                seen.blocks
            ));
        };
        seen = over.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Ends this process a little later, whatever its other threads wait for.
pub(super) fn end_process_soon() {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(10));
        std::process::abort();
    });
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand, in milliseconds.

    use std::sync::mpsc;

    use super::*;

    fn quick() -> Patience {
        let ms = Duration::from_millis;
        Patience { blocks: 10, least: ms(150), first: ms(400) }
    }

    #[test]
    fn who_gets_no_further_is_bitten_once() {
        let (send, bites) = mpsc::channel();
        let clock = Instant::now();
        let dog = Watchdog::start(quick(), move |what| send.send(what).expect("waited for"));
        dog.note(5, 0.5);
        let what = bites.recv_timeout(Duration::from_secs(20)).expect("it bites");
        assert!(clock.elapsed() >= Duration::from_millis(400), "the first block may take longer");
        assert!(what.contains("after 5 tokens and 0.5 blocks"), "{what}");
        // The same again is no progress, and one bite is enough.
        dog.note(5, 0.5);
        assert!(bites.recv_timeout(Duration::from_millis(300)).is_err());
    }

    #[test]
    fn who_goes_on_or_ends_is_left_alone() {
        let (send, bites) = mpsc::channel();
        let dog = Watchdog::start(quick(), move |what| send.send(what).expect("waited for"));
        for tokens in 1..12 {
            dog.note(tokens, tokens as f64 / 4.0);
            std::thread::sleep(Duration::from_millis(50));
        }
        dog.rest();
        assert!(bites.recv_timeout(Duration::from_millis(500)).is_err());
    }

    #[test]
    fn patience_is_ten_times_the_median() {
        let patience = Patience::default();
        assert_eq!(patience.after(&[]), Duration::from_secs(3600));
        assert_eq!(patience.after(&[1.0, 2.0]), Duration::from_secs(120));
        assert_eq!(patience.after(&[30.0, 900.0, 20.0]), Duration::from_secs(300));
    }
}
