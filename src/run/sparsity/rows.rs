//! Rows of the tables, and the tables.

use std::path::Path;

use super::Measured;
use crate::artifact::sparsity::{
    FIRING, FIRING_HISTOGRAM, FiringBinRow, FiringRow, PERPLEXITY, PerplexityRow, SPARSITY,
    SparsityRow,
};
use crate::artifact::table::write_table;
use crate::error::Result;
use crate::stimulate::sparsity::Firing;
use crate::stimulate::sparsity::curve::{Curve, Point};
use crate::stimulate::sparsity::perplexity::{Cut, Means, Probe, Pruned};

/// Bins of firing rates between never and always.
const BINS: usize = 20;

impl Measured {
    pub(super) fn rows_of_firing(&mut self, eps: f32) {
        let row = |layer: Option<usize>, ratio: f64| SparsityRow {
            definition: "firing".into(),
            layer: layer.map(number),
            c: None,
            threshold: Some(f64::from(eps)),
            cett: None,
            activation_ratio: ratio,
        };
        let rates: Vec<f64> = self.firing.iter().map(Firing::rate).collect();
        self.sparsity.push(row(None, mean(&rates)));
        self.sparsity.extend(rates.iter().enumerate().map(|(layer, &rate)| row(Some(layer), rate)));
    }

    pub(super) fn rows_of_cett(&mut self, c: f64, points: &[Point]) {
        let active: Vec<f64> = points.iter().map(|point| point.active).collect();
        self.sparsity.push(SparsityRow {
            definition: "cett".into(),
            layer: None,
            c: Some(c),
            threshold: None,
            cett: Some(mean(&points.iter().map(|point| point.cett).collect::<Vec<_>>())),
            activation_ratio: mean(&active),
        });
        let row = |(layer, point): (usize, &Point)| row_of_point("cett", (layer, Some(c)), point);
        self.sparsity.extend(points.iter().enumerate().map(row));
    }

    pub(super) fn rows_of_curves(&mut self, curves: &[Curve]) {
        for (layer, curve) in curves.iter().enumerate() {
            let row = |point: &Point| row_of_point("curve", (layer, None), point);
            self.sparsity.extend(curve.points().iter().map(row));
        }
    }

    /// The dense model and every strength that was tried for some means.
    pub(super) fn rows_of_probes(&mut self, means: Means, tried: &[Probe], dense: f64) {
        let best = tried.iter().rposition(|probe| probe.within);
        for (at, probe) in tried.iter().enumerate() {
            self.perplexity.push(PerplexityRow {
                method: means.name().into(),
                parameter: Some(probe.parameter),
                activation_ratio: probe.pruned.ratio(),
                perplexity: probe.pruned.perplexity,
                ratio: probe.pruned.perplexity / dense,
                within: probe.within,
                best: best == Some(at),
            });
        }
    }

    /// The dense model.
    pub(super) fn row_of_dense(&mut self, dense: &Pruned) {
        self.perplexity.push(PerplexityRow {
            method: "dense".into(),
            parameter: None,
            activation_ratio: dense.ratio(),
            perplexity: dense.perplexity,
            ratio: 1.0,
            within: true,
            best: false,
        });
    }

    /// The largest CETT within the perplexity allowed, as it was measured in every layer.
    pub(super) fn rows_of_ppl(&mut self, best: &Probe, curves: &[Curve]) {
        let Cut::Tail(thresholds) = &best.cut else { return };
        let row = |layer, threshold: Option<f32>, cett: f64, ratio: f64| SparsityRow {
            definition: "ppl".into(),
            layer,
            c: Some(best.parameter),
            threshold: threshold.map(f64::from),
            cett: Some(cett),
            activation_ratio: ratio,
        };
        let measured = |(curve, &threshold): (&Curve, &f32)| {
            let there = curve.points().iter().find(|point| point.threshold == threshold);
            there.map_or(0.0, |point| point.cett)
        };
        let cett: Vec<f64> = curves.iter().zip(thresholds).map(measured).collect();
        self.sparsity.push(row(None, None, mean(&cett), best.pruned.ratio()));
        for (layer, (&threshold, &cett)) in thresholds.iter().zip(&cett).enumerate() {
            let ratio = best.pruned.active[layer];
            self.sparsity.push(row(Some(number(layer)), Some(threshold), cett, ratio));
        }
    }
}

