//! Gradients with respect to weights: of a number with respect to chosen columns of down projections.
//! The MLP adds `y_t = sum_n x_tn v_n + b`, so `dm/dv_n = sum_t x_tn dm/dy_t`: activations and the
//! gradient at `mlp_out`, which the backward pass has, and sums over the tokens of chosen columns alone.
//! What trains, edits or freezes some neurons and no others reads these (`edit-ece`, `selective-ft`).

use std::collections::{BTreeMap, BTreeSet};

use super::neurons::site_of;
use crate::device::backward::{Differentiable, GradientView, GradientVisitor, GradientWork};
use crate::device::forward::{ForwardInput, SiteWork};
use crate::device::gradient_ops::{GradientOps, Metric};
use crate::device::ops::Ops;
use crate::device::score::{Score, Scoring};
use crate::device::site_view::Nobody;
use crate::error::Result;
use crate::id::SiteKind;
use crate::rewrite::neurons::{ColumnValues, Neurons};

/// Multiplies what it is shown.
struct Visitor<'a> {
    neurons: &'a Neurons,
    /// dm/dy of the layer that is under way, `[T, D]`.
    gradient: Vec<f32>,
    width: usize,
    found: ColumnValues,
}

impl<O: Ops> GradientVisitor<O> for Visitor<'_> {
    fn visit(&mut self, ops: &O, view: &GradientView<'_, O>) -> Result<()> {
        let layer = view.site.layer.expect("of a layer") as usize;
        if view.site.kind == SiteKind::MlpOut {
            return ops.read(view.gradient, &mut self.gradient);
        }
        let mut values = Vec::new();
        ops.read(view.values.expect("the backward pass keeps the neurons"), &mut values)?;
        let tokens = self.gradient.len() / self.width;
        let columns = values.len() / tokens.max(1);
        let product = |&neuron: &usize| {
            let mut sum = vec![0.0; self.width];
            let x = values.iter().skip(neuron).step_by(columns);
            for (x, row) in x.zip(self.gradient.chunks_exact(self.width)) {
                let x = f64::from(*x);
                sum.iter_mut().zip(row).for_each(|(sum, g)| *sum += x * f64::from(*g));
            }
            (neuron, sum)
        };
        let found = self.neurons[&layer].iter().map(product).collect();
        self.found.insert(layer, found);
        Ok(())
    }
}

/// Runs a batch, scores rows of it, and gives the scores and the gradient of the weighted sum of `metric`
/// over these rows with respect to the columns by which `neurons` write: `[D]` for each. Sums are f64;
/// activations and gradients have the type of the device's tensors.
///
/// # Panics
/// If a layer or neuron is not the model's, or as [`Differentiable::score`] does.
pub fn column_gradients<O: GradientOps>(
    run: &mut Differentiable<O>,
    (input, neurons): (ForwardInput<'_>, &Neurons),
    scoring: Scoring<'_, O::Tensor>,
    (metric, weights): (Metric, &[f32]),
) -> Result<(Vec<Score>, ColumnValues)> {
    let (edits, seeds, nothing) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let mut sites = SiteWork { wanted: &nothing, edits: &edits, visitor: &mut Nobody };
    run.run(input, &mut sites)?;
    let scores = run.score(input.starts, scoring, Some((metric, weights)))?;
    let layers = neurons.iter().filter(|(_, set)| !set.is_empty());
    let sites = layers.flat_map(|(&layer, _)| {
        [SiteKind::MlpOut, SiteKind::MlpAct].map(|kind| site_of(kind, layer))
    });
    let wanted = sites.collect();
    let width = run.spec().width;
    let mut visitor = Visitor { neurons, gradient: Vec::new(), width, found: ColumnValues::new() };
    let mut work =
        GradientWork { wanted: &wanted, edits: &edits, seeds: &seeds, visitor: &mut visitor };
    run.back(input, &mut work)?;
    Ok((scores, visitor.found))
}

/// Adds the columns of `more` to those of `sum`.
pub fn add_columns(sum: &mut ColumnValues, more: ColumnValues) {
    for (layer, columns) in more {
        let of_layer = sum.entry(layer).or_default();
        for (neuron, values) in columns {
            let into = of_layer.entry(neuron).or_insert_with(|| vec![0.0; values.len()]);
            into.iter_mut().zip(values).for_each(|(sum, x)| *sum += x);
        }
    }
}
