//! A ranking of neurons that a finished run or experiment left in its folder.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::artifact::effects::{EFFECTS, read_effects};
use crate::artifact::tables::{RANKINGS, read_rankings};
use crate::error::{Error, Result};
use crate::id::{NeuronId, Site};

/// Which ranking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderConfig {
    /// Folder of the run or experiment.
    pub run: PathBuf,
    /// Method with its settings, as it was written.
    pub method: String,
    /// Label column; the only one if not given.
    #[serde(default)]
    pub label: Option<String>,
    /// Class of the column, or group of questions; `*`, all of them, if not given.
    #[serde(default)]
    pub concept: Option<String>,
}

/// A row of either table.
struct Row {
    method: String,
    label: String,
    concept: String,
    site: String,
    neuron: i32,
    rank: i32,
}

impl OrderConfig {
    /// Its neurons, most important first. A run keeps the first `output.keep` of each ranking.
    pub fn read(&self) -> Result<Vec<NeuronId>> {
        let (path, rows) = self.rows()?;
        let concept = self.concept.as_deref().unwrap_or("*");
        let of = |row: &&Row| row.method == self.method && row.concept == concept;
        let named = |row: &&Row| self.label.as_ref().is_none_or(|label| row.label == *label);
        let mut chosen: Vec<&Row> = rows.iter().filter(of).filter(named).collect();
        if chosen.is_empty() {
            let what = format!("no ranking of '{}' for '{concept}'", self.method);
            return Err(Error::input(path, what, format!("it has {}", there_are(&rows))));
        }
        if let Some(other) = chosen.iter().find(|row| row.label != chosen[0].label) {
            let what = format!("'{concept}' of '{}' or of '{}'?", chosen[0].label, other.label);
            return Err(Error::input(path, what, "say which label column"));
        }
        chosen.sort_by_key(|row| row.rank);
        let neuron = |row: &&Row| {
            let site = row.site.parse::<Site>()?;
            let index = u32::try_from(row.neuron).map_err(|_| {
                let what = format!("neuron {} of {site}", row.neuron);
                Error::input(&path, what, "make the table again")
            })?;
            Ok(NeuronId { site, index })
        };
        chosen.iter().map(neuron).collect()
    }

    fn rows(&self) -> Result<(PathBuf, Vec<Row>)> {
        let path = self.table()?;
        if path.ends_with(EFFECTS) {
            let rows = read_effects(&path)?.into_iter().map(|row| Row {
                method: row.method,
                label: row.label,
                concept: row.concept,
                site: row.site,
                neuron: row.neuron,
                rank: row.rank,
            });
            return Ok((path, rows.collect()));
        }
        let rows = read_rankings(&path)?.into_iter().map(|row| Row {
            method: row.method,
            label: row.label,
            concept: row.concept,
            site: row.site,
            neuron: row.neuron,
            rank: row.rank,
        });
        Ok((path, rows.collect()))
    }

    /// BLAKE3 of the table behind it.
    pub fn hash(&self) -> Result<String> {
        Ok(crate::hash::blake3_of_file(&self.table()?)?.1)
    }

    fn table(&self) -> Result<PathBuf> {
        let tables = [EFFECTS, RANKINGS].map(|name| self.run.join(name));
        tables.into_iter().find(|path| path.exists()).ok_or_else(|| {
            let what = format!("neither {EFFECTS} nor {RANKINGS} is there");
            Error::input(&self.run, what, "give the folder of a finished run")
        })
    }
}

/// The rankings of a table, a few of them, for messages.
fn there_are(rows: &[Row]) -> String {
    let mut names: Vec<String> = Vec::new();
    for row in rows {
        let name = format!("'{}' for {} '{}'", row.method, row.label, row.concept);
        if !names.contains(&name) {
            names.push(name);
        }
        if names.len() > 8 {
            names.push("…".into());
            break;
        }
    }
    names.join(", ")
}
