//! `overview.html` of a sweep: what ran, where and how fast, what failed, and in which layers each
//! method finds each concept, point by point. A page without script; what it shows stands in it once
//! more as JSON, for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::html::{escape, escape_json};
use super::layer_map::layer_maps;
use super::sheet::{sheet, table};
use crate::artifact::rows::RankingRow;
use crate::artifact::table::visit_table;
use crate::artifact::tables::RANKINGS;
use crate::error::Result;

/// Neurons of a ranking whose layers are counted.
pub const COUNTED: i32 = 50;
/// Tasks that are drawn.
const TASKS: usize = 4096;
/// Points, attempts and machines that are listed.
const LISTED: usize = 200;

/// What the page shows.
#[derive(Debug, Default, Serialize)]
pub struct Overview {
    /// Name of the sweep.
    pub name: String,
    /// One line about each thing there is: its name and its value.
    pub facts: Vec<(String, String)>,
    /// What is read.
    pub passes: Vec<PassRow>,
    /// Every combination.
    pub points: Vec<PointRow>,
    /// In the order of the plan.
    pub tasks: Vec<TaskBox>,
    /// Machines and what they do.
    pub nodes: Vec<NodeRow>,
    /// What went wrong and is not done.
    pub failures: Vec<FailureRow>,
    /// Where methods find concepts, of the points that are merged.
    pub maps: Vec<Map>,
}

/// A corpus read by a model.
#[derive(Debug, Default, Serialize)]
pub struct PassRow {
    /// As the run file names it.
    pub model: String,
    /// Of the corpus.
    pub documents: u64,
    /// Bytes of its text.
    pub bytes: u64,
    /// Blocks on the disk, and all of them.
    pub done: u64,
    /// See `done`.
    pub blocks: u64,
    /// Points that are filled from it.
    pub points: usize,
}

/// A combination.
#[derive(Debug, Default, Serialize)]
pub struct PointRow {
    /// Its folder.
    pub name: String,
    /// Names of its values, by axis.
    pub values: BTreeMap<String, String>,
    /// Its model.
    pub model: String,
    /// Number of its pass.
    pub pass: usize,
    /// Whether its folder is finished.
    pub merged: bool,
}

/// A task.
#[derive(Debug, Default, Serialize)]
pub struct TaskBox {
    /// `done`, `working`, `failed` or `waiting`.
    pub state: &'static str,
    /// Blocks on the disk, and all of them.
    pub done: u32,
    /// See `done`.
    pub blocks: u32,
    /// Attempts that ended.
    pub attempts: usize,
}

/// A machine.
#[derive(Debug, Default, Serialize)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// What it computes on.
    pub devices: Vec<String>,
    /// Attempts at work, and those that ended.
    pub working: usize,
    /// See `working`.
    pub ended: usize,
    /// Of those at work now, and the mean of those that ended.
    pub tokens_per_second: f64,
    /// See `tokens_per_second`.
    pub mean_tokens_per_second: f64,
}

/// A task that failed.
#[derive(Debug, Default, Serialize)]
pub struct FailureRow {
    /// Its number.
    pub task: usize,
    /// Blocks that are missing, `3-7, 12`.
    pub missing: String,
    /// Where it failed last.
    pub node: String,
    /// With which exit code.
    pub exit: u8,
    /// And which message.
    pub error: String,
}

/// The layers of the first [`COUNTED`] neurons of each ranking of a method.
#[derive(Debug, Default, Serialize)]
pub struct Map {
    /// The point.
    pub point: String,
    /// Its model.
    pub model: String,
    /// The method with its settings.
    pub method: String,
    /// Layers, ascending; none is what exists once.
    pub layers: Vec<Option<i32>>,
    /// For each concept (`upos NOUN`) how many of its neurons lie in each layer.
    pub concepts: Vec<(String, Vec<u32>)>,
}

