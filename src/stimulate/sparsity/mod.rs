//! How many neurons a model uses: firing rates (the Lazy Neuron phenomenon, Li et al. 2023), and
//! cumulative errors of tail truncation (Luo et al. 2024, arXiv 2411.02335).
//!
//! A neuron's output is `o_n = x_n v_n`, v being its column of the down projection. The tail at a
//! threshold e is `D = {n: |x_n| ||v_n|| <= e}`, and
//! `CETT(e) = mean over tokens of ||sum over D of o_n|| / ||sum over all of o_n||`, without the bias.
//! The paper writes `<`; with `<=` neurons that are exactly 0 are in the tail of e = 0.

pub mod curve;
pub mod perplexity;
pub mod tail;
pub mod tallies;

use std::collections::{BTreeMap, BTreeSet};

use self::curve::Point;
use self::tail::Tail;
use self::tallies::Measure;
use crate::accumulate::tally::Tally;
use crate::corpus::batch::Batch;
use crate::corpus::block::Counts;
use crate::device::backward::Differentiable;
use crate::device::forward::{ForwardInput, SiteWork};
use crate::device::gradient_ops::GradientOps;
use crate::device::ops::{Edit, Epilogue, Ops, Pooling, RowRuns, Write};
use crate::device::site_view::{SiteView, SiteVisitor};
use crate::error::Result;
use crate::id::{Site, SiteKind};
use crate::model::{LayerParam, Model, Param};
use crate::stimulate::neurons::site_of;

/// What fires, in one layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Firing {
    /// Tokens seen.
    pub tokens: u64,
    /// Tokens at which each neuron fired, `[F]`.
    pub counts: Vec<u64>,
    /// The largest `|x_n| ||v_n||`.
    pub largest: f32,
    /// The largest `|x_n|`.
    pub largest_value: f32,
}

impl Firing {
    /// Share of all neurons at all tokens.
    pub fn rate(&self) -> f64 {
        let cells = self.tokens as f64 * self.counts.len() as f64;
        if cells > 0.0 { self.counts.iter().sum::<u64>() as f64 / cells } else { 0.0 }
    }

    /// Share of tokens at which a neuron fired.
    pub fn rate_of(&self, neuron: usize) -> f64 {
        if self.tokens > 0 { self.counts[neuron] as f64 / self.tokens as f64 } else { 0.0 }
    }
}

/// The down projections of a model, as far as neurons write through them.
pub struct Down<O: Ops> {
    /// `[D, F]` without bias, by layer.
    weights: Vec<O::Matrix>,
    /// ||v_n||, by layer, `[F]`.
    lengths: Vec<Vec<f32>>,
}

impl<O: Ops> Down<O> {
    /// Uploads them.
    pub fn new(ops: &O, model: &Model) -> Result<Self> {
        let mut down = Self { weights: Vec::new(), lengths: Vec::new() };
        let neurons = model.spec.mlp.width;
        for layer in 0..model.spec.layers {
            let weight = model.tensor(Param::Layer(layer, LayerParam::Down))?;
            let mut squares = vec![0.0; neurons];
            for row in weight.data.chunks_exact(neurons) {
                squares.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v).powi(2));
            }
            #[expect(clippy::cast_possible_truncation, reason = "lengths of f32 columns")]
            down.lengths.push(squares.iter().map(|square| square.sqrt() as f32).collect());
            down.weights.push(ops.matrix(weight.shape[0], weight.data, None)?);
        }
        Ok(down)
    }

    /// ||v_n|| of a layer, `[F]`.
    pub fn lengths(&self, layer: usize) -> &[f32] {
        &self.lengths[layer]
    }
}

/// A model and the tokens it is measured on: the rows of the batches.
pub struct Sparsity<O: GradientOps> {
    run: Differentiable<O>,
    down: Down<O>,
    buffers: Buffers<O>,
}

/// For the rows of a batch.
struct Buffers<O: Ops> {
    tail: Tail<O>,
    /// Neurons of the rows, `[R, F]`, and a copy of them.
    rows: O::Tensor,
    part: O::Tensor,
    /// What they write, `[R, D]`, and its square.
    written: O::Tensor,
    square: O::Tensor,
    /// `[1, D]` ones.
    ones: O::Matrix,
    /// `[R, 1]`.
    norms: O::Tensor,
    /// One number for each neuron, `[1, F]`.
    by_neuron: O::Tensor,
    on_host: Vec<f32>,
}

