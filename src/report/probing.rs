//! `report.html` of a run of probes. It answers, each with its uncertainty: which layers hold a label,
//! how few neurons suffice, whether methods agree, and whether the probes are selective. A page without
//! script, drawn from the tables alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::html::escape;
use super::plot::{Line, Point, plot};
use super::sheet::{sheet, table};
use crate::artifact::manifest::Manifest;
use crate::artifact::probing::{
    AGREEMENT, AgreementRow, CODES, CodeRow, LAYERS, LayerRow, METHODS, SELECTION, SMALLEST,
    SPREAD, SUBSETS, SelectionRow, SmallestRow, SpreadRow, SubsetRow,
};
use crate::artifact::table::{Record, read_table};
use crate::error::Result;

/// Half of a 95 % interval in standard errors.
const Z: f64 = 1.96;
/// Classes listed of each ranking's spread.
pub(super) const LISTED: usize = 60;

/// The page of the run of probes in a folder.
pub(super) fn page(folder: &Path) -> Result<String> {
    let manifest = Manifest::read(folder)?;
    let name = manifest.config["name"].as_str().unwrap_or("probes");
    let mut body = String::new();
    facts(&mut body, &manifest);
    layers(&mut body, &rows(folder, LAYERS)?);
    subsets(&mut body, &rows(folder, SUBSETS)?, &rows(folder, SMALLEST)?);
    super::probing_methods::methods(&mut body, &rows(folder, METHODS)?);
    selection(&mut body, &rows(folder, SELECTION)?);
    agreement(&mut body, &rows(folder, AGREEMENT)?);
    codes(&mut body, &rows(folder, CODES)?);
    spread(&mut body, &rows(folder, SPREAD)?);
    Ok(sheet(name, &body))
}

fn rows<R: Record>(folder: &Path, name: &str) -> Result<Vec<R>> {
    read_table(&folder.join(name))
}

fn facts(body: &mut String, manifest: &Manifest) {
    let model = &manifest.model;
    let _ = write!(
        body,
        "<p>{} ({}, {} layers, {} neurons) on {} tokens of text; {:.1} s on {}.</p>",
        escape(&model.path),
        escape(&model.architecture),
        model.layers,
        model.neurons,
        manifest.corpus.counts.tokens,
        manifest.timings.seconds,
        escape(&manifest.devices.first().map_or_else(String::new, |device| device.name.clone())),
    );
    for note in &manifest.notes {
        let _ = write!(body, "<p>{}.</p>", escape(note));
    }
}

/// By label, in the order of the table.
pub(super) fn by_label<T>(rows: &[T], label: impl Fn(&T) -> &str) -> Vec<(String, Vec<&T>)> {
    let mut found: Vec<(String, Vec<&T>)> = Vec::new();
    for row in rows {
        match found.iter_mut().find(|(own, _)| own == label(row)) {
            Some((_, list)) => list.push(row),
            None => found.push((label(row).to_owned(), vec![row])),
        }
    }
    found
}

/// Which layers hold a label, and whether the probe is selective.
fn layers(body: &mut String, rows: &[LayerRow]) {
    let test: Vec<LayerRow> = rows.iter().filter(|row| row.part == "test").cloned().collect();
    body.push_str("<h2>Which layers hold a label, and is the probe selective</h2>");
    body.push_str(
        "<p>Test rows; 95 % intervals over rows and seeds. Selectivity is the accuracy less that of \
         the same probe on labels drawn by word type. Penalties, and the first site within 1 % of the \
         best (→), were chosen on dev rows.</p>",
    );
    for (label, rows) in by_label(&test, |row| &row.label) {
        let _ = write!(body, "<h3>{}</h3>", escape(&label));
        let sites = rows.iter().filter(|row| row.site != "*");
        let at = |(place, y, error): (usize, f64, f64)| Point { x: place as f64, y, error };
        let own = sites
            .clone()
            .enumerate()
            .map(|(place, row)| at((place, row.accuracy, (row.high - row.low) / 2.0 / Z)));
        let control = sites
            .clone()
            .enumerate()
            .filter_map(|(place, row)| Some(at((place, row.control?, 0.0))));
        let lines = [
            Line { name: "labels".to_owned(), random: false, points: own.collect() },
            Line { name: "control labels".to_owned(), random: true, points: control.collect() },
        ];
        let lines: Vec<Line> = lines.into_iter().filter(|line| line.points.len() > 1).collect();
        if !lines.is_empty() {
            body.push_str(&plot(
                &lines,
                ("site, in the order of the forward pass", "right answers"),
            ));
        }
        let cells = rows.iter().map(|row| {
            vec![
                format!("{}{}", if row.first { "→ " } else { "" }, site(&row.site)),
                row.n.to_string(),
                interval(row.accuracy, row.low, row.high),
                percent(row.majority),
                row.control.map_or_else(String::new, percent),
                match (row.selectivity, row.selectivity_low, row.selectivity_high) {
                    (Some(mid), Some(low), Some(high)) => interval(mid, low, high),
                    _ => String::new(),
                },
                format!("{:.3}", row.information),
                percent(row.information_share),
                format!("{} / {}", row.l1, row.l2),
            ]
        });
        let heads = [
            "site",
            "n",
            "right",
            "majority",
            "control",
            "selectivity",
            "bits",
            "of the entropy",
            "l1 / l2",
        ];
        table(body, &heads, cells);
    }
}

