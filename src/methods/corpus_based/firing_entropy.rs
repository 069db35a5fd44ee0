//! `lape` (Tang et al. 2024): neurons that fire for one corpus (language, domain) and not for the
//! others, by the entropy of their firing probabilities.

use crate::error::Result;
use crate::methods::call::MethodCall;
use crate::methods::evidence::Evidence;
use crate::methods::rank::{assemble, visit};
use crate::methods::ranking::{Ranking, Score, Scores};
use crate::methods::significance::chi_square_tail;
use crate::methods::source::Source;

/// Firing of one neuron by corpus.
struct Firing {
    /// Share of rows with x > 0, by corpus.
    rates: Vec<f64>,
    /// -sum q ln q with q = rates / sum of rates; 0 where it never fires.
    entropy: f64,
    /// Probability of rates this unequal if it fired equally in all.
    p: f64,
    /// The neuron never changes.
    constant: bool,
}

impl Firing {
    fn new(evidence: &Evidence) -> Self {
        let rate = |fires: u64, n: u64| if n == 0 { 0.0 } else { fires as f64 / n as f64 };
        let rates: Vec<f64> =
            evidence.classes.iter().map(|class| rate(class.firing, class.n)).collect();
        let sum: f64 = rates.iter().sum();
        let shares = rates.iter().map(|p| p / sum).filter(|q| *q > 0.0);
        let entropy = if sum > 0.0 { shares.map(|q| -q * q.ln()).sum() } else { 0.0 };
        let pooled = rate(evidence.total.firing, evidence.total.n);
        let spread = pooled * (1.0 - pooled);
        let seen = evidence.classes.iter().zip(&rates).filter(|(class, _)| class.n > 0);
        let chi: f64 = seen.clone().map(|(class, p)| class.count() * (p - pooled).powi(2)).sum();
        let freedom = seen.count() as f64 - 1.0;
        let p = if spread > 0.0 { chi_square_tail(chi / spread, freedom) } else { 1.0 };
        Self { rates, entropy, p, constant: evidence.constant() }
    }

    fn share(&self, group: usize) -> f64 {
        let sum: f64 = self.rates.iter().sum();
        if sum > 0.0 { self.rates[group] / sum } else { 0.0 }
    }
}

/// The value at rank round(share * count), from 1 upwards; halves to even.
fn kth(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).round_ties_even() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// `lape`. Overall: score -entropy; neurons that nowhere pass the filter come after all others.
/// By corpus: its share of the neuron's firing, and the set that the paper selects.
///
/// The registry's `filter` and `bar` are shares of *all* neuron-by-corpus probabilities, and
/// comparison with the value found there is strict.
pub fn lape(call: &MethodCall, source: &dyn Source) -> Result<Ranking> {
    let design = source.design();
    let firing = visit(source, false, &|_, evidence| Firing::new(evidence))?;
    if firing.is_empty() {
        return Ok(Ranking::default());
    }
    let mut all: Vec<f64> = firing.iter().flat_map(|neuron| neuron.rates.clone()).collect();
    all.sort_by(f64::total_cmp);
    let (filter, bar) = (kth(&all, call.number("filter")), kth(&all, call.number("bar")));
    // Discarded neurons lie below the largest entropy there can be, those that never fire lower.
    let step = (design.classes.len() as f64).ln() + 1.0;
    let scored: Vec<(Scores, bool)> = firing
        .iter()
        .map(|neuron| {
            let kept = neuron.rates.iter().any(|&p| p > filter);
            let silent = neuron.rates.iter().all(|&p| p == 0.0);
            let value = -neuron.entropy;
            let penalty = if kept { 0.0 } else { step } + if silent { step } else { 0.0 };
            let p = Some(neuron.p);
            let group = |g| {
                let value = neuron.share(g);
                Score { score: if kept { value } else { 0.0 }, sign: 1, value, p }
            };
            let overall = Some(Score { score: value - penalty, sign: 0, value, p });
            let groups = (0..design.classes.len()).map(group).collect();
            (Scores { groups, overall }, neuron.constant)
        })
        .collect();
    let mut ranking = assemble(design, &scored);
    let wanted = (firing.len() as f64 * call.number("share")).round_ties_even() as usize;
    let overall = ranking.overall.as_mut().expect("every neuron has an overall score");
    let kept = |&&i: &&u32| firing[i as usize].rates.iter().any(|&p| p > filter);
    let selected: Vec<u32> = overall.order.iter().take(wanted).filter(kept).copied().collect();
    for (g, group) in ranking.groups.iter_mut().enumerate() {
        let member = |&&i: &&u32| firing[i as usize].rates[g] > bar;
        group.selected = Some(selected.iter().filter(member).copied().collect());
    }
    ranking.notes.push(format!("filter {filter:.6}, bar {bar:.6}, {} selected", selected.len()));
    overall_selected(&mut ranking, selected);
    Ok(ranking)
}

fn overall_selected(ranking: &mut Ranking, selected: Vec<u32>) {
    if let Some(overall) = &mut ranking.overall {
        overall.selected = Some(selected);
    }
}
