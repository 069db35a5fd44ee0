//! What cutting tails costs a language model: its perplexity while, at every token and in every
//! layer, the neurons of the tail are 0; and the most that can be cut for a given cost (PPL-p%).
//!
//! Beside CETT stand two baselines: `topk` keeps the k largest `|x_n|` of each token (the authors'
//! code takes them from the whole batch), `fat_eps` keeps `|x_n| > eps` with one eps for all layers
//! (FATReLU, Kurtz et al. 2020).

use std::collections::BTreeMap;

use super::curve::{Curve, FLOOR};
use super::tallies::{self, Measure};
use super::{Sparsity, neuron_sites, run_batch};
use crate::accumulate::tally::Tally;
use crate::corpus::batch::Batch;
use crate::device::gradient_ops::GradientOps;
use crate::device::ops::{Edit, Ops, Write};
use crate::device::score::Scoring;
use crate::device::site_view::{SiteView, SiteVisitor};
use crate::error::Result;
use crate::id::Site;

use super::tail::Tail;

/// What is cut.
#[derive(Clone, Debug, PartialEq)]
pub enum Cut {
    /// Nothing: the dense model.
    Nothing,
    /// `|x_n| ||v_n|| <= e`, a threshold for each layer.
    Tail(Vec<f32>),
    /// `|x_n| <= eps`.
    Fat(f32),
    /// All but the k largest `|x_n|` of each token.
    Top(usize),
}

/// What is left.
#[derive(Clone, Debug, PartialEq)]
pub struct Pruned {
    /// exp of the mean of -log p over all tokens with one before them.
    pub perplexity: f64,
    /// Share of neurons that are not 0, by layer.
    pub active: Vec<f64>,
}

impl Pruned {
    /// Share of neurons that are not 0, over all layers.
    pub fn ratio(&self) -> f64 {
        self.active.iter().sum::<f64>() / self.active.len().max(1) as f64
    }
}

/// How it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// By CETT: the same share of every layer's output.
    Cett,
    /// See the module.
    TopK,
    /// See the module.
    FatEps,
}

impl Means {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cett, Self::TopK, Self::FatEps];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cett => "cett",
            Self::TopK => "topk",
            Self::FatEps => "fat_eps",
        }
    }

    /// What is cut at a strength from 0 to 1, and the number that is told for it: c, k or eps. For c
    /// it is the largest threshold of each layer whose CETT was measured and is not above c.
    /// `largest` is the largest activation.
    pub fn cut(
        self,
        strength: f64,
        curves: &[Curve],
        (neurons, largest): (usize, f32),
    ) -> (Cut, f64) {
        match self {
            Self::Cett => {
                let measured = |curve: &Curve| curve.around(strength).0.threshold;
                let thresholds = curves.iter().map(measured).collect();
                (Cut::Tail(thresholds), strength)
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            Self::TopK => {
                let keep = ((1.0 - strength) * neurons as f64).round() as usize;
                (Cut::Top(keep), keep as f64)
            }
            #[expect(clippy::cast_possible_truncation, reason = "thresholds of f32 values")]
            Self::FatEps => {
                let eps = f64::from(largest) * f64::from(FLOOR).powf(1.0 - strength);
                (Cut::Fat(eps as f32), eps)
            }
        }
    }
}

/// A strength that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// How it was cut.
    pub means: Means,
    /// c, k or eps.
    pub parameter: f64,
    /// What is cut.
    pub cut: Cut,
    /// What is left.
    pub pruned: Pruned,
    /// The perplexity is within what is allowed.
    pub within: bool,
}

/// Tries strengths by bisection, until the last one within what is allowed and the first one beyond it
/// are at most `tolerance` apart: the last within is then the strongest measured. The perplexity is
/// taken to grow with the strength.
pub fn bisect(tolerance: f64, mut test: impl FnMut(f64) -> Result<Probe>) -> Result<Vec<Probe>> {
    let (mut low, mut high) = (0.0, 1.0);
    let mut tried = Vec::new();
    while high - low > tolerance {
        let middle = (low + high) / 2.0;
        let probe = test(middle)?;
        if probe.within {
            low = middle
        } else {
            high = middle
        }
        tried.push(probe);
    }
    Ok(tried)
}

