//! `report.html` of compared runs, drawn from the tables of the comparison alone: a page without script.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::html::escape;
use super::plot::{Line, Point, plot};
use super::sheet::{sheet, table};
use crate::artifact::comparison::{
    LOCALITY, LocalityRow, OVERLAPS, OverlapRow, POLYSEMY, PROBED_LAYERS, PROFILES, PolysemyRow,
    ProbedLayerRow, ProfileRow, SOURCES, SourceRow,
};
use crate::artifact::table::read_table;
use crate::error::Result;

/// Half of a 95 % interval in standard errors.
const Z: f64 = 1.96;
/// Rows of a table of the page.
const LISTED: usize = 80;
/// Plots of the page.
const PLOTS: usize = 24;

/// The page of the comparison in a folder.
pub(super) fn page(folder: &Path) -> Result<String> {
    let mut body = String::new();
    sources(&mut body, &read_table(&folder.join(SOURCES))?);
    overlaps(&mut body, &read_table(&folder.join(OVERLAPS))?);
    profiles(&mut body, &read_table(&folder.join(PROFILES))?);
    locality(&mut body, &read_table(&folder.join(LOCALITY))?);
    polysemy(&mut body, &read_table(&folder.join(POLYSEMY))?);
    probes(&mut body, &read_table(&folder.join(PROBED_LAYERS))?);
    Ok(sheet("Compared runs", &body))
}

fn sources(body: &mut String, rows: &[SourceRow]) {
    let cells = rows.iter().map(|row| {
        vec![
            row.source.clone(),
            row.model.clone(),
            row.architecture.clone(),
            row.layers.to_string(),
            row.neurons.to_string(),
            row.rankings.to_string(),
            row.probes.to_string(),
        ]
    });
    let heads = ["run", "model", "architecture", "layers", "neurons", "rankings", "probes"];
    table(body, &heads, cells);
}

/// Means over concepts of every two rankings, and of each with its judges.
fn overlaps(body: &mut String, rows: &[OverlapRow]) {
    if rows.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Do the rankings agree</h2><p>Shared neurons over those of either top, as means over \
         concepts. Against <em>*</em>: the mean over all other rankings of the model (AvgOverlap); \
         <em>vote</em>: against their vote (NeuronVote).</p>",
    );
    let mut pairs: BTreeMap<[String; 3], (usize, f64, f64)> = BTreeMap::new();
    for row in rows {
        let one = format!("{} {}", row.source_a, row.method_a);
        let other = format!("{} {}", row.source_b, row.method_b);
        let sum = pairs.entry([one, other, format!("{:6}", row.size)]).or_default();
        *sum = (sum.0 + 1, sum.1 + row.overlap, sum.2 + row.chance);
    }
    let left = pairs.len().saturating_sub(LISTED);
    let cells = pairs.into_iter().take(LISTED).map(|([one, other, size], (count, sum, chance))| {
        let mean = |sum: f64| format!("{:.3}", sum / count as f64);
        vec![one, other, size.trim().to_owned(), count.to_string(), mean(sum), mean(chance)]
    });
    table(body, &["ranking", "against", "top", "concepts", "overlap", "chance"], cells);
    more(body, left, OVERLAPS);
}

/// Where top neurons stand, one plot for each concept and kind of site, a line for each ranking.
fn profiles(body: &mut String, rows: &[ProfileRow]) {
    let mut plots: BTreeMap<[String; 3], BTreeMap<String, Vec<Point>>> = BTreeMap::new();
    for row in rows {
        let Some(depth) = row.depth else { continue };
        let kind = row.site.rsplit('.').next().unwrap_or(&row.site).to_owned();
        let key = [row.label.clone(), row.concept.clone(), kind];
        let line = format!("{} {}", row.source, row.method);
        let error = (row.high - row.low) / 2.0 / Z;
        let x = (depth * 100.0).round() / 100.0;
        plots.entry(key).or_default().entry(line).or_default().push(Point {
            x,
            y: row.share,
            error,
        });
    }
    if plots.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Where the top neurons stand</h2><p>Share of a layer's neurons that are among the top, \
         against relative depth. Bars: over the runs that rank the same with the same method.</p>",
    );
    let left = plots.len().saturating_sub(PLOTS);
    for ([label, concept, kind], lines) in plots.into_iter().take(PLOTS) {
        let _ =
            write!(body, "<h3>{} {} at {}</h3>", escape(&label), escape(&concept), escape(&kind));
        let lines: Vec<Line> = lines
            .into_iter()
            .map(|(name, points)| Line { random: name.ends_with(" random"), name, points })
            .collect();
        body.push_str(&plot(&lines, ("relative depth", "share of the layer")));
    }
    more(body, left, PROFILES);
}

