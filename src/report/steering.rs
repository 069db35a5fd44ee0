//! `report.html` of steered texts: how often the words looked for came, and what it cost, by arm. A page
//! without script, drawn from the tables alone.

use std::fmt::Write as _;
use std::path::Path;

use super::html::escape;
use super::sheet::{percent, sheet, table};
use crate::artifact::manifest::Manifest;
use crate::artifact::steering::{STEER, SteerRow, read_steering};
use crate::error::Result;

/// The page of the texts in a folder.
pub(super) fn page(folder: &Path) -> Result<String> {
    let manifest = Manifest::read(folder)?;
    let rows = read_steering(&folder.join(STEER))?;
    Ok(draw(&manifest, &rows))
}

fn draw(manifest: &Manifest, rows: &[SteerRow]) -> String {
    let mut body = String::new();
    let model = &manifest.model;
    let of = |key: &str| escape(manifest.config[key].as_str().unwrap_or_default());
    let _ = write!(
        body,
        "<p>{} ({}, {} layers) on {} prompts; {} neurons of {} for {} = {}; {:.1} s on {}.</p>",
        escape(&model.path),
        escape(&model.architecture),
        model.layers,
        manifest.corpus.counts.documents,
        model.neurons,
        of("method"),
        of("label"),
        of("concept"),
        manifest.timings.seconds,
        escape(&manifest.devices.first().map_or_else(String::new, |device| device.name.clone())),
    );
    let mut words: Vec<&str> = Vec::new();
    for row in rows {
        if !words.contains(&row.words.as_str()) {
            words.push(&row.words);
        }
    }
    for words in words {
        let _ = write!(body, "<h2>Texts with a word of {}</h2>", escape(words));
        arms(&mut body, rows.iter().filter(|row| row.words == words));
    }
    let concept = manifest.config["concept"].as_str().unwrap_or("a concept");
    sheet(&format!("Steering: {concept}"), &body)
}

/// A row for each arm.
fn arms<'a>(body: &mut String, rows: impl Iterator<Item = &'a SteerRow>) {
    let row = |row: &SteerRow| {
        let arm = match row.order.as_str() {
            "" => "untouched".to_owned(),
            "random" => format!("random {}", row.draw),
            other => other.to_owned(),
        };
        vec![
            arm,
            row.act.clone(),
            row.size.to_string(),
            row.strength.to_string(),
            row.n.to_string(),
            percent(row.presence, row.presence_error),
            format!("{:.2}", row.perplexity),
            format!("{:.2}", row.judge_perplexity),
            format!("{:.3}", row.distinct_1),
            format!("{:.3}", row.distinct_2),
        ]
    };
    let heads = [
        "arm",
        "act",
        "neurons",
        "strength",
        "texts",
        "presence",
        "perplexity",
        "perplexity, untouched model",
        "distinct 1",
        "distinct 2",
    ];
    table(body, &heads, rows.map(row));
}
