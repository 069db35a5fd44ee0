//! The devices of a run, each with a program on it: a model made ready for batches of some size. A
//! device out of memory gets smaller batches; one that fails is given up, and another does its work.
//!
//! What is made on a device is up to a [`Setup`]: a forward pass, a model whose gradients can be asked
//! for, or anything else. Work that is cut in pieces then goes through [`share`](super::share::share),
//! and what comes of a piece is taken in by one thread:
//!
//! ```
//! # use std::collections::{BTreeMap, BTreeSet};
//! # use electrode::device::{backward::Differentiable, cpu::CpuDevice};
//! # use electrode::device::forward::{ForwardInput, Limits, SiteWork};
//! # use electrode::device::{score::Scoring, site_view::Nobody};
//! # use electrode::engine::{fleet::{Fleet, Setup, Slot}, share::share};
//! # use electrode::model::Model;
//! let model = Model::open("models/tiny-gpt2-en")?;
//! let limits = Limits { tokens: 64, sequence: 16 };
//! // Made on each device when it is first needed, and in a smaller size when there is no room.
//! let setup = Setup::new(limits, |ops, limits| {
//!     Differentiable::new(ops, &model, limits, (&BTreeSet::new(), true))
//! });
//! let slots = ["one", "two"].map(|name| Slot::new(name, || Ok(CpuDevice::F32)));
//! let mut fleet = Fleet::new(slots, setup);
//! let prompts: Vec<Vec<u32>> = (3..9).map(|length| (0..length).collect()).collect();
//! let mut log_probs = BTreeMap::new();
//! // How probable token 7 is after each prompt. A piece may be begun more than once.
//! let ask = |run: &mut Differentiable<CpuDevice>, at: &usize| {
//!     let (tokens, starts) = (&prompts[*at][..], [0, prompts[*at].len() as u32]);
//!     let input = ForwardInput { tokens, starts: &starts, token_types: None, positions: None };
//!     let (wanted, edits) = (BTreeSet::new(), BTreeMap::new());
//!     run.run_only(input, &mut SiteWork { wanted: &wanted, edits: &edits, visitor: &mut Nobody })?;
//!     let (rows, targets) = (&[starts[1] - 1][..], &[7][..]);
//!     let scoring = Scoring { rows, targets, foils: None, reference: None, keep: None };
//!     Ok((*at, run.score(&starts, scoring, None)?[0].log_prob))
//! };
//! share(&mut fleet, (0..prompts.len()).map(Ok), ask, |(at, log_prob)| {
//!     log_probs.insert(at, log_prob); // or append it to a file: pieces come as they get done
//!     Ok(())
//! })?;
//! assert_eq!(log_probs.len(), 6);
//! # Ok::<(), electrode::error::Error>(())
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::device::backward::Differentiable;
use crate::device::forward::{Forward, Limits};
use crate::device::gradient_ops::GradientOps;
use crate::device::ops::Ops;
use crate::error::{Error, Result};
use crate::id::Site;
use crate::model::Model;

/// A device that can work in a thread of its own.
pub trait Device:
    Ops<Tensor: Send, Matrix: Send, Table: Send, Vector: Send, Statistics: Send> + Send
{
}

impl<O> Device for O where
    O: Ops<Tensor: Send, Matrix: Send, Table: Send, Vector: Send, Statistics: Send> + Send
{
}

/// Where a device is found: opened by the thread that works on it, and opened again when it was out
/// of memory, so that everything it held is given back.
pub struct Slot<'a, O> {
    /// What people call it.
    name: String,
    open: Box<dyn Fn() -> Result<O> + Send + 'a>,
}

impl<'a, O> Slot<'a, O> {
    /// A device by its name.
    pub fn new(name: impl Into<String>, open: impl Fn() -> Result<O> + Send + 'a) -> Self {
        Self { name: name.into(), open: Box::new(open) }
    }
}

/// Makes a program on a device that was just opened.
type Make<'a, O, P> = dyn Fn(O, Limits) -> Result<P> + Send + Sync + 'a;

/// What every device of a fleet is made ready for.
pub struct Setup<'a, O, P> {
    /// Largest batch and sequence, as long as there is room for them.
    limits: Limits,
    /// Tokens that a batch must have room for.
    least: usize,
    make: Arc<Make<'a, O, P>>,
}

impl<O, P> Clone for Setup<'_, O, P> {
    fn clone(&self) -> Self {
        Self { limits: self.limits, least: self.least, make: Arc::clone(&self.make) }
    }
}

impl<'a, O, P> Setup<'a, O, P> {
    /// What `make` makes of a device. It is given these limits, or fewer tokens where there is no room,
    /// but never fewer than a sequence has.
    pub fn new(limits: Limits, make: impl Fn(O, Limits) -> Result<P> + Send + Sync + 'a) -> Self {
        Self { limits, least: limits.sequence, make: Arc::new(make) }
    }

    /// No batch can have room for fewer tokens than this.
    #[must_use]
    pub fn at_least(self, tokens: usize) -> Self {
        Self { least: self.least.max(tokens), ..self }
    }
}

impl<'a, O: Device> Setup<'a, O, Forward<O>> {
    /// The forward pass of a model; `wanted` are the sites that will be read.
    pub fn forward(model: &'a Model, limits: Limits, wanted: &'a BTreeSet<Site>) -> Self {
        Self::new(limits, move |ops, limits| Forward::new(ops, model, limits, wanted))
    }
}

