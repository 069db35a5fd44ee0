//! The blocks, or other pieces of work, that wait for a device. One queue for all devices: whoever is
//! free takes the next, and a device that fails puts its block back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Result;

/// See the module.
pub(super) struct Queue<T, I> {
    state: Mutex<State<T, I>>,
    changed: Condvar,
    halted: AtomicBool,
}

struct State<T, I> {
    /// The corpus, until it ends.
    blocks: Option<I>,
    /// Blocks of devices that failed.
    returned: Vec<T>,
    /// Blocks that somebody works on, and may still put back.
    working: usize,
}

impl<T, I: Iterator<Item = Result<T>>> Queue<T, I> {
    pub(super) fn new(blocks: I) -> Self {
        let state = State { blocks: Some(blocks), returned: Vec::new(), working: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), halted: AtomicBool::new(false) }
    }

    /// The next block; waits while there is none but one may come back. None when all are done, or
    /// the queue is halted.
    pub(super) fn take(&self) -> Option<Result<T>> {
        let mut state = self.lock();
        while !self.is_halted() {
            if let Some(block) = state.returned.pop() {
                state.working += 1;
                return Some(Ok(block));
            }
            if let Some(blocks) = &mut state.blocks {
                match blocks.next() {
                    Some(Ok(block)) => {
                        state.working += 1;
                        return Some(Ok(block));
                    }
                    Some(error) => return Some(error),
                    None => state.blocks = None,
                }
            } else if state.working == 0 {
                return None;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        None
    }

    /// A block that was taken is done, or comes back to be done by another.
    pub(super) fn put(&self, unfinished: Option<T>) {
        let mut state = self.lock();
        state.returned.extend(unfinished);
        state.working -= 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Nobody gets another block, and whoever waits for one is told.
    pub(super) fn halt(&self) {
        self.halted.store(true, Ordering::Relaxed);
        // With the lock held, nobody is between looking at `halted` and waiting.
        drop(self.lock());
        self.changed.notify_all();
    }

    pub(super) fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Relaxed)
    }

    /// A panic while the lock was held halts the queue: what it left is not looked at again.
    fn lock(&self) -> MutexGuard<'_, State<T, I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Halts the queue if the thread that holds it panics, so that nobody waits for that thread.
pub(super) struct HaltOnPanic<'a, T, I: Iterator<Item = Result<T>>>(pub(super) &'a Queue<T, I>);

impl<T, I: Iterator<Item = Result<T>>> Drop for HaltOnPanic<'_, T, I> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.halt();
        }
    }
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.
    use super::*;
    use crate::corpus::block::{Block, Counts};

    fn blocks(n: u32) -> impl Iterator<Item = Result<Block>> + Send {
        (0..n).map(|index| Ok(Block { index, sequences: Vec::new(), counts: Counts::default() }))
    }

    fn index(taken: Option<Result<Block>>) -> Option<u32> {
        taken.map(|block| block.expect("no error was put in").index)
    }

    /// The last worker waits for a block that another may put back, and does it.
    #[test]
    fn a_block_that_comes_back_finds_the_one_who_waits() {
        let queue = Queue::new(blocks(1));
        let first = queue.take().expect("one block").expect("no error");
        std::thread::scope(|scope| {
            let other = scope.spawn(|| index(queue.take()));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!other.is_finished(), "it would leave the block undone");
            queue.put(Some(first));
            assert_eq!(other.join().expect("no panic"), Some(0));
            queue.put(None);
        });
        assert_eq!(index(queue.take()), None);
    }

    #[test]
    fn a_panic_wakes_who_waits() {
        let queue = Queue::new(blocks(1));
        std::thread::scope(|scope| {
            assert_eq!(index(queue.take()), Some(0));
            let waits = scope.spawn(|| index(queue.take()));
            let panics = scope.spawn(|| {
                let _guard = HaltOnPanic(&queue);
                panic!("on purpose");
            });
            assert!(panics.join().is_err());
            assert_eq!(waits.join().expect("no panic"), None);
        });
    }
}
