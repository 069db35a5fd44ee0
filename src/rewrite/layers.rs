//! Dropping layers (Sajjad et al. 2023, arXiv 2004.03844, section 3): which ones, and the checkpoint
//! without them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::checkpoint::Rewrite;
use super::tensor::Dtype;
use crate::error::{Error, Result};
use crate::model::{Model, Param};

/// Which layers go, by their place. The paper counts layers from 1, and so do `odd` and `even`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The last ones.
    Top,
    /// The first ones.
    Bottom,
    /// The middle ones: of 12 layers, 6 dropped leave the 3 lowest and the 3 highest. What cannot be
    /// halved leaves one more of the lower.
    Symmetric,
    /// Every other one downwards from the highest of odd number: 4 of 12 are 5, 7, 9, 11.
    OddAlternate,
    /// The same for even numbers: 4 of 12 are 6, 8, 10, 12.
    EvenAlternate,
}

/// How much a layer's weights say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The sum of their magnitudes.
    Magnitude,
    /// Their variance.
    Variance,
}

impl Strategy {
    /// `drop` of `layers` layers, ascending from 0.
    pub fn choose(self, layers: usize, drop: usize) -> Result<Vec<usize>> {
        check_count(layers, drop)?;
        let keep = layers - drop;
        let alternate = |odd: usize| {
            let mut chosen: Vec<usize> =
                (1..=layers).rev().filter(|number| number % 2 == odd).take(drop).collect();
            chosen.reverse();
            if chosen.len() < drop {
                let parity = if odd == 1 { "odd" } else { "even" };
                let what =
                    format!("{drop} layers, but only {} have {parity} numbers", chosen.len());
                return Err(Error::config("--drop", what, "drop fewer, or use another strategy"));
            }
            Ok(chosen.into_iter().map(|number| number - 1).collect())
        };
        match self {
            Self::Top => Ok((keep..layers).collect()),
            Self::Bottom => Ok((0..drop).collect()),
            Self::Symmetric => Ok((keep.div_ceil(2)..keep.div_ceil(2) + drop).collect()),
            Self::OddAlternate => alternate(1),
            Self::EvenAlternate => alternate(0),
        }
    }
}

/// The `drop` layers of smallest score, ascending; of equal ones the higher.
pub fn lowest(scores: &[f64], drop: usize) -> Result<Vec<usize>> {
    check_count(scores.len(), drop)?;
    let mut order: Vec<usize> = (0..scores.len()).rev().collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    order.truncate(drop);
    order.sort_unstable();
    Ok(order)
}

fn check_count(layers: usize, drop: usize) -> Result<()> {
    let remedy = || format!("from 1 to {}: one layer at least is kept", layers.saturating_sub(1));
    match drop {
        0 => Err(Error::config("--drop", "no layer would be dropped", remedy())),
        _ if drop >= layers => {
            let what = format!("all {layers} layers would be dropped");
            Err(Error::config("--drop", what, remedy()))
        }
        _ => Ok(()),
    }
}

/// How much the weights of each layer say, biases and norms included.
pub fn weigh(model: &Model, measure: Measure) -> Result<Vec<f64>> {
    let mut sums = vec![(0.0, 0.0, 0.0, 0_u64); model.spec.layers];
    let prefix = model.block_prefix();
    for tensor in model.stored_tensors() {
        let Some((layer, _)) = split(tensor.name, &prefix) else { continue };
        // Buffers of other types (masks) are no weights.
        let (Some(sum), Some(dtype)) = (sums.get_mut(layer), Dtype::parse(tensor.dtype)) else {
            continue;
        };
        for value in dtype.decode(tensor.bytes) {
            *sum = (sum.0 + value.abs(), sum.1 + value, sum.2 + value * value, sum.3 + 1);
        }
    }
    let score = |(magnitude, sum, squares, count): (f64, f64, f64, u64)| {
        #[expect(clippy::cast_precision_loss, reason = "a layer has fewer than 2^53 weights")]
        let count = count.max(1) as f64;
        match measure {
            Measure::Magnitude => magnitude,
            Measure::Variance => squares / count - (sum / count).powi(2),
        }
    };
    Ok(sums.into_iter().map(score).collect())
}