impl<'a, O: Device + GradientOps> Setup<'a, O, Differentiable<O>> {
    /// A model with its head whose gradients can be asked for, and whose sites are read as they come.
    pub fn differentiable(model: &'a Model, limits: Limits) -> Self {
        Self::new(limits, move |ops, limits| {
            Differentiable::new(ops, model, limits, (&BTreeSet::new(), true))
        })
    }
}

/// Devices that share the work of a run; never none.
pub struct Fleet<'a, O: Ops, P = Forward<O>> {
    members: Vec<Member<'a, O, P>>,
    lost: Vec<String>,
}

/// A device and what is on it.
pub(super) struct Member<'a, O, P> {
    slot: Slot<'a, O>,
    setup: Setup<'a, O, P>,
    /// Made when it is first needed, and again in a smaller size.
    program: Option<P>,
}

impl<'a, O: Device, P: Send> Fleet<'a, O, P> {
    /// Nothing is opened yet.
    ///
    /// # Panics
    /// If there is no device.
    pub fn new(slots: impl IntoIterator<Item = Slot<'a, O>>, setup: Setup<'a, O, P>) -> Self {
        let member = |slot| Member { slot, setup: setup.clone(), program: None };
        let members: Vec<_> = slots.into_iter().map(member).collect();
        assert!(!members.is_empty(), "a fleet has a device");
        Self { members, lost: Vec::new() }
    }

    /// Number of devices at work.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Devices that were given up, by name.
    pub fn lost(&self) -> &[String] {
        &self.lost
    }

    /// Does something on one device; if that fails, on the next. `work` begins anew each time, and
    /// must give the same whatever the size of the batches.
    pub fn on_one<T>(&mut self, mut work: impl FnMut(&mut P) -> Result<T>) -> Result<T> {
        loop {
            match self.members[0].work(&mut work) {
                Err(error) if error.is_of_device() => {
                    say_lost(self.members[0].name(), &error, self.members.len() - 1);
                    self.give_up(vec![(0, error)])?;
                }
                other => return other,
            }
        }
    }

    /// Does something on every device, all at once; those that fail are given up. Gives what came of
    /// the others, in order.
    pub fn on_each<T: Send>(
        &mut self,
        work: impl Fn(&str, &mut P) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let work = &work;
        let ask = |member: &mut Member<'a, O, P>| {
            let name = member.slot.name.clone();
            member.work(|program| work(&name, program))
        };
        let answers: Vec<Result<T>> = match &mut self.members[..] {
            // On its own thread: the processor's work is shared out from there.
            [one] => vec![ask(one)],
            several => std::thread::scope(|scope| {
                let asked: Vec<_> =
                    several.iter_mut().map(|member| scope.spawn(|| ask(member))).collect();
                let wait = |asked: std::thread::ScopedJoinHandle<'_, Result<T>>| {
                    asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                asked.into_iter().map(wait).collect()
            }),
        };
        let (mut good, mut failed) = (Vec::new(), Vec::new());
        for (place, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(answer) => good.push(answer),
                Err(error) if error.is_of_device() => failed.push((place, error)),
                Err(error) => return Err(error),
            }
        }
        let left = good.len();
        failed.iter().for_each(|(at, error)| say_lost(self.members[*at].name(), error, left));
        self.give_up(failed)?;
        Ok(good)
    }

    /// The first device anew, once everything on it was given back.
    pub(super) fn reopen(&mut self) -> Result<O> {
        self.members[0].program = None;
        (self.members[0].slot.open)()
    }

    /// The devices, to be lent to a thread each.
    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member<'a, O, P>> {
        self.members.iter_mut()
    }

    /// Lets devices go, by place and in the order in which they failed. If no other is left, the
    /// last failure is the fleet's.
    pub(super) fn give_up(&mut self, mut failed: Vec<(usize, Error)>) -> Result<()> {
        if failed.len() == self.members.len()
            && let Some((_, error)) = failed.pop()
        {
            return Err(error);
        }
        let places: BTreeSet<usize> = failed.into_iter().map(|(place, _)| place).collect();
        for place in places.into_iter().rev() {
            self.lost.push(self.members.remove(place).slot.name);
        }
        Ok(())
    }
}

impl<O: Device, P> Member<'_, O, P> {
    pub(super) fn name(&self) -> &str {
        &self.slot.name
    }

    /// Does something on this device, in smaller and smaller batches until there is room for it.
    pub(super) fn work<T>(&mut self, mut work: impl FnMut(&mut P) -> Result<T>) -> Result<T> {
        loop {
            let error = match self.program().and_then(&mut work) {
                Err(error @ Error::DeviceMemory { .. }) => error,
                other => return other,
            };
            if !self.halve() {
                return Err(error);
            }
            let tokens = self.setup.limits.tokens;
            tracing::warn!(device = self.slot.name, %error, tokens, "goes on with smaller batches");
        }
    }

    fn program(&mut self) -> Result<&mut P> {
        let program = match self.program.take() {
            Some(program) => program,
            None => (self.setup.make)((self.slot.open)()?, self.setup.limits)?,
        };
        Ok(self.program.insert(program))
    }

    /// Half the batch, but no less than there must be room for: false if it is that already.
    fn halve(&mut self) -> bool {
        let Setup { limits, least, .. } = &mut self.setup;
        let half = (limits.tokens / 2).max(*least);
        let smaller = half < limits.tokens;
        // What is there goes first, so that there is room for what comes.
        self.program = None;
        limits.tokens = half;
        smaller
    }
}

/// Says that a device is given up; with none left, the error itself will say it.
pub(super) fn say_lost(name: &str, error: &Error, left: usize) {
    if left > 0 {
        tracing::warn!(device = name, %error, left, "device given up, the others do its work");
    }
}
