//! Work that many devices share: whoever is free takes the next piece, and a piece whose device fails
//! is done by another. One thread takes in what comes of the pieces.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::fleet::{Device, Fleet, Member, say_lost};
use super::queue::{HaltOnPanic, Queue};
use crate::error::{Error, Result};

/// Does something with each piece on one of the devices, and hands what comes of it to `each`, in the
/// order in which pieces get done. A piece may be begun more than once, on batches of another size, and
/// must then give the same.
pub fn share<O: Device, P: Send, T: Send, R: Send>(
    fleet: &mut Fleet<'_, O, P>,
    pieces: impl Iterator<Item = Result<T>> + Send,
    work: impl Fn(&mut P, &T) -> Result<R> + Sync,
    mut each: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    let never = AtomicBool::new(false);
    let ended = share_out(
        fleet,
        (pieces, &never),
        |program, piece, _| work(program, piece),
        |_, told| match told {
            Told::Part(..) => Ok(()),
            Told::Done(result) => each(result),
        },
    );
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

/// A piece of work while a device does it: whether to go on, and how far it is.
pub struct Underway<'a> {
    device: &'a str,
    stopped: &'a dyn Fn() -> bool,
    mention: &'a dyn Fn(u64, f64),
}

impl Underway<'_> {
    /// What people call the device.
    pub fn device(&self) -> &str {
        self.device
    }

    /// Asked between two batches: an error once the work was stopped, or has failed elsewhere.
    pub fn go_on(&self) -> Result<()> {
        match (self.stopped)() {
            true => Err(Error::Unfinished { what: "stopped by a signal".into() }),
            false => Ok(()),
        }
    }

    /// So many tokens of the piece are done, and this share of it.
    pub fn so_far(&self, tokens: u64, share: f64) {
        (self.mention)(tokens, share);
    }
}

