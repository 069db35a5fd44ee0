//! Attention heads merged into others and removed (`p-prune`; Wang et al. 2024): the rows of the
//! matrices that make their queries, keys and values, and the columns of the output projection by which
//! they write.
//!
//! A head that goes is spoken for by one that stays: with `z_from ~ M z_to + b`, the columns of the
//! output projection become `W_to := W_to + W_from M`, and `W_from b` goes to its bias.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::checkpoint::Rewrite;
use super::tensor::{Step, check_finite};
use crate::error::{Error, Result};
use crate::model::heads::{HeadPart, HeadRows};
use crate::model::{LayerParam, Model, Param};

/// A head that goes, and the one that speaks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadMerge {
    /// Goes.
    pub from: usize,
    /// Stays.
    pub to: usize,
    /// M, `[d, d]`, row-major: a row for each column of the head that goes.
    pub map: Vec<f64>,
    /// b, `[d]`; 0 in models whose output projection has no bias.
    pub intercept: Vec<f64>,
}

/// What becomes of the heads of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerHeads {
    /// Those that stay, ascending.
    pub kept: Vec<usize>,
    /// What others take over. Heads that are in neither list are dropped with what they said.
    pub merges: Vec<HeadMerge>,
}

/// How heads are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadRemoval {
    /// Deleted: this many query heads, and key and value heads, are left in each layer.
    Deleted {
        /// Query heads.
        heads: usize,
        /// Key and value heads.
        kv_heads: usize,
    },
    /// Their weights are 0 and shapes stay, for this reason.
    Zeroed(String),
}

/// How these heads can be removed. A configuration holds one number of query heads and one of key heads
/// for all layers, and key heads serve as many query heads each; a key head goes with the last query head
/// that it serves.
pub fn removal(model: &Model, layers: &[LayerHeads]) -> HeadRemoval {
    let attention = &model.spec.attention;
    let group = attention.heads / attention.kv_heads;
    let zeroed = |why: String| HeadRemoval::Zeroed(why);
    if model.head_keys().is_none() {
        let what = "the number of heads fixes their width, or other weights are counted by heads";
        return zeroed(format!("in {} {what}", model.spec.architecture));
    }
    let mut all: Option<(usize, usize)> = None;
    for (number, layer) in layers.iter().enumerate() {
        let mut left: BTreeMap<usize, usize> = BTreeMap::new();
        layer.kept.iter().for_each(|head| *left.entry(head / group).or_default() += 1);
        let shape = (layer.kept.len(), left.len());
        if left.values().any(|&count| count * left.len() != layer.kept.len()) {
            return zeroed(format!(
                "the key heads of layer {number} would serve different numbers of query heads"
            ));
        }
        if *all.get_or_insert(shape) != shape {
            return zeroed(format!(
                "layer {number} would keep other numbers of heads than layer 0"
            ));
        }
    }
    let (heads, kv_heads) = all.unwrap_or((attention.heads, attention.kv_heads));
    HeadRemoval::Deleted { heads, kv_heads }
}

/// The checkpoint with the heads of each layer merged, and without those that go. `how` is of
/// [`removal`], or zeros for any reason.
pub fn remove_heads<'a>(
    model: &'a Model,
    layers: &[LayerHeads],
    how: &HeadRemoval,
) -> Result<Rewrite<'a>> {
    check(model, layers)?;
    let kept: Vec<&[usize]> = layers.iter().map(|layer| &layer.kept[..]).collect();
    let zeroed = matches!(how, HeadRemoval::Zeroed(_));
    let mut rewrite = Rewrite::new(model, json!({"keep_heads": kept, "zero": zeroed}))?;
    for (number, layer) in layers.iter().enumerate() {
        merge_outputs(&mut rewrite, number, &layer.merges)?;
        if layer.kept.len() < model.spec.attention.heads {
            remove(&mut rewrite, number, &layer.kept, zeroed)?;
        }
    }
    if let (HeadRemoval::Deleted { heads, kv_heads }, Some(keys)) = (how, model.head_keys())
        && *heads < model.spec.attention.heads
    {
        rewrite.set(keys.heads, *heads);
        rewrite.set(keys.kv_heads, *kv_heads);
        rewrite.set(keys.width, model.spec.attention.head_width);
    }
    Ok(rewrite)
}

