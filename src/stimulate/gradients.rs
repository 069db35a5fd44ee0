//! One backward pass for all neurons of all layers: gradient times activation, and attribution
//! patching (Nanda 2023: the change of activation times the gradient, at the clean prompt).

use std::collections::{BTreeMap, BTreeSet};

use super::question::QuestionBatch;
use crate::device::backward::{Differentiable, GradientView, GradientVisitor, GradientWork};
use crate::device::forward::SiteWork;
use crate::device::gradient_ops::{GradientOps, Metric};
use crate::device::ops::{Edit, Ops, Pooling, RowRuns, Write};
use crate::device::score::{Score, Scoring};
use crate::device::site_view::{Nobody, SiteView, SiteVisitor};
use crate::error::Result;
use crate::id::{Site, SiteKind};

/// Sums over the tokens of each question, `[S, F]`, by layer.
pub type BySequence = BTreeMap<usize, Vec<f32>>;

/// Neurons of every layer of a batch, kept on the device.
pub struct Activations<O: Ops> {
    layers: BTreeMap<Site, O::Tensor>,
}

impl<O: Ops> SiteVisitor<O> for Activations<O> {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        if let Some(kept) = self.layers.get_mut(&view.site) {
            ops.copy(view.values, kept);
        }
        Ok(())
    }
}

/// The neurons' site of a layer.
pub fn neurons_of(layer: usize) -> Site {
    Site::of_layer(u32::try_from(layer).expect("few layers"), SiteKind::MlpAct)
}

/// Sums of `gradient * values` over each sequence.
struct Product<'a, O: Ops> {
    starts: &'a [u32],
    /// Activations of the counterfactual; values are then their differences from the clean ones.
    other: Option<&'a Activations<O>>,
    product: O::Tensor,
    difference: O::Tensor,
    pooled: O::Tensor,
    found: BySequence,
}

impl<O: Ops> GradientVisitor<O> for Product<'_, O> {
    fn visit(&mut self, ops: &O, view: &GradientView<'_, O>) -> Result<()> {
        let values = view.values.expect("the values of neurons are kept");
        match self.other {
            None => ops.multiply(values, view.gradient, &mut self.product),
            Some(other) => {
                let minus = Edit { columns: None, tokens: None, write: Write::Scale(-1.0) };
                ops.copy(values, &mut self.difference);
                ops.edit(&minus, &mut self.difference);
                ops.add(&mut self.difference, &other.layers[&view.site]);
                ops.multiply(&self.difference, view.gradient, &mut self.product);
            }
        }
        let (first, len) = runs(self.starts);
        let runs = RowRuns { first: &first, len: &len };
        ops.pool(Pooling::Mean, runs, &self.product, &mut self.pooled);
        let mut values = Vec::new();
        ops.read(&self.pooled, &mut values)?;
        let width = values.len() / len.len().max(1);
        for (row, len) in values.chunks_exact_mut(width.max(1)).zip(&len) {
            #[expect(clippy::cast_precision_loss, reason = "prompts are short")]
            row.iter_mut().for_each(|x| *x *= *len as f32);
        }
        self.found.insert(view.site.layer.expect("of a layer") as usize, values);
        Ok(())
    }
}

/// First token and length of each sequence.
fn runs(starts: &[u32]) -> (Vec<u32>, Vec<u32>) {
    starts.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).unzip()
}

/// Runs a batch and gives, for each question, the sum over its tokens of activation times gradient of
/// the metric; with `other`, of the difference of activations times gradient.
pub fn gradient_products<O: GradientOps>(
    run: &mut Differentiable<O>,
    batch: &QuestionBatch,
    (layers, metric): (&[usize], Metric),
    other: Option<&Activations<O>>,
) -> Result<(Vec<Score>, BySequence)> {
    let (nothing, edits, seeds) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    let mut sites = SiteWork { wanted: &nothing, edits: &edits, visitor: &mut Nobody };
    run.run(batch.input(), &mut sites)?;
    let weights = vec![1.0; batch.len()];
    let scores = run.score(&batch.starts, scoring(batch), Some((metric, &weights)))?;
    let wanted: BTreeSet<Site> = layers.iter().map(|&layer| neurons_of(layer)).collect();
    let neurons = run.spec().mlp.width;
    let mut visitor = Product {
        starts: &batch.starts,
        other,
        product: room(run, batch.tokens.len(), neurons)?,
        difference: room(run, batch.tokens.len(), neurons)?,
        pooled: room(run, batch.len(), neurons)?,
        found: BySequence::new(),
    };
    let mut work =
        GradientWork { wanted: &wanted, edits: &edits, seeds: &seeds, visitor: &mut visitor };
    run.back(batch.input(), &mut work)?;
    Ok((scores, visitor.found))
}

/// Runs a batch and keeps the neurons of these layers.
pub fn activations<O: GradientOps>(
    run: &mut Differentiable<O>,
    batch: &QuestionBatch,
    layers: &[usize],
) -> Result<(Vec<Score>, Activations<O>)> {
    let wanted: BTreeSet<Site> = layers.iter().map(|&layer| neurons_of(layer)).collect();
    let (tokens, neurons) = (batch.tokens.len(), run.spec().mlp.width);
    let kept = wanted.iter().map(|&site| Ok((site, room(run, tokens, neurons)?)));
    let mut visitor = Activations { layers: kept.collect::<Result<_>>()? };
    let edits = BTreeMap::new();
    let mut sites = SiteWork { wanted: &wanted, edits: &edits, visitor: &mut visitor };
    run.run(batch.input(), &mut sites)?;
    let scores = run.score(&batch.starts, scoring(batch), None)?;
    Ok((scores, visitor))
}

impl<O: Ops> Activations<O> {
    /// The neurons of a layer, on the host, `[T, F]`.
    pub fn read(&self, ops: &O, layer: usize) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        ops.read(&self.layers[&neurons_of(layer)], &mut values)?;
        Ok(values)
    }
}

/// Every question's answer, and nothing kept.
pub fn scoring<T>(batch: &QuestionBatch) -> Scoring<'_, T> {
    Scoring {
        rows: &batch.rows,
        targets: &batch.targets,
        foils: batch.foils.as_deref(),
        reference: None,
        keep: None,
    }
}

/// A tensor of so many rows, all in use.
pub fn room<O: GradientOps>(
    run: &Differentiable<O>,
    rows: usize,
    cols: usize,
) -> Result<O::Tensor> {
    let mut tensor = run.ops().tensor(rows, cols)?;
    run.ops().set_rows(&mut tensor, rows);
    Ok(tensor)
}
