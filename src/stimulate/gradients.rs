//! One backward pass for all neurons of all layers: gradient times activation, and what stands for a
//! replacement to first order, the change of activation times the gradient (Nanda 2023, Attribution
//! patching; along a path from the counterfactual prompt, Hanna et al. 2024, EAP-IG).

use std::collections::BTreeMap;

use super::neurons::{Activations, Neurons, activations, room};
use super::question::{QuestionBatch, Where};
use super::readout::{self, Reader, Readout};
use crate::device::backward::{
    Differentiable, GradientView, GradientVisitor, GradientWork, keeps_values,
};
use crate::device::forward::SiteWork;
use crate::device::gradient_ops::{GradientOps, Metric};
use crate::device::ops::{Edit, Ops, Pooling, RowRuns, Write};
use crate::error::Result;
use crate::id::{Site, SiteKind};
use crate::model::Activation;

/// A number for each question and neuron, `[S, N]`, by layer.
pub type BySequence = BTreeMap<usize, Vec<f32>>;

/// What the gradient is multiplied with.
pub enum Times<'a, O: Ops> {
    /// The activation.
    Value,
    /// What would take it to these values, by layer of the model.
    To(&'a [Vec<f32>]),
    /// What would take it to its value in another batch of the same shape.
    Other(&'a Activations<O>),
}

/// What is taken of the products of a question's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Their sum.
    Sum(Where),
    /// The mean of their magnitudes.
    Magnitude,
}

/// What is asked of a batch.
pub struct Products<'a, O: Ops> {
    /// Of what the gradient is taken.
    pub metric: Metric,
    /// What it is multiplied with.
    pub times: Times<'a, O>,
    /// What becomes of a question's tokens.
    pub over: Over,
    /// The values of the neurons, where they are not those of the run that is differentiated, or where
    /// that run does not keep them ([`Neurons::are_kept`]).
    pub values: Option<&'a Activations<O>>,
    /// For [`Metric::Probe`]: the probe, and the rows `[S, D]` that it read in the run that is
    /// differentiated.
    pub readout: Option<(&'a Readout, &'a [f32])>,
}

impl Neurons {
    /// Whether a run that can be differentiated keeps their values.
    pub fn are_kept(&self) -> bool {
        keeps_values(self.site(0))
    }
}

struct Visitor<'a, O: Ops> {
    batch: &'a QuestionBatch,
    how: &'a Products<'a, O>,
    product: O::Tensor,
    difference: O::Tensor,
    pooled: O::Tensor,
    found: BySequence,
}

impl<O: Ops> Visitor<'_, O> {
    /// The product at every token, into `product`.
    fn multiply(&mut self, ops: &O, view: &GradientView<'_, O>) {
        let values = match self.how.values {
            Some(kept) => kept.get(view.site),
            None => view.values.expect("asked for where they are not kept"),
        };
        let edit = |write| Edit { columns: None, tokens: None, write };
        match &self.how.times {
            Times::Value => return ops.multiply(values, view.gradient, &mut self.product),
            Times::To(means) => {
                let layer = view.site.layer.expect("of a layer") as usize;
                ops.copy(values, &mut self.difference);
                ops.edit(&edit(Write::Scale(-1.0)), &mut self.difference);
                ops.edit(&edit(Write::Add(means[layer].clone())), &mut self.difference);
            }
            Times::Other(other) => {
                ops.copy(values, &mut self.difference);
                ops.edit(&edit(Write::Scale(-1.0)), &mut self.difference);
                ops.add(&mut self.difference, other.get(view.site));
            }
        }
        ops.multiply(&self.difference, view.gradient, &mut self.product);
    }

    /// `product` becomes its magnitude: 2 max(x, 0) - x.
    fn magnitude(&mut self, ops: &O) {
        let scale = |by| Edit { columns: None, tokens: None, write: Write::Scale(by) };
        ops.activate(Activation::Relu, &self.product, &mut self.difference);
        ops.edit(&scale(2.0), &mut self.difference);
        ops.edit(&scale(-1.0), &mut self.product);
        ops.add(&mut self.product, &self.difference);
    }
}

impl<O: Ops> GradientVisitor<O> for Visitor<'_, O> {
    fn visit(&mut self, ops: &O, view: &GradientView<'_, O>) -> Result<()> {
        self.multiply(ops, view);
        if self.how.over == Over::Magnitude {
            self.magnitude(ops);
        }
        let place = match self.how.over {
            Over::Sum(place) => place,
            Over::Magnitude => Where::Everywhere,
        };
        let means = self.how.over == Over::Magnitude;
        let from = (self.batch, place);
        let values = over_questions(ops, from, (&self.product, &mut self.pooled), means)?;
        self.found.insert(view.site.layer.expect("of a layer") as usize, values);
        Ok(())
    }
}

