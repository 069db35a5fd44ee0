//! How much each layer changes the stream: the mean cosine of its input and its output over all
//! tokens of a text (Sajjad et al. 2023, arXiv 2004.03844, section 3.5, for contribution-based
//! dropping). A layer that hardly turns the stream has a cosine near 1.

use std::collections::{BTreeMap, BTreeSet};

use crate::capture::collect::Collector;
use crate::config::{Policy, Pool};
use crate::corpus::align::RowRules;
use crate::corpus::batch::{Batch, pack};
use crate::corpus::config::CorpusConfig;
use crate::corpus::labels::LabelIndex;
use crate::corpus::read::{Columns, Documents};
use crate::corpus::stream::tokenize_documents;
use crate::device::forward::{Forward, ForwardInput, Limits, SiteWork};
use crate::device::ops::Ops;
use crate::engine::tokenizer::open_tokenizer;
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};
use crate::model::Model;

/// Tokens of a device call.
const BATCH_TOKENS: usize = 2048;
/// Documents tokenised together.
const DOCUMENTS: usize = 64;

/// Mean cosine of `resid_pre` and `resid_post` for each layer, over every token of the corpus,
/// special ones included. A token whose stream is 0 on either side has cosine 0.
pub fn contributions<O: Ops>(ops: O, model: &Model, corpus: &CorpusConfig) -> Result<Vec<f64>> {
    let longest = model.spec.sequence_limit(corpus.max_tokens);
    let limits = Limits { tokens: BATCH_TOKENS.max(longest), sequence: longest };
    let mut forward = Forward::new(ops, model, limits, &sites(model))?;
    let mut sums = vec![0.0; model.spec.layers];
    let mut tokens = 0;
    batches(model, corpus, limits, |batch| {
        tokens += batch.tokens.len();
        add(&mut forward, batch, &mut sums)
    })?;
    if tokens == 0 {
        let path = corpus.files.first().cloned().unwrap_or_default();
        return Err(Error::input(path, "no text", "give a file with one document a line"));
    }
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 tokens")]
    let count = tokens as f64;
    Ok(sums.into_iter().map(|sum| sum / count).collect())
}

fn layer_sites(layer: usize) -> [Site; 2] {
    let layer = u32::try_from(layer).expect("layers are at most ten thousand");
    [SiteKind::ResidPre, SiteKind::ResidPost].map(|kind| Site::of_layer(layer, kind))
}

fn sites(model: &Model) -> BTreeSet<Site> {
    (0..model.spec.layers).flat_map(layer_sites).collect()
}

/// Reads the corpus once, a few documents at a time.
fn batches(
    model: &Model,
    corpus: &CorpusConfig,
    limits: Limits,
    mut each: impl FnMut(&Batch) -> Result<()>,
) -> Result<()> {
    let tokenizer = open_tokenizer(model, corpus.add_bos)?;
    let rules = RowRules {
        pool: Pool::None,
        special_tokens: Policy::Include,
        first_position: true,
        max_tokens: Some(limits.sequence),
        long: corpus.long,
    };
    let mut reader = Documents::open(corpus, Columns::only([] as [&str; 0]))?;
    let labels = LabelIndex::default();
    loop {
        let mut documents = Vec::new();
        while documents.len() < DOCUMENTS {
            match reader.advance()? {
                Some(document) => documents.push(document),
                None => break,
            }
        }
        if documents.is_empty() {
            return reader.judge();
        }
        let (sequences, _) = tokenize_documents(&documents, &tokenizer, &labels, &rules)?;
        for batch in pack(&sequences, limits.tokens) {
            each(&batch)?;
        }
    }
}

/// Adds the cosines of a batch to the sum of each layer.
fn add<O: Ops>(forward: &mut Forward<O>, batch: &Batch, sums: &mut [f64]) -> Result<()> {
    let mut collector = Collector::default();
    let wanted = (0..sums.len()).flat_map(layer_sites).collect();
    let work = &mut SiteWork { wanted: &wanted, edits: &BTreeMap::new(), visitor: &mut collector };
    forward.run(ForwardInput::of(batch), work)?;
    let width = forward.spec().width;
    for (layer, sum) in sums.iter_mut().enumerate() {
        let [before, after] = layer_sites(layer).map(|site| &collector.sites[&site]);
        let rows = before.chunks_exact(width).zip(after.chunks_exact(width));
        *sum += rows.map(|(a, b)| cosine(a, b)).sum::<f64>();
    }
    Ok(())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let size = (dot(a, a) * dot(b, b)).sqrt();
    if size > 0.0 { dot(a, b) / size } else { 0.0 }
}
