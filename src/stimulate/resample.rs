//! Neurons that take the value which they have at another token: what tokens lend each other.

use std::collections::BTreeMap;
use std::ops::Range;

use super::neurons::{Neurons, activations};
use super::question::{Question, QuestionBatch, batches};
use crate::device::backward::Differentiable;
use crate::device::gradient_ops::GradientOps;
use crate::error::Result;
use crate::hash::derangement;

/// Questions of a batch, among those whose tokens lend each other values.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// Those that lend: as the experiment cuts them, whatever the size of a device's batches.
    pub among: &'a [Question],
    /// Their groups.
    pub groups: &'a [Option<u32>],
    /// Which of them are asked.
    pub own: Range<usize>,
}

impl<'a> Asked<'a> {
    /// All questions are asked.
    pub fn all(among: &'a [Question], groups: &'a [Option<u32>]) -> Self {
        Self { among, groups, own: 0..among.len() }
    }

    /// What is asked, with the groups.
    pub fn questions(&self) -> (&'a [Question], &'a [Option<u32>]) {
        (&self.among[self.own.clone()], &self.groups[self.own.clone()])
    }
}

/// Neurons of all tokens that lend, on the host.
pub(super) struct Lent {
    /// `[tokens, N]` by layer.
    values: BTreeMap<usize, Vec<f32>>,
    width: usize,
    tokens: usize,
    /// The first token of the batch that is asked.
    first: usize,
}

impl Lent {
    /// Runs everything that lends, in batches that the device has room for.
    pub(super) fn new<O: GradientOps>(
        run: &mut Differentiable<O>,
        neurons: &Neurons,
        asked: &Asked<'_>,
    ) -> Result<Self> {
        let mut values: BTreeMap<usize, Vec<f32>> =
            neurons.layers.iter().map(|&layer| (layer, Vec::new())).collect();
        for cut in batches(asked.among, run.limits().tokens) {
            let kept = activations(run, &QuestionBatch::new(&asked.among[cut]), &neurons.sites())?;
            for (&layer, values) in &mut values {
                values.extend(kept.read(run.ops(), neurons.site(layer))?);
            }
        }
        let tokens = |of: &[Question]| of.iter().map(|one| one.tokens.len()).sum();
        Ok(Self {
            values,
            width: neurons.width,
            tokens: tokens(asked.among),
            first: tokens(&asked.among[..asked.own.start]),
        })
    }

    /// The value that a neuron of a layer borrows at a token of the batch; nobody lends to itself.
    pub(super) fn borrowed(&self, layer: usize, seed: u64) -> impl Fn(u32, u32) -> f32 + '_ {
        let donors = derangement(self.tokens, seed);
        let values = &self.values[&layer];
        move |neuron, token| {
            values[donors[self.first + token as usize] * self.width + neuron as usize]
        }
    }
}