impl<O: GradientOps> Sparsity<O> {
    /// One pass of the model with its tails cut. It must have been made to be scored.
    pub fn pruned(&mut self, batches: &[Batch], cut: &Cut) -> Result<Pruned> {
        let tally = self.tally(batches, &Measure::Pruned(cut))?;
        tallies::pruned(&tally, self.shape().1)
    }

    pub(super) fn tally_pruned(&mut self, batches: &[Batch], cut: &Cut) -> Result<Tally> {
        let Self { run, down, buffers } = self;
        let mut edits: BTreeMap<Site, Vec<Edit>> = BTreeMap::new();
        if let Cut::Top(keep) = cut {
            let edit = Edit { columns: None, tokens: None, write: Write::KeepTop(*keep) };
            edits.extend(
                neuron_sites(run.spec().layers).into_iter().map(|s| (s, vec![edit.clone()])),
            );
        }
        let layers = run.spec().layers;
        let mut visitor = Cutter {
            tail: &mut buffers.tail,
            cut,
            lengths: &down.lengths,
            rows: &[],
            tokens: 0,
            active: vec![0.0; layers],
            counts: Vec::new(),
        };
        let (mut sum, mut scored, mut rows_seen) = (0.0, 0_u64, 0_u64);
        for batch in batches {
            (visitor.rows, visitor.tokens) = (&batch.row_first, batch.tokens.len());
            run_batch(run, batch, &edits, &mut visitor)?;
            let (rows, targets) = next_tokens(batch);
            let scoring = Scoring {
                rows: &rows,
                targets: &targets,
                foils: None,
                reference: None,
                keep: None,
            };
            let scores = run.score(&batch.starts, scoring, None)?;
            sum -= scores.iter().map(|score| f64::from(score.log_prob)).sum::<f64>();
            scored += scores.len() as u64;
            rows_seen += batch.rows() as u64;
        }
        Ok(tallies::of_pruned([scored, rows_seen], sum, &visitor.active))
    }
}

/// Tokens with a next one in their sequence, and that one.
fn next_tokens(batch: &Batch) -> (Vec<u32>, Vec<u32>) {
    let of = |pair: &[u32]| pair[0]..(pair[1] - 1).max(pair[0]);
    let rows: Vec<u32> = batch.starts.windows(2).flat_map(of).collect();
    let targets = rows.iter().map(|&row| batch.tokens[row as usize + 1]).collect();
    (rows, targets)
}

/// Cuts the neurons of each layer as they are made.
struct Cutter<'a, O: Ops> {
    tail: &'a mut Tail<O>,
    cut: &'a Cut,
    lengths: &'a [Vec<f32>],
    /// Tokens that count, of so many.
    rows: &'a [u32],
    tokens: usize,
    /// Sums over these of neurons that are not 0, by layer.
    active: Vec<f64>,
    counts: Vec<f32>,
}

impl<O: Ops> SiteVisitor<O> for Cutter<'_, O> {
    fn change(&mut self, ops: &O, site: Site, values: &mut O::Tensor) -> Result<()> {
        let layer = site.layer.expect("of a layer") as usize;
        let (threshold, scales) = match self.cut {
            Cut::Nothing | Cut::Top(_) => return Ok(()),
            Cut::Tail(thresholds) => (thresholds[layer], Some(&self.lengths[layer][..])),
            Cut::Fat(eps) => (*eps, None),
        };
        self.tail.measure(ops, values, self.tokens, scales);
        self.tail.cut(ops, threshold);
        self.tail.close(ops, values);
        Ok(())
    }

    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        self.tail.measure(ops, view.values, self.tokens, None);
        self.tail.cut(ops, 0.0);
        self.tail.count_active(ops, &mut self.counts)?;
        let layer = view.site.layer.expect("of a layer") as usize;
        self.active[layer] +=
            self.rows.iter().map(|&row| f64::from(self.counts[row as usize])).sum::<f64>();
        Ok(())
    }
}
