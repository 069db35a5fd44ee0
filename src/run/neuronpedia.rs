//! A run folder as Neuronpedia's importer takes it: `SOURCE/features/batch-N.jsonl.gz` and
//! `SOURCE/activations/batch-N.jsonl.gz`, a source for each site. Names of fields are the columns of
//! its tables `Neuron` and `Activation` (utils/neuronpedia-utils, `export-data.py`). What a run does
//! not measure (logits, vectors, correlations) is empty there.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::artifact::atomic::{write_bytes_atomic, write_folder_atomic};
use crate::artifact::manifest::Manifest;
use crate::artifact::rows::{ContextRow, HistogramRow, NeuronRow};
use crate::artifact::table::{read_table, visit_table};
use crate::artifact::tables::{CONTEXTS, HISTOGRAMS, NEURONS};
use crate::disk::{self, File};
use crate::error::{Error, Result};

/// Neurons of a file, as the importer's own exports have them.
const BATCH: usize = 1024;
/// Level of gzip, as they have it.
const LEVEL: u32 = 5;

/// What the importer wants to know and no run says.
#[derive(Clone, Debug, Default)]
pub struct NeuronpediaNames {
    /// The model's name there; of none, the last part of its path.
    pub model: Option<String>,
    /// Id of the user to whom it will belong.
    pub creator: String,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Sites with a folder.
    pub sources: usize,
    /// Neurons.
    pub features: usize,
    /// Contexts.
    pub activations: usize,
    /// Contexts without the activations of their words, which were left out: a neuron outside the
    /// best is not traced.
    pub left_out: usize,
}

/// Writes the folder `out`, which must not be there yet, from the tables of a finished run.
pub fn export_neuronpedia(run: &Path, out: &Path, names: &NeuronpediaNames) -> Result<Exported> {
    let manifest = Manifest::read(run)?;
    let model = match &names.model {
        Some(name) => name.clone(),
        None => last_part(&manifest.model.path),
    };
    let sites: Vec<&str> = manifest.sites.iter().map(|site| site.site.as_str()).collect();
    let histograms = histograms(run)?;
    let mut neurons: BTreeMap<(String, i32), NeuronRow> = BTreeMap::new();
    visit_table(&run.join(NEURONS), |row: NeuronRow| {
        neurons.insert((row.site.clone(), row.neuron), row);
    })?;
    let contexts: Vec<ContextRow> = read_table(&run.join(CONTEXTS))?;
    write_folder_atomic(out, |folder| {
        let mut exported = Exported { sources: sites.len(), ..Exported::default() };
        for site in &sites {
            let source =
                Source { model: &model, creator: &names.creator, id: source_id(site), site };
            let folder = folder.join(&source.id);
            let features =
                neurons.range(((*site).to_owned(), i32::MIN)..=((*site).to_owned(), i32::MAX));
            let features: Vec<(i32, Value)> = features
                .map(|((_, index), row)| {
                    (*index, source.feature(row, histograms.get(&(row.site.clone(), *index))))
                })
                .collect();
            let of_site = contexts.iter().filter(|context| context.site == *site);
            let (traced, others): (Vec<_>, Vec<_>) =
                of_site.partition(|context| !context.activations.is_empty());
            exported.left_out += others.len();
            exported.features += features.len();
            exported.activations += traced.len();
            let activations: Vec<(i32, Value)> =
                traced.into_iter().map(|row| (row.neuron, source.activation(row))).collect();
            write_batches(&folder.join("features"), &features)?;
            write_batches(&folder.join("activations"), &activations)?;
            source.write(&folder, &manifest)?;
        }
        Ok(exported)
    })
}

/// The histograms over all rows, by neuron.
fn histograms(run: &Path) -> Result<BTreeMap<(String, i32), HistogramRow>> {
    let mut found = BTreeMap::new();
    visit_table(&run.join(HISTOGRAMS), |row: HistogramRow| {
        if row.label.is_empty() {
            found.insert((row.site.clone(), row.neuron), row);
        }
    })?;
    Ok(found)
}

/// `models/gpt2/` is `gpt2`.
fn last_part(path: &str) -> String {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_owned()
}

/// `3-mlp_act` for `layers.3.mlp_act`, as sources are called there; other sites keep their name.
fn source_id(site: &str) -> String {
    let parts = site.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
    parts.map_or_else(|| site.to_owned(), |(layer, kind)| format!("{layer}-{kind}"))
}

/// What all lines of a site share.
struct Source<'a> {
    model: &'a str,
    creator: &'a str,
    id: String,
    site: &'a str,
}

