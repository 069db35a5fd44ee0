//! What a set is worth, from the curves: how much of the answers is lost without it and how much is
//! left with it alone, and the area between the curves of the most and the least important neurons.

use crate::artifact::effects::{CurveRow, SetRow};

/// A row for each set that was chosen by its members (no random ones), in the order of the curves.
/// `members` names the neurons of a method's set of a size.
pub(super) fn worth(
    curves: &[CurveRow],
    neurons: usize,
    members: impl Fn(&str, &str, usize) -> Vec<String>,
) -> Vec<SetRow> {
    let taken = |row: &&CurveRow| matches!(row.act.as_str(), "zero" | "mean");
    let chosen = |row: &&CurveRow| matches!(row.order.as_str(), "top" | "set" | "greedy");
    let rows = curves.iter().filter(taken).filter(chosen);
    rows.map(|row| {
        let full = curves.iter().find(|of| of.method == "none" && of.concept == row.concept);
        let full = full.map_or(0.0, |of| of.accuracy);
        let same = |of: &&CurveRow| {
            of.method == row.method && of.concept == row.concept && of.order == row.order
        };
        let kept = curves.iter().filter(same);
        let kept = kept.filter(|of| of.act.starts_with("keep-")).find(|of| of.size == row.size);
        let share = |part: f64| (full > 0.0).then_some(part / full);
        let necessity = share(row.accuracy).map(|left| 1.0 - left);
        let sufficiency = kept.and_then(|of| share(of.accuracy));
        let size = usize::try_from(row.size).unwrap_or(0);
        SetRow {
            method: row.method.clone(),
            order: row.order.clone(),
            label: row.label.clone(),
            concept: row.concept.clone(),
            size: row.size,
            necessity,
            sufficiency,
            pnps: necessity.zip(sufficiency).map(|(n, s)| harmonic(n, s)),
            area: (row.order == "top").then(|| area(curves, row, (full, neurons))).flatten(),
            neurons: match row.concept.as_str() {
                "*" => members(&row.method, &row.order, size),
                _ => Vec::new(),
            },
        }
    })
    .collect()
}

/// Harmonic mean of two shares; 0 where one is not positive.
fn harmonic(a: f64, b: f64) -> f64 {
    if a > 0.0 && b > 0.0 { 2.0 * a * b / (a + b) } else { 0.0 }
}

/// Area between the accuracy without the least and without the most important neurons, from none to
/// the row's size, over the share of neurons taken away. None without curves of the bottom.
fn area(curves: &[CurveRow], row: &CurveRow, (full, neurons): (f64, usize)) -> Option<f64> {
    let curve = |order: &str| {
        let mut points: Vec<(i32, f64)> = curves
            .iter()
            .filter(|of| of.method == row.method && of.concept == row.concept)
            .filter(|of| of.order == order && of.act == row.act && of.size <= row.size)
            .map(|of| (of.size, of.accuracy))
            .collect();
        points.push((0, full));
        points.sort_by_key(|point| point.0);
        points
    };
    let (top, bottom) = (curve("top"), curve("bottom"));
    if bottom.len() < top.len() {
        return None;
    }
    let gap: Vec<(f64, f64)> =
        top.iter().zip(&bottom).map(|(t, b)| (f64::from(t.0), b.1 - t.1)).collect();
    let pieces = gap.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0);
    Some(pieces.sum::<f64>() / neurons as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(method: &str, order: &str, act: &str, size: i32, accuracy: f64) -> CurveRow {
        CurveRow {
            method: method.into(),
            order: order.into(),
            act: act.into(),
            draw: 0,
            size,
            strength: 0.0,
            label: String::new(),
            concept: "*".into(),
            n: 10,
            accuracy,
            accuracy_error: 0.0,
            log_prob: 0.0,
            log_prob_error: 0.0,
            logit_difference: 0.0,
            logit_difference_error: 0.0,
            probe: None,
            probe_error: None,
        }
    }

    /// By hand: 80 % right; without the set 20 %, with it alone 60 %: necessity 3/4, sufficiency 3/4.
    /// Areas over a tenth of 100 neurons: (0 + 0.5) / 2 * 0.1 and then + (0.5 + 0.6) / 2 * 0.1.
    #[test]
    fn worth_is_what_it_is_by_hand() {
        let curves = [
            row("none", "", "", 0, 0.8),
            row("m", "top", "mean", 10, 0.2),
            row("m", "bottom", "mean", 10, 0.7),
            row("m", "random", "mean", 10, 0.75),
            row("m", "top", "keep-mean", 10, 0.6),
            row("m", "top", "mean", 20, 0.1),
            row("m", "bottom", "mean", 20, 0.7),
        ];
        let rows = worth(&curves, 100, |_, _, size| vec![format!("{size}")]);
        assert_eq!(rows.len(), 2);
        let close = |a: Option<f64>, b: f64| (a.expect("there") - b).abs() < 1e-12;
        assert!(close(rows[0].necessity, 0.75) && close(rows[0].sufficiency, 0.75));
        assert!(close(rows[0].pnps, 0.75) && close(rows[0].area, 0.025));
        assert!(close(rows[1].area, 0.025 + 0.055) && rows[1].sufficiency.is_none());
        assert_eq!(rows[1].neurons, ["20"]);
    }
}
