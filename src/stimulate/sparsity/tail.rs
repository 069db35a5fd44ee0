//! The tail of a token's neurons: those with `|x_n| s_n <= e`, s being the lengths of what they
//! write, or 1. By the operations that every device has:
//! `open = relu(relu(x) s + relu(-x) s - e)` is 0 in the tail and nowhere else.

use crate::device::ops::{Edit, Epilogue, Ops, Write};
use crate::error::Result;
use crate::model::Activation;

/// Buffers for the neurons of one layer.
pub struct Tail<O: Ops> {
    /// `|x_n| s_n`, `[T, F]`.
    size: O::Tensor,
    /// 0 in the tail, `[T, F]`.
    open: O::Tensor,
    scratch: O::Tensor,
    /// `[1, F]` ones: a sum over the neurons.
    ones: O::Matrix,
    /// `[T, 1]`.
    sums: O::Tensor,
}

/// An edit of everything.
fn all(write: Write) -> Edit {
    Edit { columns: None, tokens: None, write }
}

impl<O: Ops> Tail<O> {
    /// For so many tokens and neurons.
    pub fn new(ops: &O, tokens: usize, neurons: usize) -> Result<Self> {
        let room = || ops.tensor(tokens, neurons);
        Ok(Self {
            size: room()?,
            open: room()?,
            scratch: room()?,
            ones: ops.matrix(1, vec![1.0; neurons], None)?,
            sums: ops.tensor(tokens, 1)?,
        })
    }

    /// Takes the sizes of neurons `[rows, F]`; `scales` are s, none for 1.
    pub fn measure(&mut self, ops: &O, x: &O::Tensor, rows: usize, scales: Option<&[f32]>) {
        for tensor in [&mut self.size, &mut self.open, &mut self.scratch, &mut self.sums] {
            ops.set_rows(tensor, rows);
        }
        ops.activate(Activation::Relu, x, &mut self.size);
        ops.copy(x, &mut self.scratch);
        ops.edit(&all(Write::Scale(-1.0)), &mut self.scratch);
        ops.activate(Activation::Relu, &self.scratch, &mut self.open);
        ops.add(&mut self.size, &self.open);
        if let Some(scales) = scales {
            let scaled = Write::Blend { gates: scales.to_vec(), towards: vec![0.0] };
            ops.edit(&all(scaled), &mut self.size);
        }
    }

    /// The sizes that were taken last, `[rows, F]`.
    pub fn sizes(&self) -> &O::Tensor {
        &self.size
    }

    /// Draws the line at e.
    pub fn cut(&mut self, ops: &O, threshold: f32) {
        ops.copy(&self.size, &mut self.scratch);
        ops.edit(&all(Write::Add(vec![-threshold])), &mut self.scratch);
        ops.activate(Activation::Relu, &self.scratch, &mut self.open);
    }

    /// `x = 0` in the tail.
    pub fn close(&self, ops: &O, x: &mut O::Tensor) {
        ops.edit_mask(&all(Write::KeepTop(0)), &self.open, x);
    }

    /// 1 outside the tail and 0 in it, `[rows, F]`.
    pub fn active(&mut self, ops: &O) -> &O::Tensor {
        ops.edit(&all(Write::Set(vec![1.0])), &mut self.scratch);
        ops.edit_mask(&all(Write::KeepTop(0)), &self.open, &mut self.scratch);
        &self.scratch
    }

    /// Neurons outside the tail, by row.
    pub fn count_active(&mut self, ops: &O, out: &mut Vec<f32>) -> Result<()> {
        self.active(ops);
        ops.linear(&self.ones, &self.scratch, Epilogue::Store, &mut self.sums);
        ops.read(&self.sums, out)
    }
}
