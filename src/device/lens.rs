//! Rows of any origin read as the head reads the last layer's (the logit lens), and what single
//! neurons add to the stream.

use super::backward::Differentiable;
use super::gradient_ops::Metric;
use super::ops::{Epilogue, Pooling, RowRuns};
use super::score::{Score, Scoring};
use super::suffix_ops::SuffixOps;
use crate::error::Result;

impl<O: SuffixOps> Differentiable<O> {
    /// Scores rows as if they were the final norm's, `[R, D]` row-major, at most as many as a batch has
    /// tokens; with a metric, also its gradient with respect to them.
    pub fn score_rows(
        &mut self,
        rows: &[f32],
        (targets, foils): (&[u32], Option<&[u32]>),
        metric: Option<Metric>,
    ) -> Result<(Vec<Score>, Vec<f32>)> {
        let count = targets.len();
        let starts: Vec<u32> = (0..).take(count + 1).collect();
        self.forward.set_rows(count, &starts);
        self.start(count);
        let model = &mut self.forward;
        model.ops.write(&mut model.work.h, rows)?;
        let own = &starts[..count];
        let scoring = Scoring { rows: own, targets, foils, reference: None, keep: None };
        let weights = vec![1.0; count];
        let scores = self.score(&starts, scoring, metric.map(|metric| (metric, &weights[..])))?;
        let mut gradient = Vec::new();
        if metric.is_some() {
            self.forward.ops.read(&self.g.h, &mut gradient)?;
        }
        Ok((scores, gradient))
    }

    /// Mean row of the final norm of each sequence of the batch that was run last, `[S, D]`.
    pub fn mean_rows(&self, starts: &[u32]) -> Result<Vec<f32>> {
        let (ops, model) = (&self.forward.ops, &self.forward);
        let (first, len): (Vec<u32>, Vec<u32>) =
            starts.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).unzip();
        let mut means = ops.tensor(first.len(), model.spec.width)?;
        ops.set_rows(&mut means, first.len());
        let runs = RowRuns { first: &first, len: &len };
        ops.pool(Pooling::Mean, runs, &model.work.h, &mut means);
        let mut values = Vec::new();
        ops.read(&means, &mut values)?;
        Ok(values)
    }

    /// The product of each row, `[R, D]`, with what each neuron of a layer writes into the stream: its
    /// column of the down projection. `[R, F]`.
    pub fn read_by_neurons(&self, layer: usize, rows: &[f32]) -> Result<Vec<f32>> {
        let (ops, spec) = (&self.forward.ops, &self.forward.spec);
        let count = rows.len() / spec.width;
        let room = |cols: usize| {
            let mut tensor = ops.tensor(count, cols)?;
            ops.set_rows(&mut tensor, count);
            Ok::<_, crate::error::Error>(tensor)
        };
        let (mut x, mut out) = (room(spec.width)?, room(spec.mlp.width)?);
        ops.write(&mut x, rows)?;
        ops.linear(&self.transposed[layer].down, &x, Epilogue::Store, &mut out);
        let mut values = Vec::new();
        ops.read(&out, &mut values)?;
        Ok(values)
    }

    /// The stream with one neuron more: row r is row `tokens[r]` of `stream`, `[T, D]`, plus what neuron
    /// `neurons[r]` of the layer writes there, `act` being the layer's neurons, `[T, F]`.
    pub fn with_neuron(
        &self,
        layer: usize,
        (tokens, neurons): (&[u32], &[u32]),
        (stream, act): (&O::Tensor, &O::Tensor),
    ) -> Result<Vec<f32>> {
        let (ops, count) = (&self.forward.ops, tokens.len());
        let mut out = ops.tensor(count, self.forward.spec.width)?;
        ops.set_rows(&mut out, count);
        let ones = vec![1; count];
        ops.pool(Pooling::First, RowRuns { first: tokens, len: &ones }, stream, &mut out);
        let (scale, shift) = (vec![2.0; count], vec![0.0; count]);
        let down = &self.forward.weights.layers[layer].down;
        ops.shift_neurons(down, (tokens, neurons), (act, &scale, &shift), &mut out);
        let mut values = Vec::new();
        ops.read(&out, &mut values)?;
        Ok(values)
    }
}
