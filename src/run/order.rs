//! A ranking of neurons that a finished run or experiment left in its folder.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::artifact::effects::EFFECTS;
use crate::artifact::ranked::{RankedRow, read_ranked};
use crate::artifact::tables::RANKINGS;
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

impl OrderConfig {
    /// Its neurons, most important first. A run keeps the first `output.keep` of each ranking.
    pub fn read(&self) -> Result<Vec<NeuronId>> {
        let path = self.table()?;
        let rows = read_ranked(&path)?;
        let concept = self.concept.as_deref().unwrap_or("*");
        let of = |row: &&RankedRow| row.method == self.method && row.concept == concept;
        let named = |row: &&RankedRow| self.label.as_ref().is_none_or(|label| row.label == *label);
        let mut chosen: Vec<&RankedRow> = rows.iter().filter(of).filter(named).collect();
        if chosen.is_empty() {
            let what = format!("no ranking of '{}' for '{concept}'", self.method);
            return Err(Error::input(path, what, format!("it has {}", there_are(&rows))));
        }
        if let Some(other) = chosen.iter().find(|row| row.label != chosen[0].label) {
            let what = format!("'{concept}' of '{}' or of '{}'?", chosen[0].label, other.label);
            return Err(Error::input(path, what, "say which label column"));
        }
        chosen.sort_by_key(|row| row.rank);
        let neuron = |row: &&RankedRow| {
            let site = row.site.parse::<Site>()?;
            let index = u32::try_from(row.neuron).map_err(|_| {
                let what = format!("neuron {} of {site}", row.neuron);
                Error::input(&path, what, "make the table again")
            })?;
            Ok(NeuronId { site, index })
        };
        chosen.iter().map(neuron).collect()
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
fn there_are(rows: &[RankedRow]) -> String {
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