impl Source<'_> {
    /// `frac_nonzero` is the share of values above 0, and the bars stand at the middle of their bins.
    fn feature(&self, row: &NeuronRow, histogram: Option<&HistogramRow>) -> Value {
        let edges = histogram.map_or(&[][..], |histogram| &histogram.edges);
        let middles: Vec<f32> =
            edges.windows(2).map(|pair| f32::midpoint(pair[0], pair[1])).collect();
        let heights = histogram.map_or(&[][..], |histogram| &histogram.counts);
        let mut feature = json!({
            "modelId": self.model, "layer": self.id, "index": row.neuron.to_string(),
            "sourceSetName": self.site.rsplit('.').next(), "creatorId": self.creator,
            "maxActApprox": row.max, "frac_nonzero": row.firing_rate,
            "freq_hist_data_bar_heights": heights, "freq_hist_data_bar_values": middles,
            "hookName": self.site, "hasVector": false, "vectorLabel": null,
            "vectorDefaultSteerStrength": null,
        });
        for name in UNKNOWN {
            feature[name] = json!([]);
        }
        feature
    }

    fn activation(&self, row: &ContextRow) -> Value {
        let values = &row.activations;
        let extreme = |better: fn(&f32, &f32) -> bool| {
            let pick =
                |best: usize, at: usize| if better(&values[at], &values[best]) { at } else { best };
            (0..values.len()).reduce(pick).unwrap_or_default()
        };
        let (most, least) = (extreme(|a, b| a > b), extreme(|a, b| a < b));
        json!({
            "id": format!("{}-{}-{}-{}-{}", self.model, self.id, row.neuron, row.side, row.rank),
            "modelId": self.model, "layer": self.id, "index": row.neuron.to_string(),
            "creatorId": self.creator, "dataSource": null,
            "tokens": row.words, "values": values,
            "maxValue": values[most], "maxValueTokenIndex": most, "minValue": values[least],
            "dfaValues": [], "dfaMaxValue": null, "dfaTargetIndex": null,
            "binContains": null, "binMin": null, "binMax": null,
        })
    }

    /// `source.jsonl`: the source itself.
    fn write(&self, folder: &Path, manifest: &Manifest) -> Result<()> {
        let corpus: Vec<&str> =
            manifest.corpus.files.iter().map(|file| file.name.as_str()).collect();
        let line = json!({
            "id": self.id, "modelId": self.model, "setName": self.site.rsplit('.').next(),
            "visibility": "PRIVATE", "dataset": corpus.join(", "), "creatorId": self.creator,
            "num_prompts": manifest.corpus.counts.documents, "num_tokens_in_prompt": null,
            "hfRepoId": null, "hfFolderId": null,
        });
        let path = folder.join("source.jsonl");
        write_bytes_atomic(&path, format!("{line}\n").as_bytes())
    }
}

/// Columns that no run fills.
const UNKNOWN: [&str; 16] = [
    "logits_hist_data_bar_heights",
    "logits_hist_data_bar_values",
    "neuron_alignment_indices",
    "neuron_alignment_l1",
    "neuron_alignment_values",
    "correlated_neurons_indices",
    "correlated_neurons_l1",
    "correlated_neurons_pearson",
    "decoder_weights_dist",
    "neg_str",
    "neg_values",
    "pos_str",
    "pos_values",
    "topkCosSimIndices",
    "topkCosSimValues",
    "vector",
];

/// `batch-N.jsonl.gz` for each 1024 neurons from 0 on; a batch without lines has no file.
fn write_batches(folder: &Path, lines: &[(i32, Value)]) -> Result<()> {
    disk::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    let batch = |index: i32| usize::try_from(index).unwrap_or_default() / BATCH;
    let mut batches: BTreeMap<usize, Vec<&Value>> = BTreeMap::new();
    for (index, line) in lines {
        batches.entry(batch(*index)).or_default().push(line);
    }
    for (number, lines) in batches {
        let path = folder.join(format!("batch-{number}.jsonl.gz"));
        let io = || Error::io(&path, "write");
        let file = BufWriter::new(File::create(&path).map_err(io())?);
        let mut packed = GzEncoder::new(file, Compression::new(LEVEL));
        for line in lines {
            writeln!(packed, "{line}").map_err(io())?;
        }
        let file = packed.finish().map_err(io())?;
        let file = file.into_inner().map_err(|error| io()(error.into_error()))?;
        file.sync_all().map_err(Error::io(&path, "sync"))?;
    }
    Ok(())
}
