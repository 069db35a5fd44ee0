//! `rep-layers`: where the top neurons live.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::methods::agreement::Ranked;

/// A layer's part of the top neurons.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerShare {
    /// Neurons it has.
    pub neurons: usize,
    /// How many of them are among the top.
    pub top: usize,
    /// `top / neurons`; with neurons spread evenly the same in every layer.
    pub share: f64,
    /// The interval of `share` over the resamples; `share` itself without any.
    pub low: f64,
    /// See `low`.
    pub high: f64,
}

/// Layers `[L]` as ranges of neurons, from how many each has, layer after layer.
pub fn layer_ranges(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut end = 0;
    let range = |size: &usize| {
        let start = end;
        end += size;
        start..end
    };
    sizes.iter().map(range).collect()
}

/// How many of the best `share` (0..=1, at least one neuron) of all neurons each layer holds, `[L]`.
/// Neurons are numbered layer after layer, of `sizes`. An error if the ranking is shorter than that,
/// or names neurons that no layer has.
pub fn top_by_layer(ranking: &Ranked, sizes: &[usize], share: f64) -> Result<Vec<usize>> {
    if !(share > 0.0 && share <= 1.0) {
        return Err(Error::config(
            "rep-layers share",
            format!("{share} of the neurons is asked"),
            "give a share above 0 and up to 1, as 0.01",
        ));
    }
    let neurons: usize = sizes.iter().sum();
    let size = ((neurons as f64 * share).round() as usize).max(1);
    let top = ranking.top(size)?;
    let ranges = layer_ranges(sizes);
    let mut counts = vec![0; sizes.len()];
    for &neuron in &top {
        let layer = ranges.partition_point(|range| range.end <= neuron as usize);
        let Some(count) = counts.get_mut(layer) else {
            return Err(Error::config(
                format!("ranking '{}'", ranking.name),
                format!("it ranks neuron {neuron}, the layers have {neurons}"),
                "count layers by the site that was ranked",
            ));
        };
        *count += 1;
    }
    Ok(counts)
}

/// [`top_by_layer`] by the size of each layer, with the percentile interval that holds `level` of the
/// `resamples` (bootstrap over shards, Efron and Tibshirani 1993, 13.3): the same ranking made from shards
/// drawn with replacement.
pub fn layer_shares(
    (ranking, resamples): (&Ranked, &[Ranked]),
    sizes: &[usize],
    share: f64,
    level: f64,
) -> Result<Vec<LayerShare>> {
    if !(level > 0.0 && level < 1.0) {
        return Err(Error::config(
            "rep-layers level",
            format!("an interval of {level} is asked"),
            "give a number between 0 and 1, as 0.95",
        ));
    }
    let counts = top_by_layer(ranking, sizes, share)?;
    let again: Vec<Vec<usize>> =
        resamples.iter().map(|other| top_by_layer(other, sizes, share)).collect::<Result<_>>()?;
    let layer = |(i, (&neurons, &top)): (usize, (&usize, &usize))| {
        let by_size = |count: usize| count as f64 / neurons.max(1) as f64;
        let mut seen: Vec<f64> = again.iter().map(|counts| by_size(counts[i])).collect();
        if seen.is_empty() {
            seen.push(by_size(top));
        }
        seen.sort_by(f64::total_cmp);
        let (low, high) =
            (quantile(&seen, (1.0 - level) / 2.0), quantile(&seen, (1.0 + level) / 2.0));
        LayerShare { neurons, top, share: by_size(top), low, high }
    };
    Ok(sizes.iter().zip(&counts).enumerate().map(layer).collect())
}

/// Linear between order statistics.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let below = place.floor();
    let (low, high) = (sorted[below as usize], sorted[place.ceil() as usize]);
    low + (high - low) * (place - below)
}
