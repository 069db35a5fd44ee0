//! What some batches leave of a measure, as counts and sums that merge, and what is read off them.

use super::Firing;
use super::curve::Point;
use super::perplexity::{Cut, Pruned};
use crate::accumulate::tally::{Tally, TallyPlan};
use crate::corpus::block::Counts;
use crate::error::{Error, Result};

/// What is measured in one pass.
#[derive(Clone, Copy, Debug)]
pub enum Measure<'a> {
    /// How often each neuron fires, `|x_n|` being above this.
    Firing(f32),
    /// CETT at thresholds, by layer.
    Cett(&'a [Vec<f32>]),
    /// Perplexity of the model when this is cut.
    Pruned(&'a Cut),
}

impl Measure<'_> {
    /// As files are named.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Firing(_) => "firing",
            Self::Cett(_) => "cett",
            Self::Pruned(_) => "pruned",
        }
    }

    /// Its numbers in a model of so many layers of so many neurons.
    pub fn plan(&self, (layers, neurons): (usize, usize)) -> TallyPlan {
        match self {
            Self::Firing(_) => {
                TallyPlan { whole: layers * (neurons + 1), sums: 0, largest: 2 * layers }
            }
            Self::Cett(thresholds) => TallyPlan {
                whole: 1,
                sums: 2 * thresholds.iter().map(Vec::len).sum::<usize>(),
                largest: 0,
            },
            Self::Pruned(_) => TallyPlan { whole: 2, sums: 1 + layers, largest: 0 },
        }
    }
}

/// Tokens and counts of each layer, and its two largest sizes.
pub(super) fn of_firing(found: &[Firing]) -> Tally {
    let whole = found
        .iter()
        .flat_map(|layer| std::iter::once(layer.tokens).chain(layer.counts.iter().copied()));
    Tally {
        counts: Counts::default(),
        whole: whole.collect(),
        sums: Vec::new(),
        largest: found.iter().flat_map(|layer| [layer.largest, layer.largest_value]).collect(),
    }
}

/// What fires, by layer.
pub fn firing(tally: &Tally, (_, neurons): (usize, usize)) -> Vec<Firing> {
    let layers = tally.whole.chunks_exact(neurons + 1).zip(tally.largest.chunks_exact(2));
    let layer = |(whole, largest): (&[u64], &[f32])| Firing {
        tokens: whole[0],
        counts: whole[1..].to_vec(),
        largest: largest[0],
        largest_value: largest[1],
    };
    layers.map(layer).collect()
}

/// Rows, and sums over them of the ratio of norms and of active neurons at each threshold.
pub(super) fn of_cett(sums: &[Vec<[f64; 2]>], rows: usize) -> Tally {
    Tally {
        counts: Counts::default(),
        whole: vec![rows as u64],
        sums: sums.iter().flatten().flatten().copied().collect(),
        largest: Vec::new(),
    }
}

/// CETT at thresholds, by layer, in their order.
pub fn points(tally: &Tally, thresholds: &[Vec<f32>], neurons: usize) -> Vec<Vec<Point>> {
    let rows = tally.whole[0] as f64;
    let mut sums = tally.sums.chunks_exact(2);
    let mut point = |&threshold: &f32| {
        let sums = sums.next().expect("a pair for each threshold");
        Point { threshold, cett: sums[0] / rows, active: sums[1] / (rows * neurons as f64) }
    };
    thresholds.iter().map(|list| list.iter().map(&mut point).collect()).collect()
}

/// Tokens that were scored and all rows; the sum of -log p; active neurons over rows, by layer.
pub(super) fn of_pruned([scored, rows]: [u64; 2], sum: f64, active: &[f64]) -> Tally {
    Tally {
        counts: Counts::default(),
        whole: vec![scored, rows],
        sums: std::iter::once(sum).chain(active.iter().copied()).collect(),
        largest: Vec::new(),
    }
}

/// What is left of a cut model.
pub fn pruned(tally: &Tally, neurons: usize) -> Result<Pruned> {
    let (scored, rows) = (tally.whole[0], tally.whole[1]);
    if scored == 0 {
        let what = "no token of the corpus has one before it";
        return Err(Error::config("--corpus", what, "give longer texts"));
    }
    let cells = rows.max(1) as f64 * neurons as f64;
    Ok(Pruned {
        perplexity: (tally.sums[0] / scored as f64).exp(),
        active: tally.sums[1..].iter().map(|count| count / cells).collect(),
    })
}
