//! `mi`: mutual information between a neuron, cut into bins of equal mass, and the label.

use crate::error::Result;
use crate::methods::evidence::{Cells, Evidence};
use crate::methods::rank::Context;
use crate::methods::ranking::{Score, Scores};
use crate::methods::significance::chi_square_tail;

/// Counts by bin and class.
struct Table {
    bins: Vec<Vec<f64>>,
}

impl Table {
    /// Whole cells go to the bin that holds their middle, so that ties stay together.
    fn new(cells: &Cells, classes: usize, bins: usize) -> Self {
        let n: u64 = (0..cells.len()).map(|cell| cells.count(cell)).sum();
        let mut table = Self { bins: vec![vec![0.0; classes]; bins] };
        let mut seen = 0.0;
        for cell in 0..cells.len() {
            let k = cells.count(cell) as f64;
            // Within [0, bins): the middle lies strictly inside (0, n).
            let bin = ((seen + k / 2.0) / n as f64 * bins as f64) as usize;
            for &(class, count) in cells.entries(cell) {
                table.bins[bin.min(bins - 1)][class as usize] += f64::from(count);
            }
            seen += k;
        }
        table
    }

    /// The same with one class against the rest.
    fn against_rest(&self, class: usize) -> Self {
        let fold = |bin: &Vec<f64>| vec![bin[class], bin.iter().sum::<f64>() - bin[class]];
        Self { bins: self.bins.iter().map(fold).collect() }
    }

    fn score(&self, normalised: bool) -> Score {
        let bins: Vec<f64> =
            self.bins.iter().map(|bin| bin.iter().sum()).filter(|&k| k > 0.0).collect();
        let classes: Vec<f64> = (0..self.bins[0].len())
            .map(|class| self.bins.iter().map(|bin| bin[class]).sum())
            .collect();
        let n: f64 = bins.iter().sum();
        let mut nats = 0.0;
        for bin in &self.bins {
            let row: f64 = bin.iter().sum();
            for (k, column) in bin.iter().zip(&classes).filter(|(k, _)| **k > 0.0) {
                nats += k / n * (k * n / (row * column)).ln();
            }
        }
        let classes: Vec<f64> = classes.into_iter().filter(|&k| k > 0.0).collect();
        let freedom = (bins.len() as f64 - 1.0) * (classes.len() as f64 - 1.0);
        let p = g_test(2.0 * n * nats, freedom, (&bins, &classes, n));
        // Miller & Madow 1955: what independent bins and classes would show on average.
        let corrected = (nats - freedom / (2.0 * n)).max(0.0);
        let entropy: f64 = classes.iter().map(|k| -k / n * (k / n).ln()).sum();
        let value = match (normalised, entropy > 0.0) {
            (true, true) => corrected / entropy,
            (true, false) => 0.0,
            (false, _) => corrected / std::f64::consts::LN_2,
        };
        Score::unsigned(value, Some(p))
    }
}

/// p of G = 2 n I with Williams' correction, without which small expected counts make it too
/// small (Williams 1976).
fn g_test(g: f64, freedom: f64, (bins, classes, n): (&[f64], &[f64], f64)) -> f64 {
    if freedom < 1.0 {
        return 1.0;
    }
    let spread = |margin: &[f64]| n * margin.iter().map(|k| 1.0 / k).sum::<f64>() - 1.0;
    let williams = 1.0 + spread(bins) * spread(classes) / (6.0 * n * freedom);
    chi_square_tail(g / williams, freedom)
}

/// Bits between values cut into `bins` of equal mass and their classes, as `mi` has it.
pub fn binned_bits(cells: &Cells, classes: usize, bins: usize) -> f64 {
    if cells.is_empty() {
        return 0.0;
    }
    Table::new(cells, classes, bins).score(false).value
}

/// `mi`: bits, by class against the rest and over all classes.
pub fn mutual_information(context: &Context<'_>, evidence: &Evidence) -> Result<Scores> {
    let normalised = context.call.flag("normalised");
    let classes = evidence.classes.len();
    if evidence.constant() {
        let none = Score::unsigned(0.0, Some(1.0));
        return Ok(Scores { groups: vec![none; classes], overall: Some(none) });
    }
    let table = Table::new(&evidence.cells, classes, context.call.whole("bins"));
    let groups = (0..classes).map(|class| table.against_rest(class).score(normalised)).collect();
    Ok(Scores { groups, overall: Some(table.score(normalised)) })
}
