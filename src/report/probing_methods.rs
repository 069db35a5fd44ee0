//! The section of a run of probes on methods that train probes of their own.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::html::escape;
use super::plot::{Line, Point, plot};
use super::probing::{LISTED, by_label, percent, site};
use super::sheet::table;
use crate::artifact::probing::{METHODS, MethodRow};

/// Neurons named of each set.
const FIRST: usize = 4;

/// What methods with probes of their own do with their neurons.
pub(super) fn methods(body: &mut String, rows: &[MethodRow]) {
    let test: Vec<&MethodRow> = rows.iter().filter(|row| row.part == "test").collect();
    let chosen = |row: &&&MethodRow| row.flags.iter().any(|flag| flag == "chosen");
    let own: Vec<&MethodRow> = test.iter().filter(chosen).copied().collect();
    if own.is_empty() {
        return;
    }
    body.push_str("<h2>What single neurons and small sets tell</h2>");
    body.push_str(
        "<p>Test rows; sizes were chosen on dev rows. F1, correlation (MCC) and areas are of one class \
         against all others. Heuristic: the set is not proved to be the best of its size.</p>",
    );
    let figure = |value: Option<f64>| value.map_or_else(String::new, |own| format!("{own:.3}"));
    let cells = own.iter().take(LISTED).map(|row| {
        vec![
            format!("{} {}", row.label, if row.concept == "*" { "" } else { &row.concept }),
            site(&row.site),
            row.method.clone(),
            row.size.to_string(),
            row.n.to_string(),
            percent(row.accuracy),
            figure(row.f1),
            figure(row.mcc),
            figure(row.pr_auc),
            figure(row.roc_auc),
            figure(row.information),
            figure(row.ece),
            remarks(row),
        ]
    });
    let heads = [
        "label",
        "site",
        "method",
        "neurons",
        "n",
        "right",
        "F1",
        "MCC",
        "PR",
        "ROC",
        "bits",
        "ECE",
        "first neurons",
    ];
    table(body, &heads, cells);
    if own.len() > LISTED {
        let _ = write!(body, "<p>{} more rows stand in {METHODS}.</p>", own.len() - LISTED);
    }
    let joint = test.into_iter().filter(|row| row.concept == "*").cloned();
    let joint: Vec<MethodRow> = joint.filter(|row| row.information.is_some()).collect();
    for (label, rows) in by_label(&joint, |row| &row.label) {
        for (place, rows) in by_label(&rows.into_iter().cloned().collect::<Vec<_>>(), |r| &r.site) {
            let _ = write!(body, "<h4>{} at {}</h4>", escape(&label), escape(&site(&place)));
            body.push_str(&plot(&grown(&rows), ("neurons", "bits that they tell")));
        }
    }
}

/// First neurons of a set, and what is to be known of it.
fn remarks(row: &MethodRow) -> String {
    let flags = row.flags.iter().filter(|flag| *flag != "chosen").map(String::as_str);
    let neurons = row.neurons.iter().take(FIRST).map(String::as_str);
    neurons.chain(flags).collect::<Vec<_>>().join(", ")
}

/// A line for each method: what neurons tell as they are added.
fn grown(rows: &[&MethodRow]) -> Vec<Line> {
    let mut lines: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    for row in rows {
        let y = row.information.unwrap_or(0.0);
        let point = Point { x: f64::from(row.size), y, error: 0.0 };
        lines.entry(row.method.clone()).or_default().push(point);
    }
    let line = |(name, points)| Line { name, random: false, points };
    lines.into_iter().map(line).collect()
}
