//! One pass over the corpus: blocks in, merged statistics out. A worker thread for each device takes
//! blocks from one queue; each block's statistics start from nothing, are put away in the attempt's
//! segment, and merge along the fixed tree. Which device did a block, and when, changes no bit.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::fleet::{Device, Fleet, Member, say_lost};
use super::queue::{HaltOnPanic, Queue};
use super::states::States;
use super::watch::StatisticsWatch;
use crate::accumulate::run::RunStatistics;
use crate::config::Pool;
use crate::corpus::batch::{Batch, pack};
use crate::corpus::block::Block;
use crate::device::forward::{Forward, ForwardInput, SiteWork};
use crate::device::ops::Ops;
use crate::device::statistics::StatisticsPlan;
use crate::error::{Error, Result};
use crate::id::Site;

/// What is collected, over which blocks, and where the states go.
pub struct PassPlan {
    /// Sites and their statistics, in forward order.
    pub sites: Vec<(Site, Arc<StatisticsPlan>)>,
    /// How tokens become rows.
    pub pool: Pool,
    /// Tokens of a device call; a single longer sequence makes a call of its own.
    pub batch_tokens: usize,
    /// Blocks of the corpus plan.
    pub blocks: u32,
    /// Largest share of non-finite activations.
    pub max_nan: f64,
}

/// How far a pass is: tokens done, and blocks done of blocks planned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassProgress {
    /// Tokens run so far, earlier attempts included.
    pub tokens: u64,
    /// Blocks done, the running ones in part.
    pub blocks: f64,
}

/// What a worker tells; its place in the fleet goes before it.
enum Message {
    /// So much of its block: tokens, and the share of it.
    Batch(u64, f64),
    /// All of its block.
    Block(u32, RunStatistics),
    /// Its device has failed, and the block is in the queue again.
    Lost(Error),
    /// What ends the pass: bad input, or the stop flag.
    Failed(Error),
}

/// Runs every block of `blocks` and adds it to `states`. Stops between batches when `stop` is set.
/// However the pass ends, the blocks that are done by then stay done.
pub fn run_pass<O: Device>(
    fleet: &mut Fleet<'_, O>,
    plan: &PassPlan,
    states: &mut States<RunStatistics>,
    blocks: impl Iterator<Item = Result<Block>> + Send,
    (stop, report): (&AtomicBool, impl FnMut(PassProgress)),
) -> Result<()> {
    let queue = Queue::new(blocks);
    let names: Vec<String> = fleet.members_mut().map(|member| member.name().to_owned()).collect();
    let mut lost = Vec::new();
    let (outcome, ends) = thread::scope(|scope| {
        let _guard = HaltOnPanic(&queue);
        // Without room of its own: a worker that is ahead waits, so that states do not pile up.
        let (sender, receiver) = sync_channel(0);
        let workers: Vec<_> = fleet
            .members_mut()
            .enumerate()
            .map(|(place, member)| {
                let (line, queue) = (Line { place, sender: sender.clone() }, &queue);
                scope.spawn(move || work(member, plan, (queue, stop), &line))
            })
            .collect();
        drop(sender);
        let outcome = collect(receiver, plan, states, (&names, &mut lost), report);
        queue.halt();
        let ends: Vec<thread::Result<()>> = workers.into_iter().map(|w| w.join()).collect();
        (outcome, ends)
    });
    let panic = ends.into_iter().find_map(thread::Result::err);
    let outcome = outcome.and_then(|()| fleet.give_up(lost));
    // A disk that has just refused a state is not asked again.
    let disk = matches!(outcome, Err(Error::Io { .. } | Error::Contradiction { .. }));
    let commit = if disk { Ok(()) } else { states.commit() };
    match panic {
        Some(panic) => resume_unwind(panic),
        None => outcome.and(commit),
    }
}

/// A worker's line to the one who collects.
struct Line {
    place: usize,
    sender: SyncSender<(usize, Message)>,
}