/// The sums over each question's tokens, or over its answering token alone; or the means. `[S, N]`.
pub(super) fn over_questions<O: Ops>(
    ops: &O,
    (batch, place): (&QuestionBatch, Where),
    (values, pooled): (&O::Tensor, &mut O::Tensor),
    means: bool,
) -> Result<Vec<f32>> {
    let (first, len) = match place {
        Where::Answer => (batch.rows.clone(), vec![1; batch.len()]),
        Where::Everywhere => runs(&batch.starts),
    };
    ops.pool(Pooling::Mean, RowRuns { first: &first, len: &len }, values, pooled);
    let mut found = Vec::new();
    ops.read(pooled, &mut found)?;
    let width = (found.len() / len.len().max(1)).max(1);
    for (row, len) in found.chunks_exact_mut(width).zip(&len).filter(|_| !means) {
        #[expect(clippy::cast_precision_loss, reason = "prompts are short")]
        row.iter_mut().for_each(|x| *x *= *len as f32);
    }
    Ok(found)
}

/// First token and length of each sequence.
fn runs(starts: &[u32]) -> (Vec<u32>, Vec<u32>) {
    starts.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).unzip()
}

/// Products of activations and gradients of the batch that was run last.
pub fn gradient_products<O: GradientOps>(
    run: &mut Differentiable<O>,
    (batch, neurons): (&QuestionBatch, &Neurons),
    how: &Products<'_, O>,
) -> Result<BySequence> {
    let (edits, tokens) = (BTreeMap::new(), batch.tokens.len());
    run.forget_gradients();
    let seeds = if how.metric == Metric::Probe {
        let (readout, rows) = how.readout.expect("a probe is asked for with what it read");
        readout.seeds(run, (&batch.rows, tokens), rows)?
    } else {
        let weights = vec![1.0; batch.len()];
        run.score(&batch.starts, batch.scoring(), Some((how.metric, &weights)))?;
        BTreeMap::new()
    };
    let mut visitor = Visitor {
        batch,
        how,
        product: room(run, tokens, neurons.width)?,
        difference: room(run, tokens, neurons.width)?,
        pooled: room(run, batch.len(), neurons.width)?,
        found: BySequence::new(),
    };
    let wanted = neurons.sites();
    let mut work =
        GradientWork { wanted: &wanted, edits: &edits, seeds: &seeds, visitor: &mut visitor };
    run.back(batch.input(), &mut work)?;
    Ok(visitor.found)
}

/// Attribution patching with the gradient averaged over `steps` inputs on the way from the
/// counterfactual prompt to the clean one: embeddings `e' + (k / m) (e - e')`, k = 0..m-1.
///
/// # Panics
/// If a probe is asked for ([`Metric::Probe`]) and there is none.
pub fn path_products<O: GradientOps>(
    run: &mut Differentiable<O>,
    (batch, other): (&QuestionBatch, &QuestionBatch),
    neurons: &Neurons,
    (metric, steps): (Metric, u32),
    readout: Option<&Readout>,
) -> Result<BySequence> {
    let embeddings = Site::global(SiteKind::Embeddings);
    let mut wanted = neurons.sites();
    wanted.insert(embeddings);
    let to = activations(run, other, &wanted)?;
    let from = activations(run, batch, &wanted)?;
    let [clean, corrupt] = [&from, &to].map(|kept| kept.read(run.ops(), embeddings));
    let (clean, corrupt) = (clean?, corrupt?);
    let over = Over::Sum(Where::Everywhere);
    let mut sum = BySequence::new();
    for k in 0..steps {
        #[expect(clippy::cast_possible_truncation, reason = "a share")]
        let share = (f64::from(k) / f64::from(steps)) as f32;
        let between = corrupt.iter().zip(&clean).map(|(c, x)| c + share * (x - c)).collect();
        let edit = Edit { columns: None, tokens: None, write: Write::Rows(between) };
        let (read, edits) = (readout::sites(readout), BTreeMap::from([(embeddings, vec![edit])]));
        let mut reader = Reader::new(run, readout, &batch.rows)?;
        let mut sites = SiteWork { wanted: &read, edits: &edits, visitor: &mut reader };
        run.run(batch.input(), &mut sites)?;
        let rows = reader.rows(run.ops())?;
        let (times, readout) = (Times::Other(&to), readout.map(|readout| (readout, &rows[..])));
        let how = Products { metric, times, over, values: Some(&from), readout };
        for (layer, values) in gradient_products(run, (batch, neurons), &how)? {
            let sum = sum.entry(layer).or_insert_with(|| vec![0.0; values.len()]);
            #[expect(clippy::cast_precision_loss, reason = "few steps")]
            sum.iter_mut().zip(values).for_each(|(sum, x)| *sum += x / steps as f32);
        }
    }
    Ok(sum)
}
