//! What a folder has to compare: the rankings and the probed layers of a finished run.

use std::collections::BTreeMap;
use std::path::Path;

use crate::artifact::effects::EFFECTS;
use crate::artifact::manifest::{MANIFEST, Manifest};
use crate::artifact::probing::{LAYERS, LayerRow, PROBES};
use crate::artifact::ranked::{RankedRow, read_ranked};
use crate::artifact::table::read_table;
use crate::artifact::tables::RANKINGS;
use crate::error::{Error, Result};
use crate::id::Site;
use crate::methods::MethodCall;
use crate::methods::agreement;
use crate::methods::registry::Family;

/// A finished run, experiment or run of probes.
pub(super) struct Source {
    /// What tables call it.
    pub(super) name: String,
    /// Its folder, as it was given.
    pub(super) folder: String,
    /// What it says of itself.
    pub(super) manifest: Manifest,
    /// Its rankings.
    pub(super) orders: Vec<Order>,
    /// Its probed layers, test rows only.
    pub(super) layers: Vec<LayerRow>,
}

/// One ranking.
pub(super) struct Order {
    /// Method with its settings, without the site it was asked at.
    pub(super) method: String,
    family: String,
    judges: bool,
    /// Label column, or key of question groups.
    pub(super) label: String,
    /// Class or group; `*` for all.
    pub(super) concept: String,
    /// The ranked sites with their neurons, which are numbered site after site.
    pub(super) sites: Vec<(String, usize)>,
    /// Neurons, best first: those that the table keeps without a gap.
    pub(super) order: Vec<u32>,
    /// Their scores.
    pub(super) scores: Vec<f64>,
}

impl Source {
    /// Reads a folder.
    pub(super) fn read(folder: &Path, name: String) -> Result<Self> {
        let there = |table: &str| folder.join(table).exists();
        let ranked = [EFFECTS, RANKINGS].into_iter().find(|table| there(table));
        let probed = there(PROBES) && there(LAYERS);
        if !there(MANIFEST) || ranked.is_none() && !probed {
            let what =
                format!("no finished run: {MANIFEST} and {RANKINGS} or {EFFECTS} belong to one");
            let remedy = "give the folder of a finished run, experiment or run of probes";
            return Err(Error::input(folder, what, remedy));
        }
        let manifest = Manifest::read(folder)?;
        let orders = match ranked {
            Some(table) => orders(&folder.join(table), &manifest)?,
            None => Vec::new(),
        };
        let mut layers: Vec<LayerRow> = Vec::new();
        if probed {
            layers = read_table(&folder.join(LAYERS))?;
            layers.retain(|row| row.part == "test");
        }
        if orders.is_empty() && layers.is_empty() {
            let what = "its tables hold no ranking and no probe";
            return Err(Error::input(folder, what, "run it with methods that rank for a label"));
        }
        Ok(Self { name, folder: folder.display().to_string(), manifest, orders, layers })
    }

    /// Which model: the hashes of its files, or where it was if there are none.
    pub(super) fn model_id(&self) -> String {
        let model = &self.manifest.model;
        let hash = |file: &crate::artifact::manifest::FileFacts| {
            file.sha256.clone().or_else(|| file.blake3.clone())
        };
        let hashes: Vec<String> = model.files.iter().filter_map(hash).collect();
        if hashes.is_empty() { model.path.clone() } else { hashes.join(" ") }
    }

    /// A layer over the last one.
    pub(super) fn depth(&self, layer: Option<i32>) -> Option<f64> {
        let last = self.manifest.model.layers.saturating_sub(1).max(1) as f64;
        layer.map(|layer| f64::from(layer) / last)
    }
}

impl Order {
    /// Neurons that could be ranked.
    pub(super) fn neurons(&self) -> usize {
        self.sites.iter().map(|(_, neurons)| neurons).sum()
    }

    /// Whether every neuron stands in it.
    pub(super) fn whole(&self) -> bool {
        self.order.len() == self.neurons()
    }

    /// Its sites as one text.
    pub(super) fn place(&self) -> String {
        let names: Vec<&str> = self.sites.iter().map(|(site, _)| site.as_str()).collect();
        names.join(" ")
    }