impl<O: GradientOps> Sparsity<O> {
    /// Of a model that was made for batches of at most so many tokens.
    pub fn new(run: Differentiable<O>, model: &Model) -> Result<Self> {
        let (ops, tokens) = (run.ops(), run.limits().tokens);
        let (neurons, width) = (model.spec.mlp.width, model.spec.width);
        let mut by_neuron = ops.tensor(1, neurons)?;
        ops.set_rows(&mut by_neuron, 1);
        let buffers = Buffers {
            tail: Tail::new(ops, tokens, neurons)?,
            rows: ops.tensor(tokens, neurons)?,
            part: ops.tensor(tokens, neurons)?,
            written: ops.tensor(tokens, width)?,
            square: ops.tensor(tokens, width)?,
            ones: ops.matrix(1, vec![1.0; width], None)?,
            norms: ops.tensor(tokens, 1)?,
            by_neuron,
            on_host: Vec::new(),
        };
        let down = Down::new(ops, model)?;
        Ok(Self { run, down, buffers })
    }

    /// What some batches leave of a measure. Tallies of later batches merge into it.
    pub fn tally(&mut self, batches: &[Batch], measure: &Measure<'_>) -> Result<Tally> {
        let mut tally = match measure {
            Measure::Firing(eps) => self.tally_firing(batches, *eps)?,
            Measure::Cett(thresholds) => self.tally_cett(batches, thresholds)?,
            Measure::Pruned(cut) => self.tally_pruned(batches, cut)?,
        };
        tally.counts = Counts {
            sequences: batches.iter().map(|batch| batch.sequences() as u64).sum(),
            tokens: batches.iter().map(|batch| batch.tokens.len() as u64).sum(),
            rows: batches.iter().map(|batch| batch.rows() as u64).sum(),
            ..Counts::default()
        };
        Ok(tally)
    }

    /// Layers of the model, and neurons of each.
    pub fn shape(&self) -> (usize, usize) {
        (self.run.spec().layers, self.run.spec().mlp.width)
    }

    /// One pass: how often each neuron fires, `|x_n| > eps`, by layer.
    pub fn firing(&mut self, batches: &[Batch], eps: f32) -> Result<Vec<Firing>> {
        let tally = self.tally(batches, &Measure::Firing(eps))?;
        Ok(tallies::firing(&tally, self.shape()))
    }

    /// One pass: CETT at thresholds, by layer, in the order given.
    pub fn cett(&mut self, batches: &[Batch], thresholds: &[Vec<f32>]) -> Result<Vec<Vec<Point>>> {
        let tally = self.tally(batches, &Measure::Cett(thresholds))?;
        Ok(tallies::points(&tally, thresholds, self.shape().1))
    }

    fn tally_firing(&mut self, batches: &[Batch], eps: f32) -> Result<Tally> {
        let Self { run, down, buffers } = self;
        let empty = Firing { counts: vec![0; run.spec().mlp.width], ..Firing::default() };
        let mut found = vec![empty; run.spec().layers];
        for batch in batches {
            let (found, rows) = (&mut found, &batch.row_first);
            let mut visitor = FiringVisitor { down, buffers, rows, eps, found };
            run_batch(run, batch, &BTreeMap::new(), &mut visitor)?;
        }
        Ok(tallies::of_firing(&found))
    }

    fn tally_cett(&mut self, batches: &[Batch], thresholds: &[Vec<f32>]) -> Result<Tally> {
        let Self { run, down, buffers } = self;
        let sums = thresholds.iter().map(|list| vec![[0.0; 2]; list.len()]);
        let mut sums: Vec<Vec<[f64; 2]>> = sums.collect();
        for batch in batches {
            let (sums, rows) = (&mut sums, &batch.row_first);
            let mut visitor = CettVisitor { down, buffers, rows, thresholds, sums };
            run_batch(run, batch, &BTreeMap::new(), &mut visitor)?;
        }
        Ok(tallies::of_cett(&sums, batches.iter().map(Batch::rows).sum()))
    }
}

/// The neurons of every layer.
fn neuron_sites(layers: usize) -> BTreeSet<Site> {
    (0..layers).map(|layer| site_of(SiteKind::MlpAct, layer)).collect()
}

/// Runs a batch and shows the neurons of every layer.
fn run_batch<O: GradientOps>(
    run: &mut Differentiable<O>,
    batch: &Batch,
    edits: &BTreeMap<Site, Vec<Edit>>,
    visitor: &mut dyn SiteVisitor<O>,
) -> Result<()> {
    let wanted = neuron_sites(run.spec().layers);
    run.run(ForwardInput::of(batch), &mut SiteWork { wanted: &wanted, edits, visitor })
}

impl<O: Ops> Buffers<O> {
    /// Takes the rows of a site into `rows`.
    fn gather(&mut self, ops: &O, x: &O::Tensor, rows: &[u32]) {
        let count = rows.len();
        for tensor in
            [&mut self.rows, &mut self.part, &mut self.written, &mut self.square, &mut self.norms]
        {
            ops.set_rows(tensor, count);
        }
        let ones = vec![1; count];
        ops.pool(Pooling::First, RowRuns { first: rows, len: &ones }, x, &mut self.rows);
    }

