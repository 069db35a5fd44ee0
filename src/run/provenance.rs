//! `manifest.json`: what ran, on what, and what came of it.

use super::folder::RunFolder;
use super::prepare::Prepared;
use super::rankings::Ranked;
use super::{PassFacts, rate};
use crate::accumulate::summary::SiteSummary;
use crate::artifact::machine::{Machine, environment, peak_memory};
use crate::artifact::manifest::{
    ClassFacts, CorpusFacts, FORMAT, FileFacts, LabelFacts, Manifest, ModelFacts, PlanFacts,
    Program, SiteFacts, Timings, hash_json,
};
use crate::artifact::tables::{CONTEXTS, HISTOGRAMS, NEURONS, RANKINGS, TOP_WORDS};
use crate::config::ModelConfig;
use crate::corpus::block::Counts;
use crate::error::Result;
use crate::model::Model;

/// Writes the manifest of a finished run.
pub(super) fn write_manifest(
    prepared: &Prepared,
    folder: &RunFolder,
    (counts, summaries, facts): (Counts, &[SiteSummary], &PassFacts),
    ranked: &Ranked,
) -> Result<()> {
    let config = serde_json::to_value(&prepared.config).expect("a run file is plain data");
    let words = ranked.has_words().then_some(TOP_WORDS);
    let outputs = [NEURONS, RANKINGS, CONTEXTS, HISTOGRAMS].into_iter().chain(words);
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        run_id: folder.run_id().to_owned(),
        electrode: Program::default(),
        config_hash: hash_json(&prepared.config.identity()),
        config,
        model: model(prepared, summaries)?,
        corpus: CorpusFacts { files: corpus_files(prepared), counts },
        labels: labels(prepared, summaries),
        sites: summaries
            .iter()
            .map(|summary| SiteFacts {
                site: summary.site.to_string(),
                neurons: summary.neurons as u64,
            })
            .collect(),
        plan: PlanFacts {
            blocks: u64::from(prepared.blocks()),
            hash: prepared.plan.hash(),
            done: u64::from(facts.done),
        },
        machine: Machine::here(rayon::current_num_threads()),
        devices: prepared.devices.facts(),
        timings: timings(folder, facts),
        environment: environment(),
        notes: notes(ranked, facts),
        outputs: outputs
            .map(|name| FileFacts::output(folder.path(), name))
            .collect::<Result<_>>()?,
    };
    manifest.write(folder.path())
}

/// What a reader must know of the rankings, and of the way to them.
fn notes(ranked: &Ranked, facts: &PassFacts) -> Vec<String> {
    let partial = facts.partial.iter().cloned();
    partial.chain(ranked.notes.iter().cloned()).chain(facts.lost.iter().map(lost_note)).collect()
}

/// What a reader must know of a device that was given up.
pub(super) fn lost_note(name: &String) -> String {
    format!("device {name} failed on the way; others did its blocks")
}

/// How long it took. An attempt that found every block done has read nothing: the rate of the one
/// that did the work stays.
fn timings(folder: &RunFolder, facts: &PassFacts) -> Timings {
    let earlier = Manifest::read(folder.path()).ok().map(|manifest| manifest.timings);
    match earlier.filter(|earlier| facts.tokens == 0 && earlier.tokens > 0) {
        Some(earlier) => earlier,
        None => Timings {
            start: facts.start.clone(),
            seconds: facts.clock.elapsed().as_secs_f64(),
            tokens: facts.tokens,
            tokens_per_second: rate(facts),
            peak_memory_bytes: peak_memory(),
        },
    }
}

fn model(prepared: &Prepared, summaries: &[SiteSummary]) -> Result<ModelFacts> {
    let neurons = summaries.iter().map(|summary| summary.neurons as u64).sum();
    model_facts((&prepared.model, &prepared.model_files), &prepared.config.model, neurons)
}

/// Which model, of which so many neurons were asked.
pub(super) fn model_facts(
    (model, files): (&Model, &[(String, u64, String)]),
    config: &ModelConfig,
    neurons: u64,
) -> Result<ModelFacts> {
    let facts = files.iter().map(|(name, bytes, hash)| FileFacts {
        name: name.clone(),
        bytes: *bytes,
        sha256: Some(hash.clone()),
        blake3: None,
    });
    let tokenizer = files.iter().find(|(name, ..)| name == "tokenizer.json");
    Ok(ModelFacts {
        path: config.path.clone(),
        files: facts.collect(),
        dtype: format!("{:?}", config.dtype).to_lowercase(),
        architecture: model.spec.architecture.clone(),
        layers: model.spec.layers as u64,
        width: model.spec.width as u64,
        neurons,
        parameters: model.cost(1)?.parameters,
        tokenizer_hash: tokenizer.map(|(_, _, hash)| hash.clone()),
    })
}

pub(super) fn corpus_files(prepared: &Prepared) -> Vec<FileFacts> {
    let facts = |file: &crate::corpus::plan::FilePlan| FileFacts {
        name: file.name.clone(),
        bytes: file.bytes,
        sha256: None,
        blake3: Some(file.hash.clone()),
    };
    prepared.plan.files.iter().map(facts).collect()
}

fn labels(prepared: &Prepared, summaries: &[SiteSummary]) -> Vec<LabelFacts> {
    let rows = |group: usize| summaries.first().map_or(0, |summary| summary.rows[group + 1]);
    let facts = |column: &crate::corpus::block::Column| LabelFacts {
        column: column.name.clone(),
        min_count: column.min_count,
        classes: (column.first_group as usize..)
            .zip(&column.classes)
            .map(|(group, name)| ClassFacts {
                name: name.clone(),
                rows: rows(group),
                ranked: rows(group) >= column.min_count.max(1),
            })
            .collect(),
    };
    prepared.plan.labels.columns.iter().map(facts).collect()
}