/// The maps of a finished run folder, by method in the order of its table.
pub fn maps(folder: &Path, (point, model): (&str, &str)) -> Result<Vec<Map>> {
    type Counts = BTreeMap<Option<i32>, u32>;
    let mut methods: Vec<(String, Vec<(String, Counts)>)> = Vec::new();
    let mut layers = BTreeSet::new();
    visit_table(&folder.join(RANKINGS), |row: RankingRow| {
        layers.insert(row.layer);
        if row.rank > COUNTED {
            return;
        }
        let at = methods.iter().position(|(method, _)| *method == row.method);
        let at = at.unwrap_or_else(|| {
            methods.push((row.method.clone(), Vec::new()));
            methods.len() - 1
        });
        let name = match row.concept.as_str() {
            "*" => row.label,
            concept => format!("{} {concept}", row.label),
        };
        let concepts = &mut methods[at].1;
        // Rows of one ranking follow each other.
        let place = concepts.iter().rposition(|(known, _)| *known == name).unwrap_or_else(|| {
            concepts.push((name, Counts::new()));
            concepts.len() - 1
        });
        *concepts[place].1.entry(row.layer).or_default() += 1;
    })?;
    let layers: Vec<Option<i32>> = layers.into_iter().collect();
    let row = |counts: &Counts| -> Vec<u32> {
        layers.iter().map(|layer| counts.get(layer).copied().unwrap_or_default()).collect()
    };
    let map = |(method, concepts): (String, Vec<(String, Counts)>)| Map {
        point: point.to_owned(),
        model: model.to_owned(),
        method,
        layers: layers.clone(),
        concepts: concepts.into_iter().map(|(name, counts)| (name, row(&counts))).collect(),
    };
    Ok(methods.into_iter().map(map).collect())
}

/// The whole page.
pub fn page(overview: &Overview) -> String {
    let mut body = String::new();
    let facts = overview.facts.iter().map(|(name, value)| vec![visible(name), visible(value)]);
    texts(&mut body, "texts facts", (&["", ""], facts));
    tasks(&mut body, &overview.tasks);
    failures(&mut body, &overview.failures);
    passes(&mut body, &overview.passes);
    nodes(&mut body, &overview.nodes);
    layer_maps(&mut body, &overview.maps);
    points(&mut body, &overview.points);
    let json = serde_json::to_string(overview).expect("names and numbers are always JSON");
    body.push_str("<script type=\"application/json\" id=\"data\">");
    escape_json(&json, &mut body);
    body.push_str("</script>");
    sheet(&visible(&overview.name), &body)
}

/// Characters that are not seen, or that turn the direction of what stands beside them, by their
/// number; no others change.
pub(super) fn visible(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{3164}')
            || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match hidden(c) {
            true => out += &format!("[U+{:04X}]", u32::from(c)),
            false => out.push(c),
        }
    }
    out
}

/// A table of words, which stand to the left.
fn texts(
    body: &mut String,
    class: &str,
    (heads, rows): (&[&str], impl Iterator<Item = Vec<String>>),
) {
    let _ = write!(body, "<div class=\"{class}\">");
    table(body, heads, rows);
    body.push_str("</div>");
}