/// How few neurons suffice.
fn subsets(body: &mut String, rows: &[SubsetRow], smallest: &[SmallestRow]) {
    if rows.is_empty() {
        return;
    }
    body.push_str("<h2>How few neurons suffice</h2>");
    if !smallest.is_empty() {
        body.push_str(
            "<p>The smallest set tried whose probe, trained anew, is on dev rows as good as that of all \
             neurons, but for the share given. Area: between the accuracies with the most and with the \
             least important neurons kept.</p>",
        );
        let cells = smallest.iter().map(|row| {
            vec![
                row.label.clone(),
                site(&row.site),
                row.method.clone(),
                row.size.map_or_else(|| "none tried".to_owned(), |size| size.to_string()),
                row.share.map_or_else(String::new, percent),
                row.test.map_or_else(String::new, percent),
                row.test_all.map_or_else(String::new, percent),
                percent(row.delta),
                row.area.map_or_else(String::new, |area| format!("{area:.4}")),
            ]
        });
        let heads =
            ["label", "site", "ranking", "neurons", "share", "test", "test, all", "loss", "area"];
        table(body, &heads, cells);
    }
    for (how, title) in [
        ("retrain", "Probes trained anew on some neurons"),
        ("keep", "The probe of all neurons, all but some at 0"),
        ("remove", "The probe of all neurons, some at 0"),
    ] {
        let own: Vec<SubsetRow> =
            rows.iter().filter(|row| row.how == how && row.part == "test").cloned().collect();
        if own.is_empty() {
            continue;
        }
        let _ = write!(body, "<h3>{title}</h3><p>Test rows; bars are standard errors.</p>");
        for (label, rows) in by_label(&own, |row| &row.label) {
            for (place, rows) in
                by_label(&rows.into_iter().cloned().collect::<Vec<_>>(), |row| &row.site)
            {
                let _ = write!(body, "<h4>{} at {}</h4>", escape(&label), escape(&site(&place)));
                body.push_str(&plot(&curves(&rows), ("neurons", "right answers")));
            }
        }
    }
}

/// A line for each ranking and order, random sets as their mean.
fn curves(rows: &[&SubsetRow]) -> Vec<Line> {
    let mut found: BTreeMap<(String, String), BTreeMap<i32, Vec<&SubsetRow>>> = BTreeMap::new();
    for row in rows {
        let own = found.entry((row.method.clone(), row.order.clone())).or_default();
        own.entry(row.size).or_default().push(row);
    }
    let point = |(size, rows): (i32, Vec<&SubsetRow>)| {
        let count = rows.len() as f64;
        Point {
            x: f64::from(size),
            y: rows.iter().map(|row| row.accuracy).sum::<f64>() / count,
            error: rows.iter().map(|row| row.error).sum::<f64>() / count,
        }
    };
    let line =
        |((method, order), sizes): ((String, String), BTreeMap<i32, Vec<&SubsetRow>>)| Line {
            random: order != "top",
            name: if order == "top" { method } else { format!("{order} of {method}") },
            points: sizes.into_iter().map(point).collect(),
        };
    found.into_iter().map(line).collect()
}

/// The fewest features of all sites, step by step.
fn selection(body: &mut String, rows: &[SelectionRow]) {
    if rows.is_empty() {
        return;
    }
    body.push_str("<h2>Selected features</h2>");
    body.push_str(
        "<p>First sites, then a neuron for each correlation cluster, then the top of a ranking of these: \
         chosen on dev rows, test accuracies in brackets (Dalvi et al. 2020).</p>",
    );
    let cell = |count: i32, test: Option<f64>| {
        format!("{count}{}", test.map_or_else(String::new, |own| format!(" ({})", percent(own))))
    };
    let cells = rows.iter().map(|row| {
        vec![
            row.label.clone(),
            cell(row.neurons, row.test),
            format!("to {}", row.last_site),
            cell(row.of_sites, row.test_of_sites),
            cell(row.representatives, row.test_of_representatives),
            cell(row.selected, row.test_of_selected),
            percent(row.share),
        ]
    });
    let heads = ["label", "all", "sites", "of these", "representatives", "selected", "of all"];
    table(body, &heads, cells);
}