/// As [`share`], where the work is stopped by `stop`, and by what fails elsewhere, if it asks; `told` hears
/// of every piece from which place in the fleet it comes.
pub fn share_until<O: Device, P: Send, T: Send, R: Send>(
    fleet: &mut Fleet<'_, O, P>,
    pieces_and_stop: (impl Iterator<Item = Result<T>> + Send, &AtomicBool),
    work: impl Fn(&mut P, &T, &Underway<'_>) -> Result<R> + Sync,
    told: impl FnMut(usize, Told<R>) -> Result<()>,
) -> Result<()> {
    share_out(fleet, pieces_and_stop, work, told).unwrap_or_else(|panic| resume_unwind(panic))
}

/// What the one who collects is told.
pub enum Told<R> {
    /// So much of a piece is done: tokens, and the share of it. Nothing where it begins again.
    Part(u64, f64),
    /// All of it.
    Done(R),
}

/// What a worker tells; its place in the fleet goes before it.
enum Message<R> {
    Told(Told<R>),
    /// Its device has failed, and the piece is in the queue again.
    Lost(Error),
    /// What ends the work: bad input, or the stop flag.
    Failed(Error),
}

/// As [`share`]; `take` hears everything, from which place in the fleet it comes, and `work` is told
/// when `stop` is set. However it ends, all threads have: with a panic if one of them had it.
pub(super) fn share_out<O: Device, P: Send, T: Send, R: Send>(
    fleet: &mut Fleet<'_, O, P>,
    (pieces, stop): (impl Iterator<Item = Result<T>> + Send, &AtomicBool),
    work: impl Fn(&mut P, &T, &Underway<'_>) -> Result<R> + Sync,
    take: impl FnMut(usize, Told<R>) -> Result<()>,
) -> thread::Result<Result<()>> {
    let queue = Queue::new(pieces);
    let names: Vec<String> = fleet.members_mut().map(|member| member.name().to_owned()).collect();
    let mut lost = Vec::new();
    let unheard = &AtomicUsize::new(0);
    let (outcome, ends) = thread::scope(|scope| {
        let _guard = HaltOnPanic(&queue);
        let (sender, receiver) = sync_channel(room(names.len()));
        let start = |(place, member)| {
            let line = Line { place, sender: sender.clone(), unheard };
            let (queue, work) = (&queue, &work);
            // What workers log belongs to whatever they were started for.
            let span = tracing::Span::current();
            scope.spawn(move || span.in_scope(|| take_turns(member, (queue, stop), work, &line)))
        };
        let workers: Vec<_> = fleet.members_mut().enumerate().map(start).collect();
        drop(sender);
        let outcome = collect((receiver, unheard), (&names, &mut lost), take);
        queue.halt();
        let ends: Vec<thread::Result<()>> = workers.into_iter().map(|w| w.join()).collect();
        (outcome, ends)
    });
    match ends.into_iter().find_map(thread::Result::err) {
        Some(panic) => Err(panic),
        None => Ok(outcome.and_then(|()| fleet.give_up(lost))),
    }
}

/// Messages that may wait for the one who collects. A result for each of several devices, so that they go on
/// while states are written to the disk; one device has to wait, for nobody else could be in its way,
/// and memory then holds one result less.
fn room(devices: usize) -> usize {
    if devices > 1 { devices } else { 0 }
}

/// A worker's line to the one who collects.
struct Line<'a, R> {
    place: usize,
    sender: SyncSender<(usize, Message<R>)>,
    /// Messages on all lines that nobody has taken yet.
    unheard: &'a AtomicUsize,
}

impl<R> Line<'_, R> {
    /// Waits until there is room for it; false if nobody listens any more.
    fn tell(&self, message: Message<R>) -> bool {
        self.unheard.fetch_add(1, Ordering::Relaxed);
        self.sender.send((self.place, message)).is_ok()
    }

    /// Told if whoever listens has nothing else to do: progress takes no room from results.
    fn mention(&self, message: Message<R>) {
        if self.unheard.fetch_add(1, Ordering::Relaxed) > 0
            || self.sender.try_send((self.place, message)).is_err()
        {
            self.unheard.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// One device's worker: takes pieces until there are none, its device fails, or the work ends.
fn take_turns<O: Device, P, T, R, I: Iterator<Item = Result<T>>>(
    member: &mut Member<'_, O, P>,
    (queue, stop): (&Queue<T, I>, &AtomicBool),
    work: &impl Fn(&mut P, &T, &Underway<'_>) -> Result<R>,
    line: &Line<'_, R>,
) {
    let _guard = HaltOnPanic(queue);
    let name = member.name().to_owned();
    let stopped = || stop.load(Ordering::Relaxed) || queue.is_halted();
    let mention = |tokens, share| line.mention(Message::Told(Told::Part(tokens, share)));
    let underway = Underway { device: &name, stopped: &stopped, mention: &mention };
    while let Some(piece) = queue.take() {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                line.tell(Message::Failed(error));
                return;
            }
        };
        match member.work(|program| work(program, &piece, &underway)) {
            Ok(result) => {
                if !line.tell(Message::Told(Told::Done(result))) {
                    return;
                }
                queue.put(None);
            }
            Err(error) if error.is_of_device() => {
                line.tell(Message::Lost(error));
                return queue.put(Some(piece));
            }
            Err(error) => {
                line.tell(Message::Failed(error));
                return;
            }
        }
    }
}

/// Listens to the workers until the last has gone, or something ends the work.
fn collect<R>(
    (messages, unheard): (Receiver<(usize, Message<R>)>, &AtomicUsize),
    (names, lost): (&[String], &mut Vec<(usize, Error)>),
    mut take: impl FnMut(usize, Told<R>) -> Result<()>,
) -> Result<()> {
    for (place, message) in messages {
        unheard.fetch_sub(1, Ordering::Relaxed);
        match message {
            Message::Told(told) => take(place, told)?,
            Message::Lost(error) => {
                say_lost(&names[place], &error, names.len() - lost.len() - 1);
                lost.push((place, error));
                take(place, Told::Part(0, 0.0))?;
            }
            Message::Failed(error) => return Err(error),
        }
    }
    Ok(())
}
