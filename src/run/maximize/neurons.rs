//! Which neurons are asked: named one by one, or the first of a ranking.

use std::path::PathBuf;

use serde_json::Value;

use crate::artifact::ranked::{RankedRow, read_ranked};
use crate::disk;
use crate::error::{Error, Result};
use crate::id::{NeuronId, Site, SiteKind};

/// The first neurons of a ranking.
#[derive(Clone, Debug, Default)]
pub struct FromRanking {
    /// `rankings.parquet` of a run, `effects.parquet` of an experiment, or the JSON of `rank`.
    pub file: PathBuf,
    /// Only neurons of this layer; of a JSON ranking, whose neurons they are.
    pub layer: Option<u32>,
    /// How many.
    pub top: usize,
    /// Only this method, as the table writes it; by default the first in the file.
    pub method: Option<String>,
    /// Only this concept (of a JSON ranking, this group); by default the first in the file.
    pub concept: Option<String>,
}

impl FromRanking {
    /// Reads the file.
    pub fn neurons(&self) -> Result<Vec<NeuronId>> {
        let json = self.file.extension().is_some_and(|extension| extension == "json");
        let mut neurons = if json { self.of_json()? } else { self.of_table()? };
        neurons.truncate(self.top);
        if neurons.is_empty() {
            let what = "no neuron of it is asked for";
            return Err(Error::input(&self.file, what, "choose another layer, method or concept"));
        }
        Ok(neurons)
    }

    fn of_table(&self) -> Result<Vec<NeuronId>> {
        let rows = read_ranked(&self.file)?;
        let fits = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let asked =
            |row: &&RankedRow| fits(&self.method, &row.method) && fits(&self.concept, &row.concept);
        let Some(first) = rows.iter().find(asked) else { return Ok(Vec::new()) };
        let same =
            |row: &&RankedRow| (&row.method, &row.concept) == (&first.method, &first.concept);
        let mut chosen: Vec<&RankedRow> = rows.iter().filter(same).collect();
        chosen.sort_by_key(|row| row.rank);
        let id = |row: &RankedRow| -> Result<NeuronId> {
            let index = u32::try_from(row.neuron).map_err(|_| {
                Error::input(&self.file, "a neuron below 0", "make the table again")
            })?;
            Ok(NeuronId { site: row.site.parse()?, index })
        };
        let mut neurons = chosen.into_iter().map(id).collect::<Result<Vec<NeuronId>>>()?;
        neurons.retain(|neuron| self.layer.is_none() || neuron.site.layer == self.layer);
        Ok(neurons)
    }

    fn of_json(&self) -> Result<Vec<NeuronId>> {
        let wrong = |what: String| {
            Error::input(&self.file, what, "give the file that `electrode rank` writes")
        };
        let Some(layer) = self.layer else {
            let what = "missing: a JSON ranking does not say whose neurons it ranks";
            return Err(Error::config("--layer", what, "name the layer"));
        };
        let text = disk::read(&self.file).map_err(Error::io(&self.file, "read"))?;
        let value: Value = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("not a JSON file: {error}")))?;
        let groups = value["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
        let group = match &self.concept {
            Some(concept) => groups.iter().find(|group| group["name"].as_str() == Some(concept)),
            None if value["overall"].is_object() => Some(&value["overall"]),
            None => groups.first(),
        };
        let list = group.and_then(|group| group["neurons"].as_array());
        let list = list.ok_or_else(|| wrong("it has no such ranking".into()))?;
        let site = Site::of_layer(layer, SiteKind::MlpAct);
        let id = |value: &Value| {
            let index = value.as_u64().and_then(|index| u32::try_from(index).ok());
            let index = index.ok_or_else(|| wrong(format!("{value} is no neuron")))?;
            Ok(NeuronId { site, index })
        };
        list.iter().take(self.top).map(id).collect()
    }
}