    /// As agreement reads it.
    pub(super) fn ranked<'a>(&'a self, name: &'a str) -> agreement::Ranked<'a> {
        agreement::Ranked {
            name,
            family: &self.family,
            judges: self.judges,
            order: &self.order,
            scores: &self.scores,
        }
    }
}

/// A site's layer.
pub(super) fn layer_of(site: &str) -> Option<i32> {
    let site: Site = site.parse().ok()?;
    i32::try_from(site.layer?).ok()
}

/// The rankings of a table, in its order.
fn orders(path: &Path, manifest: &Manifest) -> Result<Vec<Order>> {
    let mut rows: BTreeMap<usize, Vec<RankedRow>> = BTreeMap::new();
    let mut known: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for row in read_ranked(path)? {
        let next = known.len();
        let key = (row.method.clone(), row.label.clone(), row.concept.clone());
        rows.entry(*known.entry(key).or_insert(next)).or_default().push(row);
    }
    rows.into_values().map(|rows| order(path, rows, manifest)).collect()
}

/// One ranking of its rows; it ends where the first rank is missing.
fn order(path: &Path, mut rows: Vec<RankedRow>, manifest: &Manifest) -> Result<Order> {
    rows.sort_by_key(|row| row.rank);
    let (method, site) = at_site(&rows[0].method);
    let asked = manifest.sites.iter().filter(|own| site.is_none_or(|site| own.site == site));
    let sites: Vec<(String, usize)> = asked
        .map(|own| (own.site.clone(), usize::try_from(own.neurons).unwrap_or(usize::MAX)))
        .collect();
    let wrong = |what: String| Error::input(path, what, "make the tables again");
    let (mut order, mut scores) = (Vec::new(), Vec::new());
    for (row, rank) in rows.iter().zip(1..) {
        if row.rank != rank {
            break;
        }
        let at = sites.iter().position(|(site, _)| *site == row.site);
        let column = usize::try_from(row.neuron).ok();
        let (Some(at), Some(column)) = (at, column) else {
            return Err(wrong(format!("neuron {} of '{}' is not known", row.neuron, row.site)));
        };
        if column >= sites[at].1 {
            return Err(wrong(format!("neuron {column} of '{}' with {}", row.site, sites[at].1)));
        }
        let first: usize = sites[..at].iter().map(|(_, neurons)| neurons).sum();
        let neuron = u32::try_from(first + column);
        order.push(neuron.map_err(|_| wrong(format!("neuron {column} of '{}'", row.site)))?);
        scores.push(row.score);
    }
    let call = MethodCall::parse(&rows[0].method).or_else(|_| MethodCall::parse(&method));
    let family = call.as_ref().map(|call| call.method.family);
    let first = method.split(':').next().unwrap_or(&method).to_owned();
    let (judges, family) = match family {
        Ok(Family::Baseline) => (false, Family::Baseline.name().to_owned()),
        Ok(family) => (true, family.name().to_owned()),
        Err(_) => (true, first),
    };
    let (label, concept) = (rows[0].label.clone(), rows[0].concept.clone());
    Ok(Order { method, family, judges, label, concept, sites, order, scores })
}

/// `lca:l1=0.1,site=layers.3.resid_post` is `lca:l1=0.1` at that site.
fn at_site(method: &str) -> (String, Option<&str>) {
    match method.rfind("site=") {
        Some(at) if at > 0 && [":", ","].contains(&&method[at - 1..at]) => {
            (method[..at - 1].to_owned(), Some(&method[at + "site=".len()..]))
        }
        _ => (method.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::at_site;

    /// Oracle: by hand.
    #[test]
    fn methods_of_probes_name_their_site() {
        let at = |text| {
            let (method, site) = at_site(text);
            (method, site.map(str::to_owned))
        };
        let site = Some("layers.3.mlp_act".to_owned());
        assert_eq!(at("lca:l1=0.1,site=layers.3.mlp_act"), ("lca:l1=0.1".to_owned(), site.clone()));
        assert_eq!(at("probeless:site=layers.3.mlp_act"), ("probeless".to_owned(), site));
        assert_eq!(at("probeless"), ("probeless".to_owned(), None));
    }
}