    /// Squared lengths of what a product of `part` (or `rows`) writes, by row, into `on_host`.
    fn squares(&mut self, ops: &O, down: &O::Matrix, of_part: bool) -> Result<()> {
        let x = if of_part { &self.part } else { &self.rows };
        ops.linear(down, x, Epilogue::Store, &mut self.written);
        ops.multiply(&self.written, &self.written, &mut self.square);
        ops.linear(&self.ones, &self.square, Epilogue::Store, &mut self.norms);
        ops.read(&self.norms, &mut self.on_host)
    }

    /// One number for each neuron from all rows of `x`.
    fn over_rows(&mut self, ops: &O, how: Pooling, rows: usize, active: bool) -> Result<()> {
        let len = [u32::try_from(rows).expect("a batch has fewer than 2^32 rows")];
        let runs = RowRuns { first: &[0], len: &len };
        let x = if active { self.tail.active(ops) } else { self.tail.sizes() };
        ops.pool(how, runs, x, &mut self.by_neuron);
        ops.read(&self.by_neuron, &mut self.on_host)
    }
}

/// See [`Sparsity::firing`].
struct FiringVisitor<'a, O: Ops> {
    down: &'a Down<O>,
    buffers: &'a mut Buffers<O>,
    rows: &'a [u32],
    eps: f32,
    found: &'a mut [Firing],
}

impl<O: Ops> SiteVisitor<O> for FiringVisitor<'_, O> {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        let (layer, rows) = (view.site.layer.expect("of a layer") as usize, self.rows.len());
        if rows == 0 {
            return Ok(());
        }
        let buffers = &mut *self.buffers;
        let found = &mut self.found[layer];
        buffers.gather(ops, view.values, self.rows);
        buffers.tail.measure(ops, &buffers.rows, rows, Some(self.down.lengths(layer)));
        buffers.over_rows(ops, Pooling::Max, rows, false)?;
        found.largest = buffers.on_host.iter().copied().fold(found.largest, f32::max);
        buffers.tail.measure(ops, &buffers.rows, rows, None);
        buffers.over_rows(ops, Pooling::Max, rows, false)?;
        found.largest_value = buffers.on_host.iter().copied().fold(found.largest_value, f32::max);
        buffers.tail.cut(ops, self.eps);
        buffers.over_rows(ops, Pooling::Mean, rows, true)?;
        found.tokens += rows as u64;
        for (count, share) in found.counts.iter_mut().zip(&buffers.on_host) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            {
                *count += (f64::from(*share) * rows as f64).round() as u64;
            }
        }
        Ok(())
    }
}

/// See [`Sparsity::cett`].
struct CettVisitor<'a, O: Ops> {
    down: &'a Down<O>,
    buffers: &'a mut Buffers<O>,
    rows: &'a [u32],
    thresholds: &'a [Vec<f32>],
    /// Sums over rows of the ratio of norms and of active neurons.
    sums: &'a mut [Vec<[f64; 2]>],
}

impl<O: Ops> SiteVisitor<O> for CettVisitor<'_, O> {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        let (layer, rows) = (view.site.layer.expect("of a layer") as usize, self.rows.len());
        if rows == 0 {
            return Ok(());
        }
        let (buffers, down) = (&mut *self.buffers, &self.down.weights[layer]);
        buffers.gather(ops, view.values, self.rows);
        buffers.tail.measure(ops, &buffers.rows, rows, Some(self.down.lengths(layer)));
        buffers.squares(ops, down, false)?;
        let whole = buffers.on_host.clone();
        let mut counts = Vec::new();
        for (&threshold, sums) in self.thresholds[layer].iter().zip(&mut self.sums[layer]) {
            buffers.tail.cut(ops, threshold);
            // What is outside the tail is x or 0, so that the difference is exact.
            ops.copy(&buffers.rows, &mut buffers.part);
            buffers.tail.close(ops, &mut buffers.part);
            let minus = Edit { columns: None, tokens: None, write: Write::Scale(-1.0) };
            ops.edit(&minus, &mut buffers.part);
            ops.add(&mut buffers.part, &buffers.rows);
            buffers.squares(ops, down, true)?;
            for (part, whole) in buffers.on_host.iter().zip(&whole) {
                // A token at which the layer writes nothing loses nothing.
                sums[0] += match *whole > 0.0 {
                    true => (f64::from(*part) / f64::from(*whole)).sqrt(),
                    false => 0.0,
                };
            }
            buffers.tail.count_active(ops, &mut counts)?;
            sums[1] += counts.iter().copied().map(f64::from).sum::<f64>();
        }
        Ok(())
    }
}
