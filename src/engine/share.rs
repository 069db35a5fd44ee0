//! Work that many devices share and that leaves nothing to merge: whoever is free takes the next
//! piece, and a piece whose device fails is done by another.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::fleet::{Device, Fleet, Member, say_lost};
use super::queue::{HaltOnPanic, Queue};
use crate::device::forward::Forward;
use crate::error::{Error, Result};

/// Does something with each piece on one of the devices. A piece may be begun more than once, on
/// batches of another size, and must then give the same.
pub(super) fn share<O: Device, T: Send>(
    fleet: &mut Fleet<'_, O>,
    pieces: impl Iterator<Item = Result<T>> + Send,
    work: impl Fn(&mut Forward<O>, &T) -> Result<()> + Sync,
) -> Result<()> {
    let queue = Queue::new(pieces);
    let left = AtomicUsize::new(fleet.len());
    let ends: Vec<thread::Result<Result<()>>> = thread::scope(|scope| {
        let start = |member| {
            let (queue, left, work) = (&queue, &left, &work);
            scope.spawn(move || take_turns(member, (queue, left), work))
        };
        let workers: Vec<_> = fleet.members_mut().map(start).collect();
        workers.into_iter().map(|worker| worker.join()).collect()
    });
    let mut lost = Vec::new();
    let mut failed = None;
    for (place, end) in ends.into_iter().enumerate() {
        match end {
            Err(panic) => resume_unwind(panic),
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.is_of_device() => lost.push((place, error)),
            Ok(Err(error)) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or_else(|| fleet.give_up(lost), Err)
}

/// One device's worker: until there are no pieces, its device fails, or anything else does.
fn take_turns<O: Device, T, I: Iterator<Item = Result<T>>>(
    member: &mut Member<'_, O>,
    (queue, left): (&Queue<T, I>, &AtomicUsize),
    work: &impl Fn(&mut Forward<O>, &T) -> Result<()>,
) -> Result<()> {
    let _guard = HaltOnPanic(queue);
    let halted = |error: Error| {
        queue.halt();
        error
    };
    while let Some(piece) = queue.take() {
        let piece = piece.map_err(halted)?;
        match member.work(|forward| work(forward, &piece)) {
            Ok(()) => queue.put(None),
            Err(error) if error.is_of_device() => {
                say_lost(member.name(), &error, left.fetch_sub(1, Ordering::Relaxed) - 1);
                queue.put(Some(piece));
                return Err(error);
            }
            Err(error) => return Err(halted(error)),
        }
    }
    Ok(())
}