impl Line {
    /// Waits until it is heard; false if nobody listens any more.
    fn tell(&self, message: Message) -> bool {
        self.sender.send((self.place, message)).is_ok()
    }

    /// Told if somebody is listening right now: progress is not worth waiting for.
    fn mention(&self, message: Message) {
        let _ = self.sender.try_send((self.place, message));
    }
}

/// A worker: takes blocks until there are none, its device fails, or the pass ends.
fn work<O: Device, I: Iterator<Item = Result<Block>>>(
    member: &mut Member<'_, O>,
    plan: &PassPlan,
    (queue, stop): (&Queue<Block, I>, &AtomicBool),
    line: &Line,
) {
    let _guard = HaltOnPanic(queue);
    let stopped = || stop.load(Ordering::Relaxed) || queue.is_halted();
    while let Some(block) = queue.take() {
        let block = match block {
            Ok(block) => block,
            Err(error) => {
                line.tell(Message::Failed(error));
                return;
            }
        };
        tracing::debug!(device = member.name(), block = block.index, "block taken");
        match member.work(|forward| run_block(forward, &block, plan, (&stopped, line))) {
            Ok(state) => {
                if !line.tell(Message::Block(block.index, state)) {
                    return;
                }
                queue.put(None);
            }
            Err(error) if error.is_of_device() => {
                line.tell(Message::Lost(error));
                return queue.put(Some(block));
            }
            Err(error) => {
                line.tell(Message::Failed(error));
                return;
            }
        }
    }
}

/// Listens to the workers until the last has gone, or something ends the pass.
fn collect(
    messages: Receiver<(usize, Message)>,
    plan: &PassPlan,
    states: &mut States<RunStatistics>,
    (names, lost): (&[String], &mut Vec<(usize, Error)>),
    mut report: impl FnMut(PassProgress),
) -> Result<()> {
    let mut tokens = states.tokens();
    let mut done = f64::from(plan.blocks) - states.missing(plan.blocks).len() as f64;
    let mut running = vec![(0, 0.0); names.len()];
    for (place, message) in messages {
        running[place] = (0, 0.0);
        match message {
            Message::Batch(inside, part) => running[place] = (inside, part),
            Message::Block(index, state) => {
                tokens += state.counts.tokens;
                done += 1.0;
                states.add(index, state)?;
            }
            Message::Lost(error) => {
                say_lost(&names[place], &error, names.len() - lost.len() - 1);
                lost.push((place, error));
            }
            Message::Failed(error) => return Err(error),
        }
        let (inside, parts) =
            running.iter().fold((0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        report(PassProgress { tokens: tokens + inside, blocks: done + parts });
    }
    Ok(())
}

/// One block, from nothing to its statistics. Rows are added one after the other, so that the size
/// of the batches changes no bit.
fn run_block<O: Ops>(
    forward: &mut Forward<O>,
    block: &Block,
    plan: &PassPlan,
    (stopped, line): (&impl Fn() -> bool, &Line),
) -> Result<RunStatistics> {
    let budget = plan.batch_tokens.min(forward.limits().tokens);
    let mut watch = StatisticsWatch::new(forward, &plan.sites, plan.pool)?;
    let total = block.counts.tokens.max(1) as f64;
    let mut inside = 0;
    for batch in &pack(&block.sequences, budget) {
        if stopped() {
            return Err(Error::Unfinished { what: "stopped by a signal".into() });
        }
        run_batch(forward, batch, &mut watch)?;
        inside += batch.tokens.len() as u64;
        line.mention(Message::Batch(inside, inside as f64 / total));
    }
    watch.finish(forward.ops(), block.counts, plan)
}

/// Runs one batch past a watch.
pub fn run_batch<O: Ops>(
    forward: &mut Forward<O>,
    batch: &Batch,
    watch: &mut StatisticsWatch<O>,
) -> Result<()> {
    let wanted = watch.sites();
    watch.begin(batch);
    let edits = BTreeMap::new();
    forward.run(
        ForwardInput::of(batch),
        &mut SiteWork { wanted: &wanted, edits: &edits, visitor: watch },
    )
}