fn locality(body: &mut String, rows: &[LocalityRow]) {
    if rows.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Few neurons or many</h2><p>Effective number: as many neurons as an even spread of the \
         scores would have; it needs all neurons in the table (output.keep = 0). Near best: within 5 % \
         of the best score. Depth: of the top neurons, 0 to 1.</p>",
    );
    let shown = |value: Option<f64>, digits: usize| {
        value.map_or_else(String::new, |value| format!("{value:.digits$}"))
    };
    let cells = rows.iter().take(LISTED).map(|row| {
        vec![
            format!("{} '{}'", row.label, row.concept),
            format!("{} {}", row.source, row.method),
            row.neurons.to_string(),
            shown(row.gini, 3),
            shown(row.effective, 1),
            shown(row.layer_entropy, 3),
            row.near_best.to_string(),
            shown(row.depth, 2),
        ]
    });
    let heads =
        ["concept", "ranking", "neurons", "Gini", "effective", "layers", "near best", "depth"];
    table(body, &heads, cells);
    more(body, rows.len().saturating_sub(LISTED), LOCALITY);
}

/// How many neurons have 1, 2, 3 … concepts.
fn polysemy(body: &mut String, rows: &[PolysemyRow]) {
    if rows.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Concepts of a neuron</h2><p>How many neurons are among the top of so many concepts; a \
         random ranking shows what chance does.</p>",
    );
    let mut lines: BTreeMap<[String; 4], Vec<String>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.concepts > 0) {
        let key = [
            row.label.clone(),
            format!("{} {}", row.source, row.method),
            row.sites.clone(),
            format!("{:6}", row.size),
        ];
        lines.entry(key).or_default().push(format!("{}: {}", row.concepts, row.neurons));
    }
    let left = lines.len().saturating_sub(LISTED);
    let cells = lines.into_iter().take(LISTED).map(|([label, ranking, _, size], counts)| {
        vec![label, ranking, size.trim().to_owned(), counts.join(", ")]
    });
    table(body, &["label", "ranking", "top", "concepts: neurons"], cells);
    more(body, left, POLYSEMY);
}

/// Accuracy against depth, one plot for each label, a line for each source and kind of site.
fn probes(body: &mut String, rows: &[ProbedLayerRow]) {
    if rows.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Which layers hold a label</h2><p>Test rows; bars are 95 % intervals over rows and \
         seeds. → the first site within 1 % of the best on dev rows.</p>",
    );
    let mut labels: BTreeMap<&str, Vec<&ProbedLayerRow>> = BTreeMap::new();
    rows.iter().for_each(|row| labels.entry(&row.label).or_default().push(row));
    for (label, rows) in labels {
        let _ = write!(body, "<h3>{}</h3>", escape(label));
        let mut lines: BTreeMap<String, Vec<Point>> = BTreeMap::new();
        for row in &rows {
            let Some(x) = row.depth.map(|depth| (depth * 100.0).round() / 100.0) else { continue };
            let kind = row.site.rsplit('.').next().unwrap_or(&row.site);
            let error = (row.high - row.low) / 2.0 / Z;
            let line = lines.entry(format!("{} {kind}", row.source)).or_default();
            line.push(Point { x, y: row.accuracy, error });
        }
        let lines = lines.into_iter().filter(|(_, points)| points.len() > 1);
        let lines: Vec<Line> =
            lines.map(|(name, points)| Line { name, random: false, points }).collect();
        if !lines.is_empty() {
            body.push_str(&plot(&lines, ("relative depth", "right answers")));
        }
        let cells = rows.iter().map(|row| {
            vec![
                format!("{}{} {}", if row.first { "→ " } else { "" }, row.source, row.site),
                row.n.to_string(),
                format!("{:.1} %", 100.0 * row.accuracy),
                row.selectivity.map_or_else(String::new, |own| format!("{:.1} %", 100.0 * own)),
                format!("{:.3}", row.information),
            ]
        });
        table(body, &["site", "n", "right", "selectivity", "bits"], cells);
    }
}

fn more(body: &mut String, left: usize, name: &str) {
    if left > 0 {
        let _ = write!(body, "<p>{left} more stand in {name}.</p>");
    }
}
