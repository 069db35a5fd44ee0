//! Removing neurons of the MLPs: their rows of the matrices that feed them, their biases, and the
//! columns by which they write.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::checkpoint::Rewrite;
use super::tensor::{Dtype, Step};
use crate::error::{Error, Result};
use crate::model::{LayerParam, Model, Param};

/// Neurons by layer.
pub type Neurons = BTreeMap<usize, BTreeSet<usize>>;
/// A vector for the column by which each neuron writes, `[D]`, by layer and neuron.
pub type ColumnValues = BTreeMap<usize, BTreeMap<usize, Vec<f64>>>;
/// Mean activation of every neuron (`mlp_act`) by layer.
pub type Means = BTreeMap<usize, Vec<f64>>;

/// What happens to neurons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// They are deleted: as many in every layer, for a model has one width.
    Delete,
    /// All their weights become 0; shapes stay.
    Zero,
}

/// The weights with a row for each neuron.
const ROWS: [LayerParam; 4] =
    [LayerParam::Gate, LayerParam::GateBias, LayerParam::Up, LayerParam::UpBias];

/// Fails unless the model has these neurons.
pub fn check(model: &Model, neurons: &Neurons) -> Result<()> {
    let (layers, width) = (model.spec.layers, model.spec.mlp.width);
    for (&layer, set) in neurons {
        let place = || format!("neurons of layer {layer}");
        if layer >= layers {
            let what = format!("the model has {layers} layers, counted from 0");
            return Err(Error::config(place(), what, "use a table made from this model"));
        }
        if let Some(neuron) = set.iter().find(|neuron| **neuron >= width) {
            let what = format!("no neuron {neuron}: a layer has {width}, counted from 0");
            return Err(Error::config(place(), what, "use a table made from this model"));
        }
    }
    Ok(())
}

/// The checkpoint without `neurons`. With `means`, what they wrote on average, `mu_n v_n`, goes to
/// the bias of the down projection, which the model must have.
pub fn remove<'a>(
    model: &'a Model,
    neurons: &Neurons,
    removal: Removal,
    means: Option<&Means>,
) -> Result<Rewrite<'a>> {
    check(model, neurons)?;
    let width = model.spec.mlp.width;
    let count = |layer: usize| neurons.get(&layer).map_or(0, BTreeSet::len);
    if let Some(layer) = (0..model.spec.layers).find(|&layer| count(layer) >= width) {
        let what = format!("all {width} neurons would be removed");
        return Err(Error::config(format!("layer {layer}"), what, "keep one neuron at least"));
    }
    let edit = json!({"remove_neurons": neurons, "zero": removal == Removal::Zero,
        "compensated": means.is_some()});
    let mut rewrite = Rewrite::new(model, edit)?;
    if let Some(means) = means {
        compensate(&mut rewrite, neurons, means)?;
    }
    match removal {
        Removal::Zero => zero(&mut rewrite, neurons)?,
        Removal::Delete => {
            let kept = |layer| {
                let gone = neurons.get(&layer);
                (0..width).filter(|n| !gone.is_some_and(|gone| gone.contains(n))).collect()
            };
            keep(&mut rewrite, &(0..model.spec.layers).map(kept).collect::<Vec<_>>())?;
        }
    }
    Ok(rewrite)
}

fn rows(model: &Model, layer: usize) -> impl Iterator<Item = Param> {
    ROWS.into_iter().map(move |param| Param::Layer(layer, param)).filter(|param| model.has(*param))
}

fn zero(rewrite: &mut Rewrite<'_>, neurons: &Neurons) -> Result<()> {
    for (&layer, set) in neurons {
        let indices: Vec<usize> = set.iter().copied().collect();
        for param in rows(rewrite.model(), layer) {
            let indices = indices.clone();
            rewrite.change(param, |place, dimensions| Step::Zero {
                axis: place.output_axis(dimensions),
                indices,
            })?;
        }
        let down = Param::Layer(layer, LayerParam::Down);
        rewrite.change(down, |place, _| Step::Zero { axis: place.input_axis(), indices })?;
    }
    Ok(())
}

