//! The points of a sweep: every combination that is not left out, each a run file of its own; and
//! the passes that they share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::Value;

use super::config::{Names, SweepConfig, fits};
use crate::config::RunConfig;
use crate::corpus::config::ConceptConfig;
use crate::error::{Error, Result};

/// One combination.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// Its folder.
    pub name: String,
    /// Names of its values, by axis.
    pub values: BTreeMap<String, String>,
    /// Its run.
    pub config: RunConfig,
    /// Number of the pass that fills its tables.
    pub pass: usize,
}

/// Every point with the pass it belongs to, and the runs that are the passes.
pub(super) fn points(config: &SweepConfig) -> Result<(Vec<Point>, Vec<RunConfig>)> {
    let axes = config.axes()?;
    let count: usize = axes.iter().map(|axis| axis.values.len()).product();
    let mut points = Vec::new();
    for number in 0..count {
        let (mut rest, mut names, mut changes) = (number, Names::new(), BTreeMap::new());
        for axis in axes.iter().rev() {
            let (name, value) = &axis.values[rest % axis.values.len()];
            rest /= axis.values.len();
            names.insert(axis.name.clone(), name.clone());
            changes.insert(axis.key.clone(), value.clone());
        }
        if config.excludes(&names) {
            continue;
        }
        for change in config.overrides.iter().filter(|change| fits(&change.when, &names)) {
            changes.extend(change.set.clone());
        }
        let in_order: Vec<&str> = axes.iter().map(|axis| names[&axis.name].as_str()).collect();
        let name = if in_order.is_empty() { "only".to_owned() } else { in_order.join("_") };
        points.push(point(config, (name, names), &changes)?);
    }
    if points.is_empty() {
        return Err(Error::config("exclude", "no point is left", "leave fewer of them out"));
    }
    let passes = group(&mut points);
    Ok((points, passes))
}

fn point(
    config: &SweepConfig,
    (name, values): (String, Names),
    changes: &BTreeMap<String, Value>,
) -> Result<Point> {
    let mut overrides: Vec<String> =
        changes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let out = config.out.join("points").join(&name);
    overrides.push(format!("out={}", Value::from(out.display().to_string())));
    overrides.push(format!("name={}", Value::from(format!("{}, {name}", config.name))));
    let config = RunConfig::load(&config.run, &overrides)?;
    Ok(Point { name, values, config, pass: 0 })
}

/// Points that read the same text with the same model in the same way share a pass, which watches the
/// sites of all of them for the labels of all of them. Methods only read what it leaves.
fn group(points: &mut [Point]) -> Vec<RunConfig> {
    let mut passes: Vec<(serde_json::Value, RunConfig)> = Vec::new();
    for point in points {
        let identity = read_alike(&point.config);
        let known = passes
            .iter()
            .position(|(other, pass)| *other == identity && labels_agree(pass, &point.config));
        let at = known.unwrap_or_else(|| {
            let mut pass = point.config.clone();
            (pass.methods, pass.capture.sites, pass.concepts) = Default::default();
            passes.push((identity, pass));
            passes.len() - 1
        });
        let pass = &mut passes[at].1;
        for site in &point.config.capture.sites {
            if !pass.capture.sites.contains(site) {
                pass.capture.sites.push(site.clone());
            }
        }
        for concept in &point.config.concepts {
            if pass.concepts.iter().all(|known| known.column != concept.column) {
                pass.concepts.push(concept.clone());
            }
        }
        point.pass = at;
    }
    passes.into_iter().map(|(_, pass)| pass).collect()
}

/// What must be the same for two points to share a pass.
fn read_alike(config: &RunConfig) -> serde_json::Value {
    let mut config = config.clone();
    (config.methods, config.capture.sites, config.concepts) = Default::default();
    config.output = Default::default();
    config.identity()
}

/// Whether a pass reads the labels of a point as the point would.
fn labels_agree(pass: &RunConfig, point: &RunConfig) -> bool {
    let as_value = |concept: &ConceptConfig| serde_json::to_value(concept).expect("plain data");
    point.concepts.iter().all(|own| {
        let known = pass.concepts.iter().find(|known| known.column == own.column);
        known.is_none_or(|known| as_value(known) == as_value(own))
    })
}
