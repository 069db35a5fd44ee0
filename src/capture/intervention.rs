//! Interventions as users write them, in JSON: what is written into which neurons, where.
//!
//! ```json
//! {"kind": "zero", "edits": [{"layer": 0, "neurons": [75, 127]}],
//!  "positions": [[0, 3], [1, 2]]}
//! ```
//!
//! `kind` is `zero`, `mean` or `set` (with `values`), `add` (with `values`), `scale` (with
//! `factor`). An edit names a `site`, or a `layer` and means its `mlp_act`; its `neurons` are a
//! list or `"all"`. What stands at the top holds for every edit that does not say otherwise.
//! Positions are `[row, position]` pairs of the input; without them, every position.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::device::ops::{Edit, Write};
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};

/// A file of edits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervention {
    /// For people.
    #[serde(default)]
    pub name: Option<String>,
    /// The edits, applied in order.
    pub edits: Vec<EditSpec>,
    #[serde(flatten)]
    defaults: Writing,
}

/// One edit.
#[derive(Clone, Debug, Deserialize)]
pub struct EditSpec {
    site: Option<String>,
    layer: Option<u32>,
    neurons: Neurons,
    #[serde(flatten)]
    writing: Writing,
}

/// What is written, and where.
#[derive(Clone, Debug, Default, Deserialize)]
struct Writing {
    kind: Option<Kind>,
    values: Option<Vec<f32>>,
    factor: Option<f32>,
    positions: Option<Vec<[u32; 2]>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Zero,
    Mean,
    Set,
    Add,
    Scale,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Neurons {
    List(Vec<u32>),
    Word(String),
}

/// Where a `[row, position]` pair of the input stands in the packed batch.
pub trait Locate {
    /// The token of the batch, or none if there is no real token there.
    fn token(&self, row: u32, position: u32) -> Option<u32>;
}

impl Intervention {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        serde_json::from_str(&text).map_err(|error| {
            Error::config(
                path.display().to_string(),
                format!("not an intervention: {error}"),
                r#"write {"kind": "zero", "edits": [{"layer": 0, "neurons": [1, 2]}]}"#,
            )
        })
    }

    /// The edits by site, checked against the widths of a model (`width` is none for a site it
    /// does not have).
    pub fn resolve(
        &self,
        width: impl Fn(Site) -> Option<usize>,
        locate: &impl Locate,
    ) -> Result<BTreeMap<Site, Vec<Edit>>> {
        let mut edits: BTreeMap<Site, Vec<Edit>> = BTreeMap::new();
        for (i, edit) in self.edits.iter().enumerate() {
            let place = format!("intervention, edit {i}");
            let site = edit.site(&place)?;
            let columns = width(site).ok_or_else(|| {
                let what = format!("the model has no site '{site}'");
                Error::config(&place, what, "see `electrode inspect MODEL`")
            })?;
            let resolved = edit.resolve(&self.defaults, columns, locate, &place)?;
            edits.entry(site).or_default().push(resolved);
        }
        Ok(edits)
    }
}

impl EditSpec {
    fn site(&self, place: &str) -> Result<Site> {
        let site = match (&self.site, self.layer) {
            (Some(name), None) => name.parse::<Site>()?,
            (None, Some(layer)) => Site::of_layer(layer, SiteKind::MlpAct),
            _ => {
                let what = "needs either 'site' or 'layer'";
                return Err(Error::config(place, what, "write \"layer\": 0 for layers.0.mlp_act"));
            }
        };
        if matches!(site.kind, SiteKind::AttnProbs) {
            let what = format!("'{site}' can be read but not edited");
            return Err(Error::config(place, what, "edit head_out, what the probabilities give"));
        }
        Ok(site)
    }

    fn resolve(
        &self,
        defaults: &Writing,
        width: usize,
        locate: &impl Locate,
        place: &str,
    ) -> Result<Edit> {
        let columns = match &self.neurons {
            Neurons::List(list) => Some(list.clone()),
            Neurons::Word(word) if word == "all" => None,
            Neurons::Word(word) => {
                let what = format!("neurons '{word}' is neither a list nor \"all\"");
                return Err(Error::config(place, what, "write [3, 17] or \"all\""));
            }
        };
        if let Some(wrong) = columns.iter().flatten().find(|&&n| n as usize >= width) {
            let what = format!("neuron {wrong} is out of range");
            return Err(Error::config(place, what, format!("neurons are 0 to {}", width - 1)));
        }
        let count = columns.as_ref().map_or(width, Vec::len);
        let write = self.writing.write(defaults, count, place)?;
        let positions = self.writing.positions.as_ref().or(defaults.positions.as_ref());
        let token = |&[row, position]: &[u32; 2]| {
            locate.token(row, position).ok_or_else(|| {
                let what = format!("no real token at row {row}, position {position}");
                Error::config(place, what, "positions are [row, position] of the input ids")
            })
        };
        let tokens = positions
            .map(|positions| positions.iter().map(token).collect::<Result<Vec<_>>>())
            .transpose()?;
        Ok(Edit { columns, tokens, write })
    }
}

impl Writing {
    fn write(&self, defaults: &Self, count: usize, place: &str) -> Result<Write> {
        let kind = self.kind.or(defaults.kind).ok_or_else(|| {
            Error::config(place, "needs a 'kind'", "one of zero, set, mean, add, scale")
        })?;
        let values = || {
            let values = self.values.as_ref().or(defaults.values.as_ref());
            let values = values.ok_or_else(|| {
                Error::config(place, "needs 'values'", "give one number per neuron, or one for all")
            })?;
            if values.len() != count && values.len() != 1 {
                let what = format!("{} values for {count} neurons", values.len());
                return Err(Error::config(place, what, "give one per neuron, or one for all"));
            }
            Ok(values.clone())
        };
        Ok(match kind {
            Kind::Zero => Write::Set(vec![0.0]),
            Kind::Mean | Kind::Set => Write::Set(values()?),
            Kind::Add => Write::Add(values()?),
            Kind::Scale => Write::Scale(self.factor.or(defaults.factor).ok_or_else(|| {
                Error::config(place, "kind 'scale' needs a 'factor'", "write \"factor\": 2.0")
            })?),
        })
    }
}
