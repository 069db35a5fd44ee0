//! Sets of neurons that somebody chose already: a list in JSON, or what a method selected in
//! `effects.parquet`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::choose::Wanted;
use super::neurons::Neurons;
use crate::artifact::effects::EffectRow;
use crate::disk;
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};

/// A list larger than this is not one.
const MAX_LIST: u64 = 100 << 20;
/// The sites whose columns are the neurons of an MLP.
const KINDS: [SiteKind; 4] =
    [SiteKind::MlpAct, SiteKind::MlpGate, SiteKind::MlpPre, SiteKind::MlpUp];

/// An entry of the JSON list, as in files of interventions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    layer: usize,
    neurons: Vec<usize>,
}

/// Reads `[{"layer": 3, "neurons": [17, 40]}, …]`.
pub fn read_list(path: &Path) -> Result<Neurons> {
    let wrong = |what: String| {
        Error::input(path, what, r#"write [{"layer": 3, "neurons": [17, 40]}, …], from 0"#)
    };
    if fs::metadata(path).map_err(Error::io(path, "read"))?.len() > MAX_LIST {
        return Err(wrong(format!("more than {MAX_LIST} bytes are too many for a list")));
    }
    let text = disk::read(path).map_err(Error::io(path, "read"))?;
    let entries: Vec<Entry> = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("not a list of neurons: {error}")))?;
    let mut neurons = Neurons::new();
    for Entry { layer, neurons: of_layer } in entries {
        neurons.entry(layer).or_default().extend(of_layer);
    }
    match neurons.values().all(BTreeSet::is_empty) {
        true => Err(wrong("it names no neuron".to_owned())),
        false => Ok(neurons),
    }
}

/// The neurons that a method selected for one group of questions (a fact), without those that it
/// selected in more than a share `shared` of the groups of the same key (Dai et al. 2022, section
/// 4.2: neurons of the relation and not of the fact). `place` names the table.
pub fn of_group(
    place: &str,
    rows: &[EffectRow],
    wanted: &Wanted,
    shared: Option<f64>,
) -> Result<Neurons> {
    let fits =
        |asked: &Option<String>, found: &str| asked.as_deref().is_none_or(|asked| asked == found);
    let rows: Vec<&EffectRow> = rows
        .iter()
        .filter(|row| fits(&wanted.method, &row.method) && fits(&wanted.label, &row.label))
        .collect();
    let methods: BTreeSet<(&str, &str)> =
        rows.iter().map(|row| (row.method.as_str(), row.label.as_str())).collect();
    if methods.len() != 1 {
        let list: Vec<String> = methods.iter().map(|(m, l)| format!("{m} [{l}]")).collect();
        let what = format!("{} methods fit: {}", methods.len(), list.join(", "));
        return Err(Error::config(place, what, "name one with --method and --label"));
    }
    let groups: BTreeSet<&str> =
        rows.iter().map(|row| row.concept.as_str()).filter(|concept| *concept != "*").collect();
    let concept = wanted.concept.as_deref().unwrap_or("*");
    if concept != "*" && !groups.contains(concept) {
        let list: Vec<&str> = groups.iter().copied().take(12).collect();
        let remedy = format!("name one with --concept: {}", list.join(", "));
        return Err(Error::config(place, format!("no group '{concept}'"), remedy));
    }
    let mut selected_in: BTreeMap<(usize, usize), BTreeSet<&str>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.selected) {
        let site: Site = row.site.parse()?;
        if let (true, Some(layer), Ok(neuron)) =
            (KINDS.contains(&site.kind), site.layer, usize::try_from(row.neuron))
        {
            selected_in.entry((layer as usize, neuron)).or_default().insert(&row.concept);
        }
    }
    let most = shared.map_or(f64::INFINITY, |share| share * count(groups.len()));
    let mut neurons = Neurons::new();
    for ((layer, neuron), concepts) in &selected_in {
        let of_groups = concepts.iter().filter(|concept| **concept != "*").count();
        if concepts.contains(concept) && count(of_groups) <= most {
            neurons.entry(*layer).or_default().insert(*neuron);
        }
    }
    if neurons.is_empty() {
        let what = format!("no neuron is selected for '{concept}' alone");
        return Err(Error::config(place, what, "choose another --concept, or a larger --shared"));
    }
    Ok(neurons)
}

#[expect(clippy::cast_precision_loss, reason = "numbers of groups are small")]
fn count(n: usize) -> f64 {
    n as f64
}
