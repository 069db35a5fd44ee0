//! What drawing a neuron over a text needs to know beforehand.

use crate::error::Result;
use crate::methods::call::MethodCall;
use crate::methods::evidence::{Cells, Evidence};
use crate::methods::rank::visit;
use crate::methods::ranking::{Explanation, Ranking, Scale};
use crate::methods::source::Source;

/// `viz`: centre and scale of each neuron's colours, clip((x - centre)/scale, -1, 1), from the
/// whole corpus so that colours compare across sentences.
pub fn scales(call: &MethodCall, source: &dyn Source) -> Result<Ranking> {
    let (share, signed) = (call.number("percentile") / 100.0, call.flag("signed"));
    let scales = visit(source, true, &|_, evidence| scale(evidence, share, signed))?;
    Ok(Ranking { explanation: Explanation::Scales(scales), ..Ranking::default() })
}

fn scale(evidence: &Evidence, share: f64, signed: bool) -> Scale {
    let cells = &evidence.cells;
    let centre = if signed { 0.0 } else { cells.quantile(0.5, None).unwrap_or(0.0) };
    if evidence.constant() {
        return Scale { centre, scale: 0.0 };
    }
    Scale { centre, scale: distances(cells, centre).quantile(share, None).unwrap_or(0.0) }
}

/// The cells of |x - centre|: each cell's spread folded over the centre.
fn distances(cells: &Cells, centre: f64) -> Cells {
    let mut folded: Vec<(f64, f64, usize)> = (0..cells.len())
        .map(|cell| {
            let (low, high) = (cells.span[cell].0 - centre, cells.span[cell].1 - centre);
            let (near, far) = (low.abs().min(high.abs()), low.abs().max(high.abs()));
            (if low < 0.0 && high > 0.0 { 0.0 } else { near }, far, cell)
        })
        .collect();
    folded.sort_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1)));
    let mut result = Cells { exact: cells.exact, ..Cells::default() };
    for (near, far, cell) in folded {
        result.span.push((near, far));
        result.starts.push(result.entries.len());
        result.entries.extend_from_slice(cells.entries(cell));
    }
    result.starts.push(result.entries.len());
    result
}
