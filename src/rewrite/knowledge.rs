//! Editing and erasing what neurons say: Dai et al. 2022, sections 4.2 and 5. A knowledge neuron's
//! column of the down projection, its value vector `v_n`, is moved from the embedding of one answer
//! to that of another, set to 0, or shifted as a gradient says.

use serde_json::json;

use super::checkpoint::Rewrite;
use super::neurons::{ColumnValues, Columns, Neurons, check, columns, put_columns};
use super::tensor::check_finite;
use super::undo::{Undo, UndoLayer};
use crate::error::{Error, Result};
use crate::model::{Model, Param};

/// What a fact's neurons shall say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fact {
    /// Token of the answer so far.
    pub old: u32,
    /// Token of the answer from now on.
    pub new: u32,
    /// Factors of the two embeddings; 1 and 8 in the paper.
    pub lambdas: (f64, f64),
    /// Factors are in units of `|v_n| / |e|`, as in the official code.
    pub normalise: bool,
}

/// `v_n := v_n - lambda1 e_old + lambda2 e_new` for all neurons.
pub fn edit<'a>(model: &'a Model, neurons: &Neurons, fact: &Fact) -> Result<(Rewrite<'a>, Undo)> {
    let edit = json!({"knowledge": neurons, "old": fact.old, "new": fact.new,
        "lambda1": fact.lambdas.0, "lambda2": fact.lambdas.1, "normalise": fact.normalise});
    if model.spec.embedding.width != model.spec.width {
        return Err(Error::config(
            model.folder.display().to_string(),
            format!(
                "embeddings have {} columns and the neurons write {}: they cannot be added",
                model.spec.embedding.width, model.spec.width
            ),
            "use a model whose embeddings are as wide as its stream, or `electrode edit erase`",
        ));
    }
    let (old, new) = (embedding(model, fact.old)?, embedding(model, fact.new)?);
    let sizes = (norm(&old), norm(&new));
    change(model, neurons, edit, |_, v| {
        let unit = |size: f64| if fact.normalise { norm(v) / size } else { 1.0 };
        let (a, b) = (fact.lambdas.0 * unit(sizes.0), fact.lambdas.1 * unit(sizes.1));
        v.iter().zip(&old).zip(&new).map(|((v, old), new)| v - a * old + b * new).collect()
    })
}

/// `v_n := 0` for all neurons.
pub fn erase<'a>(model: &'a Model, neurons: &Neurons) -> Result<(Rewrite<'a>, Undo)> {
    change(model, neurons, json!({"erase": neurons}), |_, v| vec![0.0; v.len()])
}

/// `v_n := v_n + shift_n` for the neurons that have one. `edit` goes into the history.
pub fn shift<'a>(
    model: &'a Model,
    shifts: &ColumnValues,
    edit: serde_json::Value,
) -> Result<(Rewrite<'a>, Undo)> {
    let neurons = shifts.iter().map(|(layer, of)| (*layer, of.keys().copied().collect()));
    change(model, &neurons.collect(), edit, |(layer, neuron), v| {
        let shift = &shifts[&layer][&neuron];
        assert_eq!(shift.len(), v.len(), "a number for each column of the stream");
        v.iter().zip(shift).map(|(v, shift)| v + shift).collect()
    })
}

/// `gradients` made into a step of length `rate |V|`, V being all of these neurons' columns: what the
/// step does not depend on is the scale of the metric and of the weights. Without a gradient there is
/// no step.
pub fn relative_step(
    model: &Model,
    mut gradients: ColumnValues,
    rate: f64,
) -> Result<ColumnValues> {
    let rewrite = Rewrite::new(model, serde_json::Value::Null)?;
    let (mut weights, mut slopes) = (0.0, 0.0);
    for (&layer, of) in &gradients {
        let Columns { dtype, of: stored, .. } = columns(&rewrite, layer, of.keys().copied())?;
        weights += stored.iter().map(|(_, bytes)| norm(&dtype.decode(bytes)).powi(2)).sum::<f64>();
        slopes += of.values().map(|g| norm(g).powi(2)).sum::<f64>();
    }
    let factor = if slopes > 0.0 { rate * (weights / slopes).sqrt() } else { 0.0 };
    gradients.values_mut().flat_map(|of| of.values_mut()).flatten().for_each(|x| *x *= factor);
    Ok(gradients)
}

fn change<'a>(
    model: &'a Model,
    neurons: &Neurons,
    edit: serde_json::Value,
    make: impl Fn((usize, usize), &[f64]) -> Vec<f64>,
) -> Result<(Rewrite<'a>, Undo)> {
    check(model, neurons)?;
    let mut rewrite = Rewrite::new(model, edit)?;
    let mut undo = Undo::default();
    for (&layer, set) in neurons.iter().filter(|(_, set)| !set.is_empty()) {
        let Columns { dtype, name, of } = columns(&rewrite, layer, set.iter().copied())?;
        let mut saved = UndoLayer { layer, dtype, columns: Vec::new() };
        let mut slices = Vec::new();
        for (neuron, before) in of {
            let after = dtype.encode(&make((layer, neuron), &dtype.decode(&before)));
            check_finite(dtype, &after, &name)?;
            slices.push((neuron, after.clone()));
            saved.columns.push((neuron, before, after));
        }
        put_columns(&mut rewrite, layer, slices)?;
        undo.layers.push(saved);
    }
    Ok((rewrite, undo))
}

/// A row of the token table, not scaled.
fn embedding(model: &Model, token: u32) -> Result<Vec<f64>> {
    let rewrite = Rewrite::new(model, serde_json::Value::Null)?;
    let (_, table) = rewrite.original(Param::Tokens)?;
    let row =
        usize::try_from(token).ok().filter(|row| *row < model.spec.vocab).ok_or_else(|| {
            let what = format!("no token {token}: the model has {}", model.spec.vocab);
            Error::config("token", what, "use the tokenizer that belongs to the model")
        })?;
    let values = table.dtype.decode(&table.slice(0, row));
    match norm(&values) > 0.0 {
        true => Ok(values),
        false => Err(Error::config(
            "token",
            format!("the embedding of token {token} is 0"),
            "use another",
        )),
    }
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}
