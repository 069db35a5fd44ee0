//! `report.html` of an experiment: how the model answers, which neurons matter, and what becomes of the
//! answers as these are taken away or moved. A page without script, drawn from the tables alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::html::escape;
use super::plot::{Line, Point, plot};
use super::sheet::{percent, sheet, table};
use crate::artifact::effects::{
    CURVES, CurveRow, EFFECTS, EffectRow, SETS, SetRow, read_curves, read_effects, read_sets,
};
use crate::artifact::manifest::Manifest;
use crate::artifact::mediators::{MEDIATORS, MediatorRow, read_mediators};
use crate::error::Result;

/// Neurons listed for each method.
const LISTED: i32 = 25;
/// Members listed for each set.
const SHOWN: usize = 5;

/// The page of the experiment in a folder.
pub(super) fn page(folder: &Path) -> Result<String> {
    let manifest = Manifest::read(folder)?;
    let effects = read_effects(&folder.join(EFFECTS))?;
    let curves = read_curves(&folder.join(CURVES))?;
    let sets = read_sets(&folder.join(SETS))?;
    let mediators = read_mediators(&folder.join(MEDIATORS))?;
    Ok(draw(&manifest, &effects, (&curves, &sets), &mediators))
}

fn draw(
    manifest: &Manifest,
    effects: &[EffectRow],
    (curves, sets): (&[CurveRow], &[SetRow]),
    mediators: &[MediatorRow],
) -> String {
    let name = manifest.config["name"].as_str().unwrap_or("experiment");
    let mut body = String::new();
    facts(&mut body, manifest, curves);
    judged(&mut body, curves);
    worth(&mut body, sets);
    patched(&mut body, mediators);
    neurons(&mut body, effects);
    sheet(name, &body)
}

/// What was asked, and how the untouched model answers.
fn facts(body: &mut String, manifest: &Manifest, curves: &[CurveRow]) {
    let model = &manifest.model;
    let _ = write!(
        body,
        "<p>{} ({}, {} layers, {} neurons asked) on {} questions; {:.1} s on {}.</p>",
        escape(&model.path),
        escape(&model.architecture),
        model.layers,
        model.neurons,
        manifest.corpus.counts.rows,
        manifest.timings.seconds,
        escape(&manifest.devices.first().map_or_else(String::new, |device| device.name.clone())),
    );
    for note in &manifest.notes {
        let _ = write!(body, "<p>{}.</p>", escape(note));
    }
    body.push_str("<h2>The untouched model</h2>");
    let untouched = curves.iter().filter(|row| row.method == "none");
    let rows = untouched.map(|row| {
        vec![
            if row.concept == "*" { "all".to_owned() } else { row.concept.clone() },
            row.n.to_string(),
            percent(row.accuracy, row.accuracy_error),
            format!("{:.3}", row.log_prob),
            format!("{:.3}", row.logit_difference),
            probe(row),
        ]
    });
    let heads = ["questions", "n", "right", "log p", "logit difference", "probe"];
    table(body, &heads, rows);
}

/// Dose and response: accuracy against the size of the set, and against the strength of steering.
fn judged(body: &mut String, curves: &[CurveRow]) {
    let all: Vec<&CurveRow> = curves.iter().filter(|row| row.concept == "*").collect();
    let Some(untouched) = all.iter().find(|row| row.method == "none") else { return };
    let start = Point { x: 0.0, y: untouched.accuracy, error: untouched.accuracy_error };
    for (acts, title, axis) in [
        (&["zero", "mean"][..], "Neurons taken away", "neurons taken away"),
        (&["keep-zero", "keep-mean"], "Neurons kept, all others taken away", "neurons kept"),
        (&["steer"], "Neurons moved towards the other group", "strength"),
    ] {
        let chosen = all.iter().filter(|row| acts.contains(&row.act.as_str()));
        let chosen: Vec<&CurveRow> = chosen.copied().collect();
        if chosen.is_empty() {
            continue;
        }
        let (steered, kept) = (acts == ["steer"], acts.contains(&"keep-mean"));
        let start = (!kept).then_some(start);
        let _ = write!(body, "<h2>{title}</h2>");
        let _ = write!(body, "{}", plot(&lines(&chosen, steered, start), (axis, "right answers")));
        let rows = chosen.iter().map(|row| {
            vec![
                row.method.clone(),
                format!("{} {}", row.order, if row.order == "random" { row.draw + 1 } else { 1 }),
                row.act.clone(),
                row.size.to_string(),
                format!("{}", row.strength),
                percent(row.accuracy, row.accuracy_error),
                format!("{:.3}", row.log_prob),
                format!("{:.3}", row.logit_difference),
                probe(row),
            ]
        });
        let answered = ["right", "log p", "logit difference", "probe"];
        let heads = [&["method", "order", "act", "neurons", "strength"][..], &answered].concat();
        table(body, &heads, rows);
    }
}