/// The layer's number in a tensor's name, and what follows it.
fn split<'a>(name: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let rest = name.strip_prefix(prefix)?;
    let (number, rest) = rest.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// The checkpoint without the layers of `drop`; the others are numbered anew.
pub fn drop_layers<'a>(model: &'a Model, drop: &[usize]) -> Result<Rewrite<'a>> {
    let layers = model.spec.layers;
    let gone: BTreeSet<usize> = drop.iter().copied().collect();
    if let Some(unknown) = gone.iter().find(|layer| **layer >= layers) {
        let what = format!("no layer {unknown}: the model has {layers}, counted from 0");
        return Err(Error::config(
            "--layers",
            what,
            format!("name layers from 0 to {}", layers - 1),
        ));
    }
    if gone.len() < drop.len() {
        return Err(Error::config("--layers", "a layer is named twice", "name each once"));
    }
    check_count(layers, gone.len())?;
    let kept: Vec<usize> = (0..layers).filter(|layer| !gone.contains(layer)).collect();
    let mut rewrite = Rewrite::new(model, json!({"drop_layers": gone}))?;
    renumber(&mut rewrite, &kept)?;
    rewrite.set_count(model.layer_keys(), kept.len());
    if let Some(key) = model.beside()
        && rewrite.setting(key).is_none()
    {
        rewrite.set(key, layers);
    }
    keep_windows(&mut rewrite, &kept)?;
    check_scales(model, &kept)?;
    Ok(rewrite)
}

/// Gives the tensors of the layers that are kept their new names, and leaves out the others.
fn renumber(rewrite: &mut Rewrite<'_>, kept: &[usize]) -> Result<()> {
    let model = rewrite.model();
    let prefix = model.block_prefix();
    // Of all layers, and stored with the first, whichever that is (T5).
    let shared = match model.has(Param::RelativeBias) {
        true => Some(model.stored_place(Param::RelativeBias)?.name),
        false => None,
    };
    for output in rewrite.tensors_mut() {
        if shared.as_deref() == Some(output.source.name) {
            continue;
        }
        let Some((layer, rest)) = split(output.source.name, &prefix) else { continue };
        match kept.binary_search(&layer) {
            Ok(number) => output.name = format!("{prefix}{number}.{rest}"),
            Err(_) => output.kept = false,
        }
    }
    Ok(())
}

/// Which layers see a window only is written out, for otherwise it follows from their numbers.
fn keep_windows(rewrite: &mut Rewrite<'_>, kept: &[usize]) -> Result<()> {
    const KEY: &str = "layer_types";
    let windows = &rewrite.model().spec.attention.windows;
    let varied = windows.iter().any(|window| *window != windows[0]);
    let listed = match rewrite.setting(KEY) {
        Some(Value::Array(list)) => Some(list.clone()),
        _ => None,
    };
    match listed {
        Some(list) if list.len() == windows.len() => {
            let list: Vec<Value> = kept.iter().map(|&layer| list[layer].clone()).collect();
            rewrite.set(KEY, list);
        }
        _ if varied => {
            let name = |layer: &usize| match windows[*layer] {
                Some(_) => "sliding_attention",
                None => "full_attention",
            };
            let list: Vec<&str> = kept.iter().map(name).collect();
            rewrite.set(KEY, list);
        }
        _ => {}
    }
    Ok(())
}

/// A checkpoint has one rule for the scale of attention scores: where that goes by the layer's
/// number, a layer that moves would compute something else.
fn check_scales(model: &Model, kept: &[usize]) -> Result<()> {
    let scales = &model.spec.attention.scale;
    if kept.iter().enumerate().all(|(new, &old)| scales[new].to_bits() == scales[old].to_bits()) {
        return Ok(());
    }
    Err(Error::config(
        model.config_path().display().to_string(),
        "attention scores are divided by the number of their layer, which would change",
        "drop the last layers only (--strategy top)",
    ))
}
