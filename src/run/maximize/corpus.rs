//! What a run says of neurons on its corpus: how high a value is among theirs, and the context that
//! drove a neuron most.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::artifact::rows::{ContextRow, NeuronRow};
use crate::artifact::tables::{CONTEXTS, NEURONS, read_contexts, read_neurons};
use crate::error::Result;
use crate::id::NeuronId;
use crate::run::statistics_tables::LEVELS;

/// A site's full name and a column.
type Key = (String, i32);

/// The tables of a run, by neuron.
pub(super) struct CorpusValues {
    neurons: BTreeMap<Key, NeuronRow>,
    /// The best context of each.
    contexts: BTreeMap<Key, ContextRow>,
}

impl CorpusValues {
    /// Reads the tables in the folder of a run; one without contexts is no fault.
    pub(super) fn load(folder: &Path) -> Result<Self> {
        let neurons = read_neurons(&folder.join(NEURONS))?;
        let contexts = folder.join(CONTEXTS);
        let contexts = if contexts.exists() { read_contexts(&contexts)? } else { Vec::new() };
        let best = contexts.into_iter().filter(|row| row.side == "top" && row.rank == 1);
        Ok(Self {
            neurons: neurons.into_iter().map(|row| ((row.site.clone(), row.neuron), row)).collect(),
            contexts: best.map(|row| ((row.site.clone(), row.neuron), row)).collect(),
        })
    }

    fn of(&self, neuron: NeuronId) -> Option<&NeuronRow> {
        self.neurons.get(&key(neuron))
    }

    /// The largest value in the corpus.
    pub(super) fn max(&self, neuron: NeuronId) -> Option<f32> {
        self.of(neuron).map(|row| row.max)
    }

    /// The share of the corpus's values below `x`, linear between the quantiles that the run kept.
    pub(super) fn percentile(&self, neuron: NeuronId, x: f32) -> Option<f64> {
        self.of(neuron).map(|row| share_below(row, f64::from(x)))
    }

    /// What is written beside a text: null for a neuron that the run did not watch.
    pub(super) fn beside(&self, neuron: NeuronId, x: f32) -> Value {
        let Some(row) = self.of(neuron) else { return Value::Null };
        let context = self.contexts.get(&key(neuron)).map(|context| {
            json!({"value": context.value, "words": context.words, "focus": context.focus})
        });
        json!({"percentile": share_below(row, f64::from(x)), "max": row.max, "context": context})
    }
}

fn key(neuron: NeuronId) -> Key {
    (neuron.site.to_string(), i32::try_from(neuron.index).unwrap_or(i32::MAX))
}

fn share_below(row: &NeuronRow, x: f64) -> f64 {
    let inner = row.quantiles.iter().zip(LEVELS).map(|(&value, level)| (f64::from(value), level));
    let ends = |value: f32, level: f64| std::iter::once((f64::from(value), level));
    let points: Vec<(f64, f64)> =
        ends(row.min, 0.0).chain(inner).chain(ends(row.max, 1.0)).collect();
    // The highest point at or below x, and the next one.
    match points.iter().rposition(|(value, _)| *value <= x) {
        None => 0.0,
        Some(at) if at + 1 == points.len() => 1.0,
        Some(at) => {
            let ((x0, p0), (x1, p1)) = (points[at], points[at + 1]);
            p0 + (p1 - p0) * (x - x0) / (x1 - x0)
        }
    }
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.

    use super::*;

    fn row(quantiles: Vec<f32>) -> NeuronRow {
        NeuronRow {
            site: "layers.0.mlp_act".into(),
            layer: Some(0),
            neuron: 3,
            n: 100,
            non_finite: 0,
            mean: 0.0,
            sd: 1.0,
            min: -1.0,
            max: 9.0,
            firing_rate: 0.5,
            constant: false,
            quantiles,
        }
    }

    #[test]
    fn shares_lie_on_lines_between_quantiles() {
        let row = row(vec![-0.5, -0.25, 0.0, 1.0, 2.0, 4.0, 5.0]);
        for (x, share) in [
            (-2.0, 0.0),
            (-1.0, 0.0),
            (1.0, 0.5),
            (1.5, 0.625),
            (5.0, 0.99),
            (7.0, 0.995),
            (9.0, 1.0),
        ] {
            assert!((share_below(&row, x) - share).abs() < 1e-12, "{x}: {}", share_below(&row, x));
        }
    }

    #[test]
    fn without_quantiles_the_ends_remain() {
        assert_eq!(share_below(&row(Vec::new()), 4.0), 0.5);
        assert_eq!(share_below(&row(Vec::new()), 99.0), 1.0);
    }
}