/// Do methods agree.
fn agreement(body: &mut String, rows: &[AgreementRow]) {
    if rows.is_empty() {
        return;
    }
    body.push_str("<h2>Do methods agree</h2>");
    body.push_str(
        "<p>Means over classes and sites. Overlap: shared neurons of the tops over those of either. \
         AvgOverlap: with each other method. NeuronVote: with the top of the others' vote (Fan et al. \
         2023). Smallest and largest over classes and sites in brackets.</p>",
    );
    let mut found: BTreeMap<(i32, String), [Vec<f64>; 3]> = BTreeMap::new();
    for row in rows {
        let of = match row.other.as_str() {
            "*" => 0,
            "vote" => 1,
            _ => continue,
        };
        let own = found.entry((row.size, row.method.clone())).or_default();
        own[of].push(row.overlap);
        own[2].push(row.chance);
    }
    let cells = found.into_iter().map(|((size, method), [average, vote, chance])| {
        vec![method, size.to_string(), spread_of(&average), spread_of(&vote), spread_of(&chance)]
    });
    table(body, &["ranking", "top", "AvgOverlap", "NeuronVote", "by chance"], cells);
    let mut pairs: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    let size = rows.iter().map(|row| row.size).max().unwrap_or(0);
    let both =
        rows.iter().filter(|row| row.size == size && !["*", "vote"].contains(&&row.other[..]));
    for row in both {
        pairs.entry((row.method.clone(), row.other.clone())).or_default().push(row.overlap);
    }
    let mut methods: Vec<String> = pairs.keys().map(|(method, _)| method.clone()).collect();
    methods.dedup();
    let _ = write!(body, "<h3>Pairs, top {size}</h3>");
    let heads: Vec<&str> =
        std::iter::once("ranking").chain(methods.iter().map(String::as_str)).collect();
    let cells = methods.iter().map(|a| {
        let cell = |b: &String| {
            let own = pairs.get(&(a.clone(), b.clone()));
            own.map_or_else(String::new, |all| format!("{:.3}", mean(all)))
        };
        std::iter::once(a.clone()).chain(methods.iter().map(cell)).collect()
    });
    table(body, &heads, cells);
}

/// How many bits labels cost.
fn codes(body: &mut String, rows: &[CodeRow]) {
    if rows.is_empty() {
        return;
    }
    body.push_str("<h2>Online code length</h2>");
    body.push_str(
        "<p>Bits to send the training labels when each block is coded by a probe of what came before \
         (Voita and Titov 2020). Compression 1 knows nothing.</p>",
    );
    let cells = rows.iter().map(|row| {
        vec![
            row.label.clone(),
            site(&row.site),
            if row.control { "control".to_owned() } else { "labels".to_owned() },
            row.n.to_string(),
            format!("{:.0}", row.uniform),
            format!("{:.0}", row.online),
            format!("{:.2}", row.compression),
        ]
    });
    table(body, &["label", "site", "of", "rows", "uniform", "online", "compression"], cells);
}

/// Localised or distributed.
fn spread(body: &mut String, rows: &[SpreadRow]) {
    if rows.is_empty() {
        return;
    }
    body.push_str("<h2>Few neurons or many</h2>");
    body.push_str(
        "<p>Gini: 0 evenly spread, 1 in one neuron. Effective: as many neurons as an even spread of the \
         same entropy would have. Half: neurons that hold half of the scores. Stability: overlap of the \
         top 50 between seeds.</p>",
    );
    let cells = rows.iter().take(LISTED).map(|row| {
        vec![
            format!("{} {}", row.label, if row.concept == "*" { "" } else { &row.concept }),
            site(&row.site),
            row.method.clone(),
            format!("{:.3}", row.gini),
            format!("{:.0}", row.effective),
            row.half.to_string(),
            row.stability.map_or_else(String::new, |own| format!("{own:.3}")),
        ]
    });
    table(body, &["label", "site", "ranking", "Gini", "effective", "half", "stability"], cells);
    if rows.len() > LISTED {
        let _ = write!(body, "<p>{} more rows stand in {SPREAD}.</p>", rows.len() - LISTED);
    }
}

pub(super) fn site(name: &str) -> String {
    if name == "*" { "all sites".to_owned() } else { name.to_owned() }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn interval(mid: f64, low: f64, high: f64) -> String {
    format!("{:.1} % ({:.1} to {:.1})", 100.0 * mid, 100.0 * low, 100.0 * high)
}

fn mean(all: &[f64]) -> f64 {
    all.iter().sum::<f64>() / all.len().max(1) as f64
}

fn spread_of(all: &[f64]) -> String {
    let low = all.iter().copied().fold(f64::INFINITY, f64::min);
    let high = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.3} ({low:.3} to {high:.3})", mean(all))
}
