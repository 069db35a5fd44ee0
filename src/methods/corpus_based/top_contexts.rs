//! `topctx`: where a neuron is most active.

use crate::error::Result;
use crate::methods::call::MethodCall;
use crate::methods::rank::visit;
use crate::methods::ranking::{Contexts, Explanation, Ranking};
use crate::methods::source::{Extremes, Side, Source};

/// `topctx`: the K rows with the largest x, -x, |x| or z; ties by lower row.
pub fn top_contexts(call: &MethodCall, source: &dyn Source) -> Result<Ranking> {
    let k = call.whole("k");
    let side = call.text("side");
    let contexts = visit(source, false, &|neuron, evidence| {
        let from = |end| source.extremes(neuron, k, end);
        let rows: Extremes = match side.as_str() {
            "bottom" => from(Side::Bottom).into_iter().map(|(row, x)| (row, -x)).collect(),
            "abs" => merged(from(Side::Top), from(Side::Bottom), k),
            "z" => {
                let sd = evidence.total.variance().sqrt();
                let unit = if evidence.constant() { 0.0 } else { 1.0 / sd };
                let z = |x: f64| (x - evidence.total.mean) * unit;
                from(Side::Top).into_iter().map(|(row, x)| (row, z(x))).collect()
            }
            _ => from(Side::Top),
        };
        let (rows, values) = rows.into_iter().unzip();
        Contexts { neuron: u32::try_from(neuron).unwrap_or(u32::MAX), rows, values }
    })?;
    let rows = source.design().rows();
    let short = contexts.iter().filter(|c| (c.rows.len() as u64) < rows.min(k as u64)).count();
    let mut ranking = Ranking::default();
    if short > 0 {
        ranking.notes.push(format!(
            "{short} neurons have fewer than {k} rows: the run kept fewer (statistics.top, .bottom)"
        ));
    }
    ranking.explanation = Explanation::Contexts(contexts);
    Ok(ranking)
}

/// The k largest |x|: they are among the k largest and the k smallest x.
fn merged(top: Extremes, bottom: Extremes, k: usize) -> Extremes {
    let mut both: Extremes = top.into_iter().chain(bottom).map(|(row, x)| (row, x.abs())).collect();
    both.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    both.dedup();
    both.truncate(k);
    both
}