/// Only the neurons of `kept` remain, a list for each layer.
pub(super) fn keep(rewrite: &mut Rewrite<'_>, kept: &[Vec<usize>]) -> Result<()> {
    let model = rewrite.model();
    let width = kept[0].len();
    if let Some(layer) = kept.iter().position(|kept| kept.len() != width) {
        let what = format!("{} neurons would be left, in layer 0 {width}", kept[layer].len());
        let remedy = "remove as many from every layer (--per-layer), or set them to 0 (--zero)";
        return Err(Error::config(format!("layer {layer}"), what, remedy));
    }
    if width == model.spec.mlp.width {
        return Ok(());
    }
    check_width_is_free(model)?;
    for (layer, kept) in kept.iter().enumerate() {
        for param in rows(model, layer) {
            rewrite.change(param, |place, dimensions| Step::Keep {
                axis: place.output_axis(dimensions),
                indices: kept.clone(),
            })?;
        }
        let down = Param::Layer(layer, LayerParam::Down);
        let indices = kept.clone();
        rewrite.change(down, |place, _| Step::Keep { axis: place.input_axis(), indices })?;
    }
    rewrite.set_count(model.mlp_width_keys(), width);
    Ok(())
}

fn check_width_is_free(model: &Model) -> Result<()> {
    let refuse = |what: &str| {
        let remedy = "set the neurons to 0 instead (--zero)";
        Err(Error::config(model.folder.display().to_string(), what, remedy))
    };
    if model.mlp_width_keys().is_empty() {
        return refuse("the number of neurons of a layer is fixed in this architecture");
    }
    if model.beside().is_some() {
        return refuse("the checkpoint also holds a decoder, which shares the number of neurons");
    }
    Ok(())
}

/// Adds to each bias of a down projection the sum of `mu_n v_n` over the neurons that go.
fn compensate(rewrite: &mut Rewrite<'_>, neurons: &Neurons, means: &Means) -> Result<()> {
    for (&layer, set) in neurons.iter().filter(|(_, set)| !set.is_empty()) {
        let means = means.get(&layer).filter(|m| m.len() == rewrite.model().spec.mlp.width);
        let Some(means) = means else {
            let what = format!("no means of the neurons of layer {layer}");
            let remedy = "give means of layers.*.mlp_act of this model";
            return Err(Error::config("--compensate", what, remedy));
        };
        let shares: Vec<(usize, f64)> = set.iter().map(|&n| (n, means[n])).collect();
        add_to_bias(rewrite, layer, &shares)?;
    }
    Ok(())
}

/// Adds `sum of factor * v_n` to the bias of a layer's down projection.
pub(super) fn add_to_bias(
    rewrite: &mut Rewrite<'_>,
    layer: usize,
    shares: &[(usize, f64)],
) -> Result<()> {
    let model = rewrite.model();
    let bias = Param::Layer(layer, LayerParam::DownBias);
    if !model.has(bias) {
        let what = format!("the down projections of {} have no bias", model.spec.architecture);
        return Err(Error::config("--compensate", what, "leave it out"));
    }
    let (place, down) = rewrite.original(Param::Layer(layer, LayerParam::Down))?;
    let mut values = vec![0.0; model.spec.width];
    for &(neuron, factor) in shares {
        let column = down.dtype.decode(&down.slice(place.input_axis(), neuron));
        values.iter_mut().zip(column).for_each(|(sum, v)| *sum += factor * v);
    }
    rewrite.change(bias, |_, _| Step::Add { values })
}

/// The columns by which neurons write, in the type they are stored in.
pub(super) struct Columns {
    pub(super) dtype: Dtype,
    pub(super) name: String,
    /// The bytes of each, `D` values.
    pub(super) of: Vec<(usize, Vec<u8>)>,
}

/// The columns of some neurons of a layer.
pub(super) fn columns(
    rewrite: &Rewrite<'_>,
    layer: usize,
    neurons: impl IntoIterator<Item = usize>,
) -> Result<Columns> {
    let (place, down) = rewrite.original(Param::Layer(layer, LayerParam::Down))?;
    let of = neurons.into_iter().map(|n| (n, down.slice(place.input_axis(), n))).collect();
    Ok(Columns { dtype: down.dtype, name: place.name, of })
}

/// Overwrites columns by which neurons write.
pub(super) fn put_columns(
    rewrite: &mut Rewrite<'_>,
    layer: usize,
    slices: Vec<(usize, Vec<u8>)>,
) -> Result<()> {
    let down = Param::Layer(layer, LayerParam::Down);
    rewrite.change(down, |place, _| Step::Put { axis: place.input_axis(), slices })
}
