//! A weight as the products read it: panels of 64 outputs, each `[in, 64]`, so that a step along the
//! inner dimension reads 64 weights in a row. Packed once, when the weight is uploaded.

use std::sync::Arc;

use rayon::prelude::*;

use super::CpuDevice;
use super::pairs::{self, half, pair, rounded};

/// Outputs of a panel; the last is filled up with zeros.
pub(super) const PANEL: usize = 64;

/// A weight `[out, in]`.
#[derive(Clone, Debug)]
pub(super) struct Panels {
    outputs: usize,
    inputs: usize,
    values: Values,
}

/// Its numbers, and what those that they are multiplied with become.
#[derive(Clone, Debug)]
pub(super) enum Values {
    /// f32, `[ceil(out / 64)][in][64]`.
    Exact(Arc<[f32]>),
    /// The same, each the nearest bfloat16: for processors that multiply no pairs.
    Rounded(Arc<[f32]>),
    /// Two bfloat16 in a word, `[ceil(out / 64)][ceil(in / 2)][64]`.
    Pairs(Arc<[u32]>),
}

impl Panels {
    /// Packs a weight whose element of output o and input i is `at(o, i)`.
    pub(super) fn pack(
        device: CpuDevice,
        (outputs, inputs): (usize, usize),
        at: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        let shape = (outputs, inputs);
        let values = match device {
            CpuDevice::F32 => Values::Exact(fill(shape, at)),
            CpuDevice::Bf16 if pairs::available() => {
                let both = |output, step: usize| {
                    let second = 2 * step + 1;
                    let second = if second < inputs { at(output, second) } else { 0.0 };
                    pair(at(output, 2 * step), second)
                };
                Values::Pairs(fill((outputs, inputs.div_ceil(2)), both))
            }
            CpuDevice::Bf16 => return Self::rounded(shape, at),
        };
        Self { outputs, inputs, values }
    }

    /// Of numbers rounded to bfloat16, for processors without products of pairs.
    pub(super) fn rounded(
        (outputs, inputs): (usize, usize),
        at: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        let near = |output, input| f32::from_bits(rounded(at(output, input)) << 16);
        Self { outputs, inputs, values: Values::Rounded(fill((outputs, inputs), near)) }
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// What products read.
    pub(super) fn values(&self) -> &Values {
        &self.values
    }

    /// One element, as it is multiplied.
    pub(super) fn at(&self, output: usize, input: usize) -> f32 {
        let at =
            |steps: usize, step: usize| (output / PANEL * steps + step) * PANEL + output % PANEL;
        match &self.values {
            Values::Exact(values) | Values::Rounded(values) => values[at(self.inputs, input)],
            Values::Pairs(words) => {
                half(words[at(self.inputs.div_ceil(2), input / 2)], input % 2 == 1)
            }
        }
    }

    /// What an input is multiplied with, for every output.
    pub(super) fn of_input(&self, input: usize, out: &mut [f32]) {
        match &self.values {
            Values::Exact(values) | Values::Rounded(values) => {
                for (p, out) in out.chunks_mut(PANEL).enumerate() {
                    let first = (p * self.inputs + input) * PANEL;
                    out.copy_from_slice(&values[first..first + out.len()]);
                }
            }
            Values::Pairs(_) => {
                out.iter_mut().enumerate().for_each(|(output, x)| *x = self.at(output, input));
            }
        }
    }

    /// The weight with outputs and inputs changed for each other; numbers stay what they are rounded to.
    pub(super) fn transposed(&self) -> Self {
        let device = match self.values {
            Values::Exact(_) => CpuDevice::F32,
            Values::Rounded(_) | Values::Pairs(_) => CpuDevice::Bf16,
        };
        Self::pack(device, (self.inputs, self.outputs), |output, input| self.at(input, output))
    }
}

/// Panels of as many steps, whose element of output o and step i is `at(o, i)`.
fn fill<T: Copy + Default + Send + Sync>(
    (outputs, steps): (usize, usize),
    at: impl Fn(usize, usize) -> T + Sync,
) -> Arc<[T]> {
    let mut values = vec![T::default(); outputs.div_ceil(PANEL) * steps * PANEL];
    values.par_chunks_exact_mut((steps * PANEL).max(1)).enumerate().for_each(|(panel, to)| {
        let here = panel * PANEL..outputs.min((panel + 1) * PANEL);
        for (step, row) in to.chunks_exact_mut(PANEL).enumerate() {
            for (value, output) in row.iter_mut().zip(here.clone()) {
                *value = at(output, step);
            }
        }
    });
    values.into()
}
