//! `extract --ids --sites grad.*`: gradients of the sum of the losses at the sites asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::ids::{Job, edits_within};
use super::padded::Part;
use crate::capture::collect::Collector;
use crate::capture::plan::Edits;
use crate::device::backward::{Differentiable, GradientWork, has_gradient};
use crate::device::forward::{Limits, SiteWork};
use crate::device::gradient_ops::{GradientOps, Metric};
use crate::device::ops::Ops;
use crate::device::score::Scoring;
use crate::error::{Error, Result};
use crate::id::Site;
use crate::model::ModelSpec;

/// What the name of a gradient begins with.
pub(super) const PREFIX: &str = "grad.";
/// Tokens of a part: what all layers hold is kept for the way back.
const PART_TOKENS: usize = 2048;

/// Gradients of one run of the ids, all rows.
pub(super) type Gradients = BTreeMap<Site, Vec<f32>>;

/// The sites whose gradients these patterns name, `grad.layers.*.mlp_act`.
pub(super) fn wanted_gradients(spec: &ModelSpec, patterns: &[String]) -> Result<BTreeSet<Site>> {
    let mut wanted = BTreeSet::new();
    for pattern in patterns.iter().filter_map(|pattern| pattern.strip_prefix(PREFIX)) {
        let sites = spec.select_sites(&[pattern.to_owned()])?;
        let before = wanted.len();
        wanted.extend(sites.iter().filter(|&&site| has_gradient(site)));
        if wanted.len() == before && !sites.iter().any(|site| wanted.contains(site)) {
            let remedy = "ask for embeddings, final_norm, or a site of a layer but attn_probs";
            let place = format!("--sites {PREFIX}{pattern}");
            return Err(Error::config(place, "no gradient can be had there", remedy));
        }
    }
    Ok(wanted)
}

/// The gradients that a job asks for, for each run of it: in smaller and smaller parts of the rows
/// until there is room for the way back.
pub(super) fn take_gradients<O: GradientOps>(
    job: &Job<'_>,
    runs: &[&Edits],
    mut open: impl FnMut() -> Result<O>,
) -> Result<Vec<Gradients>> {
    if job.gradients.is_empty() {
        return Ok(Vec::new());
    }
    let Limits { tokens, sequence } = job.run.limits();
    let mut limits = Limits { tokens: tokens.min(PART_TOKENS.max(sequence)), sequence };
    loop {
        let error = match in_parts(open()?, job, (runs, limits)) {
            Err(error @ Error::DeviceMemory { .. }) => error,
            other => return other,
        };
        if limits.tokens <= sequence {
            return Err(error);
        }
        limits.tokens = (limits.tokens / 2).max(sequence);
        let tokens = limits.tokens;
        tracing::warn!(%error, tokens, "gradients go on with smaller batches");
    }
}

fn in_parts<O: GradientOps>(
    ops: O,
    job: &Job<'_>,
    (runs, limits): (&[&Edits], Limits),
) -> Result<Vec<Gradients>> {
    let spec = &job.model.spec;
    let scored = job.scored()?;
    let mut model = Differentiable::new(ops, job.model, limits, (&BTreeSet::new(), true))?;
    let mut all = Vec::new();
    for edits in runs {
        let mut gradients = Gradients::new();
        for rows in job.run.parts(limits.tokens) {
            let part = job.run.part(rows.clone());
            let tokens = part.first..part.first + part.tokens.len();
            let edits = edits_within(spec, edits, (rows.clone(), tokens.clone()));
            let range = if spec.logits_per_sequence() { rows } else { tokens };
            let found =
                of_part(&mut model, &part, (&job.gradients, &edits), within(&scored, range))?;
            for &site in &job.gradients {
                let width = spec.site_width(site);
                // Where nothing is scored nothing is visited: its gradient is 0.
                let zeros = || vec![0.0; part.tokens.len() * width];
                let values = found.get(&site).cloned().unwrap_or_else(zeros);
                gradients.entry(site).or_default().extend(values);
            }
        }
        all.push(gradients);
    }
    Ok(all)
}

/// Scored rows and their targets in a range, counted from its start.
fn within(scored: &[(usize, u32)], range: Range<usize>) -> (Vec<u32>, Vec<u32>) {
    let index = |row: usize| u32::try_from(row).expect("a batch has fewer than 2^32 tokens");
    let here = scored.iter().filter(|(row, _)| range.contains(row));
    here.map(|&(row, target)| (index(row - range.start), target)).unzip()
}

fn of_part<O: GradientOps>(
    model: &mut Differentiable<O>,
    part: &Part<'_>,
    (wanted, edits): (&BTreeSet<Site>, &Edits),
    (rows, targets): (Vec<u32>, Vec<u32>),
) -> Result<Gradients> {
    let mut collector = Collector::default();
    if rows.is_empty() {
        return Ok(collector.sites);
    }
    let input = part.input();
    let nothing = BTreeSet::new();
    model.run(input, &mut SiteWork { wanted: &nothing, edits, visitor: &mut collector })?;
    let (rows, targets) = (&rows[..], &targets[..]);
    let scoring = Scoring { rows, targets, foils: None, reference: None, keep: None };
    model.score(input.starts, scoring, Some((Metric::Loss, &vec![1.0; rows.len()])))?;
    let seeds = BTreeMap::<Site, <O as Ops>::Tensor>::new();
    let mut work = GradientWork { wanted, edits, seeds: &seeds, visitor: &mut collector };
    model.back(input, &mut work)?;
    Ok(collector.sites)
}