/// A square for each task.
fn tasks(body: &mut String, tasks: &[TaskBox]) {
    const SIDE: usize = 14;
    const WIDE: usize = 64;
    if tasks.is_empty() {
        return;
    }
    let drawn = &tasks[..tasks.len().min(TASKS)];
    let rows = drawn.len().div_ceil(WIDE);
    let _ = write!(
        body,
        "<h2>Tasks</h2><p>Blue is done, orange at work, red failed, grey waiting; a task that is \
         partly done is as full as its blocks.</p>\
         <svg viewBox=\"0 0 {} {}\" width=\"{}\" role=\"img\" aria-label=\"tasks by state\">",
        SIDE * WIDE,
        SIDE * rows,
        SIDE * WIDE,
    );
    for (number, task) in drawn.iter().enumerate() {
        let colour = match task.state {
            "failed" => "var(--up)",
            "working" => "var(--k1)",
            _ => "var(--accent)",
        };
        let (x, y) = (SIDE * (number % WIDE), SIDE * (number / WIDE));
        let inside = (SIDE - 2) as f64;
        let full = inside * f64::from(task.done) / f64::from(task.blocks.max(1));
        let _ = write!(
            body,
            "<g><title>task {number}: {}, {} of {} blocks, {} attempts ended</title>\
             <rect x=\"{x}\" y=\"{y}\" width=\"{inside}\" height=\"{inside}\" fill=\"var(--line)\" \
             stroke=\"{}\"/><rect x=\"{x}\" y=\"{:.1}\" width=\"{inside}\" height=\"{full:.1}\" \
             fill=\"{colour}\"/></g>",
            task.state,
            task.done,
            task.blocks,
            task.attempts,
            if matches!(task.state, "failed" | "working") { colour } else { "none" },
            y as f64 + inside - full,
        );
    }
    body.push_str("</svg>");
    more(body, tasks.len(), TASKS, "tasks");
}

fn failures(body: &mut String, failures: &[FailureRow]) {
    if failures.is_empty() {
        return;
    }
    body.push_str("<h2>What failed</h2>");
    let rows = failures.iter().take(LISTED).map(|row| {
        vec![
            row.task.to_string(),
            visible(&row.node),
            row.exit.to_string(),
            row.missing.clone(),
            visible(&row.error),
        ]
    });
    let heads = ["task", "machine", "exit code", "missing blocks", "message"];
    texts(body, "texts", (&heads, rows));
    more(body, failures.len(), LISTED, "failed tasks");
}

fn passes(body: &mut String, passes: &[PassRow]) {
    body.push_str("<h2>What is read</h2>");
    let rows = passes.iter().take(LISTED).map(|row| {
        vec![
            visible(&row.model),
            row.documents.to_string(),
            format!("{:.1}", row.bytes as f64 / f64::from(1 << 20)),
            format!("{} of {}", row.done, row.blocks),
            row.points.to_string(),
        ]
    });
    table(body, &["model", "documents", "MiB of text", "blocks", "points"], rows);
    more(body, passes.len(), LISTED, "passes");
}

fn nodes(body: &mut String, nodes: &[NodeRow]) {
    if nodes.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Where, and how fast</h2><p>Tokens per second of one attempt, its start included.</p>",
    );
    let rows = nodes.iter().take(LISTED).map(|row| {
        vec![
            visible(&format!("{} ({})", row.name, row.devices.join(", "))),
            row.working.to_string(),
            row.ended.to_string(),
            format!("{:.0}", row.tokens_per_second),
            format!("{:.0}", row.mean_tokens_per_second),
        ]
    });
    let heads = ["machine", "at work", "ended", "tokens/s now", "tokens/s of ended"];
    table(body, &heads, rows);
    more(body, nodes.len(), LISTED, "machines");
}

fn points(body: &mut String, points: &[PointRow]) {
    let Some(first) = points.first() else { return };
    body.push_str("<h2>Points</h2><p>Each is a run folder under points/.</p>");
    let axes: Vec<String> = first.values.keys().map(|axis| escape(&visible(axis))).collect();
    let mut heads = vec!["point"];
    heads.extend(axes.iter().map(String::as_str));
    heads.extend(["model", "pass", ""]);
    let rows = points.iter().take(LISTED).map(|row| {
        let mut cells = vec![visible(&row.name)];
        cells.extend(row.values.values().map(|value| visible(value)));
        let merged = if row.merged { "merged" } else { "not yet" };
        cells.extend([visible(&row.model), row.pass.to_string(), merged.to_owned()]);
        cells
    });
    texts(body, "texts", (&heads, rows));
    more(body, points.len(), LISTED, "points");
}

pub(super) fn more(body: &mut String, all: usize, shown: usize, what: &str) {
    if all > shown {
        let _ = write!(body, "<p>{} more {what} stand in the tables.</p>", all - shown);
    }
}
