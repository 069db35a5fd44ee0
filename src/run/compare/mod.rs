//! `electrode compare`: finished runs, experiments and runs of probes beside each other. It computes no
//! activation: everything is read off the tables of their folders.

mod agree;
mod findings;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use self::source::Source;
use crate::artifact::atomic::write_folder_atomic;
use crate::artifact::comparison::{
    CONCEPTS, CORRELATIONS, ConceptPairRow, CorrelationRow, LOCALITY, LocalityRow, OVERLAPS,
    OverlapRow, POLYSEMY, PROBED_LAYERS, PROFILES, PolysemyRow, ProbedLayerRow, ProfileRow,
    SOURCES, SourceRow,
};
use crate::artifact::table::write_table;
use crate::disk;
use crate::error::{Error, Result};

/// What is compared, and how.
#[derive(Clone, Debug)]
pub struct CompareRequest {
    /// Folders of finished runs.
    pub folders: Vec<PathBuf>,
    /// Sizes of tops; by default those of 10, 50 and 100 that the tables keep.
    pub sizes: Option<Vec<usize>>,
    /// Share of the neurons that counts as top in profiles of layers; by default 0.01.
    pub share: Option<f64>,
}

/// Rows of every table of a comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    /// What was compared.
    pub sources: Vec<SourceRow>,
    /// Tops of rankings of one concept.
    pub overlaps: Vec<OverlapRow>,
    /// Whole rankings of one concept.
    pub correlations: Vec<CorrelationRow>,
    /// Where top neurons stand.
    pub profiles: Vec<ProfileRow>,
    /// Whether few neurons carry a concept.
    pub locality: Vec<LocalityRow>,
    /// Neurons that concepts share.
    pub concepts: Vec<ConceptPairRow>,
    /// Concepts of each neuron, counted.
    pub polysemy: Vec<PolysemyRow>,
    /// What probes find where.
    pub layers: Vec<ProbedLayerRow>,
}

/// Compares folders. An error names the folder that has nothing to compare, and what could be done.
pub fn compare(request: &CompareRequest) -> Result<Tables> {
    let share = request.share.unwrap_or(findings::SHARE);
    let named = request.folders.iter().zip(names(&request.folders)?);
    let sources: Vec<Source> =
        named.map(|(folder, name)| Source::read(folder, name)).collect::<Result<_>>()?;
    check_sizes(&sources)?;
    check_shared(&sources)?;
    let mut tables = Tables { sources: sources.iter().map(row).collect(), ..Tables::default() };
    agree::agree(&sources, request.sizes.as_deref(), &mut tables)?;
    findings::findings(&sources, (request.sizes.as_deref(), share), &mut tables)?;
    Ok(tables)
}

impl Tables {
    /// Writes a folder of tables and a page, whole or not at all; gives the page.
    pub fn write(self, out: &Path) -> Result<PathBuf> {
        if let Some(parent) = out.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
        }
        write_folder_atomic(out, |folder| {
            let id = "compare";
            write_table(&folder.join(SOURCES), id, self.sources.into_iter())?;
            write_table(&folder.join(OVERLAPS), id, self.overlaps.into_iter())?;
            write_table(&folder.join(CORRELATIONS), id, self.correlations.into_iter())?;
            write_table(&folder.join(PROFILES), id, self.profiles.into_iter())?;
            write_table(&folder.join(LOCALITY), id, self.locality.into_iter())?;
            write_table(&folder.join(CONCEPTS), id, self.concepts.into_iter())?;
            write_table(&folder.join(POLYSEMY), id, self.polysemy.into_iter())?;
            write_table(&folder.join(PROBED_LAYERS), id, self.layers.into_iter())?;
            crate::report::build(folder)
        })?;
        Ok(out.join(crate::report::REPORT))
    }
}

/// The last part of each path, or all of it where two end alike. The same folder twice says nothing.
fn names(folders: &[PathBuf]) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    for folder in folders {
        if !seen.insert(std::fs::canonicalize(folder).unwrap_or_else(|_| folder.clone())) {
            let remedy = "name each folder once";
            return Err(Error::config(folder.display().to_string(), "is named twice", remedy));
        }
    }
    let last = |folder: &PathBuf| {
        folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    let all: Vec<String> = folders.iter().map(last).collect();
    let name = |(at, name): (usize, &String)| {
        let alike = all.iter().filter(|other| *other == name).count();
        if alike == 1 && !name.is_empty() {
            name.clone()
        } else {
            folders[at].display().to_string()
        }
    };
    Ok(all.iter().enumerate().map(name).collect())
}

/// A site of one model has one number of neurons.
fn check_sizes(sources: &[Source]) -> Result<()> {
    let mut known: BTreeMap<(String, &str), (&Source, u64)> = BTreeMap::new();
    for source in sources {
        for site in &source.manifest.sites {
            let key = (source.model_id(), site.site.as_str());
            let (first, neurons) = *known.entry(key).or_insert((source, site.neurons));
            if neurons != site.neurons {
                let what = format!(
                    "{} has {} neurons, in {} it has {neurons}",
                    site.site, site.neurons, first.folder
                );
                let remedy = "compare runs over the same neurons of a model";
                return Err(Error::input(&source.folder, what, remedy));
            }
        }
    }
    Ok(())
}

/// Each source has a concept, or a probed label, that another has too.
fn check_shared(sources: &[Source]) -> Result<()> {
    let concepts = |source: &Source| -> BTreeSet<String> {
        let ranked = source.orders.iter().map(|own| format!("{} '{}'", own.label, own.concept));
        ranked.chain(source.layers.iter().map(|own| format!("probes of {}", own.label))).collect()
    };
    let all: Vec<BTreeSet<String>> = sources.iter().map(concepts).collect();
    for (at, own) in all.iter().enumerate().filter(|_| all.len() > 1) {
        let others = || all.iter().enumerate().filter(|(other, _)| *other != at);
        if others().all(|(_, other)| own.is_disjoint(other)) {
            let few = |all: &BTreeSet<String>| {
                let shown: Vec<&str> = all.iter().take(4).map(String::as_str).collect();
                shown.join(", ")
            };
            let theirs = others().next().map(|(_, other)| few(other)).unwrap_or_default();
            let what = format!("it shares no concept with the others: it has {}", few(own));
            let remedy = format!("compare runs with the same labels; the others have {theirs}");
            return Err(Error::input(&sources[at].folder, what, remedy));
        }
    }
    Ok(())
}

fn row(source: &Source) -> SourceRow {
    let manifest = &source.manifest;
    let neurons: u64 = manifest.sites.iter().map(|site| site.neurons).sum();
    let small = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    SourceRow {
        source: source.name.clone(),
        folder: source.folder.clone(),
        run_id: manifest.run_id.clone(),
        model: manifest.model.path.clone(),
        architecture: manifest.model.architecture.clone(),
        layers: i32::try_from(manifest.model.layers).unwrap_or(i32::MAX),
        neurons: i64::try_from(neurons).unwrap_or(i64::MAX),
        rankings: small(source.orders.len()),
        probes: small(source.layers.len()),
    }
}