fn row_of_point(definition: &str, (layer, c): (usize, Option<f64>), point: &Point) -> SparsityRow {
    SparsityRow {
        definition: definition.into(),
        layer: Some(number(layer)),
        c,
        threshold: Some(f64::from(point.threshold)),
        cett: Some(point.cett),
        activation_ratio: point.active,
    }
}

fn number(n: usize) -> i32 {
    i32::try_from(n).expect("layers and neurons are few")
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// How many neurons fire how often: by layer, then in all layers.
fn histogram(firing: &[Firing]) -> Vec<FiringBinRow> {
    let bins = |firing: &[Firing]| {
        // Never, as many bins of (low, high] as there are, always.
        let mut bins = vec![0_i64; BINS + 2];
        for layer in firing {
            for &count in &layer.counts {
                bins[bin(count, layer.tokens)] += 1;
            }
        }
        bins
    };
    let of = |(layer, firing): (Option<i32>, &[Firing])| {
        let row = |(at, neurons): (usize, i64)| {
            let edge = |at: usize| at as f64 / BINS as f64;
            let (low, high) = match at {
                0 => (0.0, 0.0),
                at if at > BINS => (1.0, 1.0),
                at => (edge(at - 1), edge(at)),
            };
            FiringBinRow { layer, low, high, neurons }
        };
        bins(firing).into_iter().enumerate().map(row).collect::<Vec<_>>()
    };
    let layers = firing.iter().enumerate();
    let layers = layers.map(|(layer, one)| (Some(number(layer)), std::slice::from_ref(one)));
    layers.chain([(None, firing)]).flat_map(of).collect()
}

/// The bin of a neuron that fired at so many tokens.
fn bin(count: u64, tokens: u64) -> usize {
    match count {
        0 => 0,
        count if count >= tokens => BINS + 1,
        // Exact: a rate at an edge is in the bin below it.
        count => {
            let at = (u128::from(count) * BINS as u128).div_ceil(u128::from(tokens));
            usize::try_from(at).expect("at most the bins")
        }
    }
}

/// Writes the tables; returns their names.
pub(super) fn write(folder: &Path, run_id: &str, measured: &Measured) -> Result<Vec<&'static str>> {
    write_table(&folder.join(SPARSITY), run_id, measured.sparsity.iter().cloned())?;
    if !measured.perplexity.is_empty() {
        write_table(&folder.join(PERPLEXITY), run_id, measured.perplexity.iter().cloned())?;
    }
    let of_layer = |(layer, firing): (usize, &Firing)| {
        let row = |neuron: usize, count: u64, tokens: u64, rate: f64| FiringRow {
            layer: number(layer),
            neuron: number(neuron),
            n: tokens.cast_signed(),
            rate,
            never: count == 0,
            always: count == tokens,
        };
        let counts = firing.counts.iter().enumerate();
        let rows = counts.map(|(n, &count)| row(n, count, firing.tokens, firing.rate_of(n)));
        rows.collect::<Vec<_>>()
    };
    let rows = measured.firing.iter().enumerate().flat_map(of_layer);
    write_table(&folder.join(FIRING), run_id, rows)?;
    let bins = histogram(&measured.firing).into_iter();
    write_table(&folder.join(FIRING_HISTOGRAM), run_id, bins)?;
    let asked = (!measured.perplexity.is_empty()).then_some(PERPLEXITY);
    Ok([SPARSITY, FIRING, FIRING_HISTOGRAM].into_iter().chain(asked).collect())
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.

    use super::*;

    #[test]
    fn rates_fall_into_their_bins() {
        let counts = vec![0, 1, 5, 6, 99, 100, 0];
        let firing = Firing { tokens: 100, counts, ..Firing::default() };
        let rows = histogram(&[firing.clone(), firing]);
        assert_eq!(rows.len(), 3 * (BINS + 2));
        let held = |layer| {
            let rows = rows.iter().filter(move |row| row.layer == layer && row.neurons > 0);
            rows.map(|row| (row.low, row.high, row.neurons)).collect::<Vec<_>>()
        };
        let want = [(0.0, 0.0, 2), (0.0, 0.05, 2), (0.05, 0.1, 1), (0.95, 1.0, 1), (1.0, 1.0, 1)];
        assert_eq!(held(Some(1)), want);
        assert_eq!(held(None), want.map(|(low, high, neurons)| (low, high, 2 * neurons)));
    }
}