/// What the probe of `[metric]` reads, where there is one.
fn probe(row: &CurveRow) -> String {
    let [mean, error] = [row.probe, row.probe_error].map(Option::unwrap_or_default);
    row.probe.map_or_else(String::new, |_| format!("{mean:.3} ± {error:.3}"))
}

/// A line for each order of a method, and one for the mean of its random sets; from the untouched model
/// on, where nothing done is that.
fn lines(rows: &[&CurveRow], steered: bool, start: Option<Point>) -> Vec<Line> {
    let mut found: BTreeMap<(String, String), Vec<&CurveRow>> = BTreeMap::new();
    for row in rows {
        found.entry((row.method.clone(), row.order.clone())).or_default().push(row);
    }
    let line = |((method, order), rows): ((String, String), Vec<&CurveRow>)| {
        let mut by_dose: BTreeMap<u64, Vec<&CurveRow>> = BTreeMap::new();
        for row in rows {
            let dose = if steered { row.strength } else { f64::from(row.size) };
            by_dose.entry(dose.max(0.0).to_bits()).or_default().push(row);
        }
        let point = |(dose, rows): (u64, Vec<&CurveRow>)| {
            let count = rows.len() as f64;
            Point {
                x: f64::from_bits(dose),
                y: rows.iter().map(|row| row.accuracy).sum::<f64>() / count,
                error: rows.iter().map(|row| row.accuracy_error).sum::<f64>() / count,
            }
        };
        let points = start.into_iter().chain(by_dose.into_iter().map(point)).collect();
        let random = order == "random";
        let name = match order.as_str() {
            "random" => format!("random beside {method}"),
            "bottom" | "greedy" => format!("{order} of {method}"),
            _ => method,
        };
        Line { name, random, points }
    };
    found.into_iter().map(line).collect()
}

/// What the sets are worth, for all questions.
fn worth(body: &mut String, sets: &[SetRow]) {
    let rows = sets.iter().filter(|row| row.concept == "*").map(|row| {
        let share = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.3}"));
        let listed = row.neurons.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(" ");
        let more = if row.neurons.len() > SHOWN { " …" } else { "" };
        vec![
            row.method.clone(),
            row.order.clone(),
            row.size.to_string(),
            share(row.necessity),
            share(row.sufficiency),
            share(row.pnps),
            row.area.map_or_else(String::new, |x| format!("{x:.4}")),
            format!("{listed}{more}"),
        ]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return;
    }
    body.push_str("<h2>What sets are worth</h2>");
    let heads =
        ["set", "order", "neurons", "necessity", "sufficiency", "harmonic mean", "area", "members"];
    table(body, &heads, rows.into_iter());
}

/// How much of the counterfactual prompt's effect the first neurons carry together.
fn patched(body: &mut String, rows: &[MediatorRow]) {
    if rows.is_empty() {
        return;
    }
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        let error = row.error / row.total.abs();
        let point = Point { x: f64::from(row.size), y: row.recovered, error };
        match lines.last_mut().filter(|line| line.name == row.method) {
            Some(line) => line.points.push(point),
            None => {
                let (name, start) = (row.method.clone(), Point { x: 0.0, y: 0.0, error: 0.0 });
                lines.push(Line { name, random: false, points: vec![start, point] });
            }
        }
    }
    body.push_str("<h2>Neurons patched together</h2>");
    let _ = write!(body, "{}", plot(&lines, ("neurons patched", "share of the whole effect")));
    let listed = rows.iter().map(|row| {
        let members = row.neurons.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(" ");
        let more = if row.neurons.len() > SHOWN { " …" } else { "" };
        vec![
            row.method.clone(),
            row.size.to_string(),
            format!("{:.4} ± {:.4}", row.effect, row.error),
            format!("{:.4}", row.total),
            format!("{:.1} %", 100.0 * row.recovered),
            if row.smallest { "smallest that is enough".to_owned() } else { String::new() },
            format!("{members}{more}"),
        ]
    });
    let heads = ["method", "neurons", "effect", "whole effect", "recovered", "", "members"];
    table(body, &heads, listed);
}

/// The first neurons of each ranking over all questions.
fn neurons(body: &mut String, effects: &[EffectRow]) {
    body.push_str("<h2>Neurons</h2>");
    let mut methods: Vec<&str> = Vec::new();
    for row in effects {
        if !methods.contains(&row.method.as_str()) {
            methods.push(&row.method);
        }
    }
    for method in methods {
        let of = effects.iter().filter(|row| row.method == method && row.concept == "*");
        let rows = of.filter(|row| row.rank <= LISTED).map(|row| {
            vec![
                format!("{}.{}", row.site, row.neuron),
                format!("{:.4}", row.score),
                format!("{:.4} ± {:.4}", row.effect, row.error),
                row.q_value.map_or_else(String::new, |q| format!("{q:.2e}")),
                row.share.map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share)),
            ]
        });
        let _ = write!(body, "<h3>{}</h3>", escape(method));
        table(body, &["neuron", "importance", "effect", "q", "coarse sets"], rows);
    }
}
