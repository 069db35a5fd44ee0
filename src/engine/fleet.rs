//! The devices of a run, each with the model on it. A device out of memory gets smaller batches; one
//! that fails is given up, and another does its work.

use std::collections::BTreeSet;

use crate::device::forward::{Forward, Limits};
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

/// What every device of a fleet is made ready for.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// The model.
    pub model: &'a Model,
    /// Largest batch and sequence, as long as there is room for them.
    pub limits: Limits,
    /// Sites that will be read.
    pub wanted: &'a BTreeSet<Site>,
}

/// Devices that share the work of a run; never none.
pub struct Fleet<'a, O: Ops> {
    members: Vec<Member<'a, O>>,
    lost: Vec<String>,
}

/// A device and what is on it.
pub(super) struct Member<'a, O: Ops> {
    slot: Slot<'a, O>,
    setup: Setup<'a>,
    /// Made when it is first needed, and again in a smaller size.
    forward: Option<Forward<O>>,
}

impl<'a, O: Device> Fleet<'a, O> {
    /// Nothing is opened yet.
    ///
    /// # Panics
    /// If there is no device.
    pub fn new(slots: impl IntoIterator<Item = Slot<'a, O>>, setup: Setup<'a>) -> Self {
        let member = |slot| Member { slot, setup, forward: None };
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
    pub fn on_one<T>(&mut self, mut work: impl FnMut(&mut Forward<O>) -> Result<T>) -> Result<T> {
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

    /// The first device anew, once everything on it was given back.
    pub(super) fn reopen(&mut self) -> Result<O> {
        self.members[0].forward = None;
        (self.members[0].slot.open)()
    }

    /// The devices, to be lent to a thread each.
    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member<'a, O>> {
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

impl<O: Device> Member<'_, O> {
    pub(super) fn name(&self) -> &str {
        &self.slot.name
    }

    /// Does something on this device, in smaller and smaller batches until there is room for it.
    pub(super) fn work<T>(
        &mut self,
        mut work: impl FnMut(&mut Forward<O>) -> Result<T>,
    ) -> Result<T> {
        loop {
            let error = match self.forward().and_then(&mut work) {
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

    fn forward(&mut self) -> Result<&mut Forward<O>> {
        let forward = match self.forward.take() {
            Some(forward) => forward,
            None => {
                let Setup { model, limits, wanted } = self.setup;
                Forward::new((self.slot.open)()?, model, limits, wanted)?
            }
        };
        Ok(self.forward.insert(forward))
    }

    /// Half the batch, but no less than the longest sequence needs: false if it is that already.
    fn halve(&mut self) -> bool {
        let Limits { tokens, sequence } = self.setup.limits;
        let half = (tokens / 2).max(sequence);
        // What is there goes first, so that there is room for what comes.
        self.forward = None;
        self.setup.limits.tokens = half;
        half < tokens
    }
}

/// Says that a device is given up; with none left, the error itself will say it.
pub(super) fn say_lost(name: &str, error: &Error, left: usize) {
    if left > 0 {
        tracing::warn!(device = name, %error, left, "device given up, the others do its work");
    }
}
