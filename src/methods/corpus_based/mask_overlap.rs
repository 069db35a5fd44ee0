//! `iou` (Mu & Andreas 2020): overlap of "the neuron fires" with "the row has the concept".

use crate::error::Result;
use crate::methods::evidence::{Cells, Evidence};
use crate::methods::rank::Context;
use crate::methods::ranking::{Score, Scores};
use crate::methods::significance::overlap_tail;

/// Rows that fire, and of them those of each class.
struct Mask {
    fires: u64,
    by_class: Vec<u64>,
}

impl Mask {
    fn new(by_class: Vec<u64>) -> Self {
        Self { fires: by_class.iter().sum(), by_class }
    }

    fn of_cells(cells: &Cells, range: std::ops::Range<usize>, classes: usize) -> Self {
        let mut by_class = vec![0; classes];
        for cell in range {
            for &(class, count) in cells.entries(cell) {
                by_class[class as usize] += u64::from(count);
            }
        }
        Self::new(by_class)
    }
}

/// The two thresholds, upper and lower: given as a number, or as a share of the rows.
fn masks(context: &Context<'_>, evidence: &Evidence) -> (Mask, Mask) {
    let (call, cells, classes) = (context.call, &evidence.cells, evidence.classes.len());
    if call.has("tau") {
        let tau = call.number("tau");
        let above = if tau == 0.0 {
            // Counted one by one, not in bins.
            Mask::new(evidence.classes.iter().map(|class| class.firing).collect())
        } else {
            Mask::of_cells(cells, cells.first_above(tau)..cells.len(), classes)
        };
        return (above, Mask::of_cells(cells, 0..cells.cells_below(-tau), classes));
    }
    let alpha = call.number("alpha");
    if !cells.exact {
        return (
            Mask::of_cells(cells, share(cells, 1.0 - alpha)..cells.len(), classes),
            Mask::of_cells(cells, 0..share(cells, alpha), classes),
        );
    }
    let at = |q| cells.quantile(q, None).unwrap_or(0.0);
    let (high, low) = (at(1.0 - alpha), at(alpha));
    (
        Mask::of_cells(cells, cells.first_above(high)..cells.len(), classes),
        Mask::of_cells(cells, 0..cells.cells_below(low), classes),
    )
}

/// The border between bins below which the share of rows is nearest to `q`.
fn share(cells: &Cells, q: f64) -> usize {
    let n: u64 = (0..cells.len()).map(|cell| cells.count(cell)).sum();
    let (mut seen, mut best, mut nearest) = (0.0, 0, q);
    for cell in 0..cells.len() {
        seen += cells.count(cell) as f64 / n as f64;
        if (seen - q).abs() < nearest {
            (best, nearest) = (cell + 1, (seen - q).abs());
        }
    }
    best
}

/// Whether `iou` needs cells with these settings: not for x > 0 alone, which is counted apart.
pub fn needs_order(call: &crate::methods::MethodCall) -> bool {
    !(call.has("tau") && call.number("tau") == 0.0 && !call.flag("two-sided"))
}

/// `iou`: |fires and class| / |fires or class|, or its precision or recall.
///
/// p is the chance of as large an overlap among all ways to place as many firings (the
/// hypergeometric tail); for the better of two sides it is doubled.
pub fn iou(context: &Context<'_>, evidence: &Evidence) -> Result<Scores> {
    let (above, below) = masks(context, evidence);
    let measure = context.call.text("measure");
    let n = evidence.total.n;
    let score = |mask: &Mask, class: usize| {
        let (both, rows) = (mask.by_class[class], evidence.classes[class].n);
        let over = match measure.as_str() {
            "precision" => mask.fires,
            "recall" => rows,
            _ => mask.fires + rows - both,
        };
        let value = if over == 0 { 0.0 } else { both as f64 / over as f64 };
        (value, overlap_tail(both, mask.fires, rows, n))
    };
    let two_sided = context.call.flag("two-sided");
    let best = |class: usize| {
        let (up, p_up) = score(&above, class);
        if !two_sided {
            return Score { score: up, sign: 1, value: up, p: Some(p_up) };
        }
        let (down, p_down) = score(&below, class);
        let (value, sign) = if down > up { (down, -1) } else { (up, 1) };
        Score { score: value, sign, value, p: Some((2.0 * p_up.min(p_down)).min(1.0)) }
    };
    Ok(Scores { groups: (0..evidence.classes.len()).map(best).collect(), overall: None })
}
