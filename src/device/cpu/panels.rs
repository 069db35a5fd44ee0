//! A weight as the products read it: panels of 64 outputs, each `[in, 64]`, so that a step along the
//! inner dimension reads 64 weights in a row. Packed once, when the weight is uploaded.

use std::sync::Arc;

use rayon::prelude::*;

/// Outputs of a panel; the last is filled up with zeros.
pub(super) const PANEL: usize = 64;

/// A weight `[out, in]`.
#[derive(Clone, Debug)]
pub(super) struct Panels {
    outputs: usize,
    inputs: usize,
    /// `[ceil(out / 64)][in][64]`.
    values: Arc<[f32]>,
}

impl Panels {
    /// Packs a weight whose element of output o and input i is `at(o, i)`.
    pub(super) fn pack(
        (outputs, inputs): (usize, usize),
        at: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        let panels = outputs.div_ceil(PANEL);
        let mut values = vec![0.0; panels * inputs * PANEL];
        values.par_chunks_exact_mut((inputs * PANEL).max(1)).enumerate().for_each(|(panel, to)| {
            let here = panel * PANEL..outputs.min((panel + 1) * PANEL);
            for (input, row) in to.chunks_exact_mut(PANEL).enumerate() {
                for (value, output) in row.iter_mut().zip(here.clone()) {
                    *value = at(output, input);
                }
            }
        });
        Self { outputs, inputs, values: values.into() }
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Panel number p, `[in, 64]`.
    pub(super) fn panel(&self, p: usize) -> &[f32] {
        &self.values[p * self.inputs * PANEL..][..self.inputs * PANEL]
    }

    /// One element.
    pub(super) fn at(&self, output: usize, input: usize) -> f32 {
        self.panel(output / PANEL)[input * PANEL + output % PANEL]
    }

    /// What an input is multiplied with, for every output.
    pub(super) fn of_input(&self, input: usize, out: &mut [f32]) {
        for (p, out) in out.chunks_mut(PANEL).enumerate() {
            out.copy_from_slice(&self.panel(p)[input * PANEL..][..out.len()]);
        }
    }

    /// The weight with outputs and inputs changed for each other.
    pub(super) fn transposed(&self) -> Self {
        Self::pack((self.inputs, self.outputs), |output, input| self.at(input, output))
    }
}