/// Refuses heads that the model does not have, and layers without any.
fn check(model: &Model, layers: &[LayerHeads]) -> Result<()> {
    let (heads, d) = (model.spec.attention.heads, model.spec.attention.head_width);
    assert_eq!(layers.len(), model.spec.layers, "a list for each layer");
    for (number, layer) in layers.iter().enumerate() {
        let refuse = |what: String| {
            let remedy = format!("keep heads of 0 to {}, each once, ascending", heads - 1);
            Err(Error::config(format!("heads of layer {number}"), what, remedy))
        };
        let ascending = layer.kept.is_sorted_by(|a, b| a < b);
        if layer.kept.is_empty() || !ascending || layer.kept.iter().any(|&head| head >= heads) {
            return refuse(format!("{:?} cannot be what is left", layer.kept));
        }
        for HeadMerge { from, to, map, intercept } in &layer.merges {
            assert_eq!((map.len(), intercept.len()), (d * d, d), "a map of one head on another");
            if *from >= heads || layer.kept.contains(from) || !layer.kept.contains(to) {
                return refuse(format!("head {from} cannot be merged into head {to}"));
            }
        }
    }
    Ok(())
}

/// `W_to := W_to + W_from M`, and `W_from b` to the bias.
fn merge_outputs(rewrite: &mut Rewrite<'_>, layer: usize, merges: &[HeadMerge]) -> Result<()> {
    if merges.is_empty() {
        return Ok(());
    }
    let d = rewrite.model().spec.attention.head_width;
    let (place, out) = rewrite.original(Param::Layer(layer, LayerParam::Out))?;
    let column = |at: usize| out.dtype.decode(&out.slice(place.input_axis(), at));
    let mut bias = vec![0.0; rewrite.model().spec.width];
    let mut columns: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for HeadMerge { from, to, map, intercept } in merges {
        for (i, (row, b)) in map.chunks_exact(d).zip(intercept).enumerate() {
            let written = column(from * d + i);
            bias.iter_mut().zip(&written).for_each(|(sum, w)| *sum += b * w);
            for (j, factor) in row.iter().enumerate() {
                let sum = columns.entry(to * d + j).or_insert_with_key(|&at| column(at));
                sum.iter_mut().zip(&written).for_each(|(sum, w)| *sum += factor * w);
            }
        }
    }
    let mut slices = Vec::with_capacity(columns.len());
    for (at, values) in columns {
        let bytes = out.dtype.encode(&values);
        check_finite(out.dtype, &bytes, &place.name)?;
        slices.push((at, bytes));
    }
    let axis = place.input_axis();
    rewrite.change_at(&place, |_, _| Step::Put { axis, slices })?;
    if bias.iter().all(|b| *b == 0.0) {
        return Ok(());
    }
    let param = Param::Layer(layer, LayerParam::OutBias);
    assert!(rewrite.model().has(param), "without a bias the fit goes through 0");
    rewrite.change(param, |_, _| Step::Add { values: bias })
}

/// Leaves out the weights of all heads of a layer but `kept`, or sets them to 0.
fn remove(rewrite: &mut Rewrite<'_>, layer: usize, kept: &[usize], zero: bool) -> Result<()> {
    let model = rewrite.model();
    let attention = &model.spec.attention;
    let (d, group) = (attention.head_width, attention.heads / attention.kv_heads);
    let heads: BTreeSet<usize> = kept.iter().copied().collect();
    let served: BTreeSet<usize> = kept.iter().map(|head| head / group).collect();
    let stays = |rows: &HeadRows| match rows.part {
        HeadPart::Query => heads.contains(&rows.head),
        HeadPart::Key | HeadPart::Value => served.contains(&rows.head),
    };
    let step = |axis: usize, mut firsts: Vec<usize>| {
        firsts.sort_unstable();
        let indices = firsts.into_iter().flat_map(|first| first..first + d).collect();
        if zero { Step::Zero { axis, indices } } else { Step::Keep { axis, indices } }
    };
    let with_bias = if attention.qkv_bias { &[false, true][..] } else { &[false] };
    for &bias in with_bias {
        for stored in model.stored_heads(layer, bias)? {
            let chosen = stored.rows.iter().filter(|rows| stays(rows) != zero);
            let firsts = chosen.map(|rows| rows.first).collect();
            rewrite.change_at(&stored.place, |place, dimensions| {
                step(place.output_axis(dimensions), firsts)
            })?;
        }
    }
    let columns = (0..attention.heads).filter(|head| heads.contains(head) != zero);
    let firsts = columns.map(|head| head * d).collect();
    let out = Param::Layer(layer, LayerParam::Out);
    rewrite.change(out, |place, _| step(place.input_axis(), firsts))
}
