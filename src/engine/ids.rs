//! `extract --ids`: runs a padded batch of token ids and keeps every site asked for, on the grid
//! the ids came in.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::array::{Array, Values};
use super::fleet::{Device, Fleet, Setup, Slot};
use super::loss::{Targets, check_labels, losses};
use super::padded::PackedIds;
pub use super::padded::PaddedIds;
use crate::capture::collect::Collector;
use crate::capture::intervention::Intervention;
use crate::device::forward::{Forward, SiteWork};
use crate::device::ops::{Edit, Ops};
use crate::device::{position_rows, relative_bias};
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};
use crate::model::{Model, ModelSpec, Param, PositionSpec};

/// What `extract --ids` asks for.
#[derive(Clone, Debug)]
pub struct IdsRequest {
    /// Site names and globs; `loss` and the names of constants may be among them.
    pub sites: Vec<String>,
    /// Edits.
    pub intervention: Option<Intervention>,
}

/// Names beside the sites that `extract --ids` knows.
const EXTRA: [&str; 5] =
    ["loss", "position_rows", "rope_inv_freq", "alibi_slopes", "position_bias"];

/// Runs the ids on a device and gives every array asked for, by name. `logits` come with every model
/// that has a head.
pub fn extract_ids<O: Ops>(
    ops: O,
    model: &Model,
    ids: &PaddedIds,
    request: &IdsRequest,
) -> Result<BTreeMap<String, Array>> {
    let job = Job::new(model, ids, request)?;
    let mut forward = Forward::new(ops, model, job.run.limits(), &job.wanted)?;
    let sites = job.sites(&mut forward)?;
    job.arrays(&sites)
}

/// As [`extract_ids`], on the first device that can: in smaller parts where its memory is short.
pub fn extract_ids_on<O: Device>(
    slots: Vec<Slot<'_, O>>,
    model: &Model,
    ids: &PaddedIds,
    request: &IdsRequest,
) -> Result<BTreeMap<String, Array>> {
    let job = Job::new(model, ids, request)?;
    let setup = Setup { model, limits: job.run.limits(), wanted: &job.wanted };
    let sites = Fleet::new(slots, setup).on_one(|forward| job.sites(forward))?;
    job.arrays(&sites)
}

/// What is asked, checked.
struct Job<'a> {
    model: &'a Model,
    ids: &'a PaddedIds,
    request: &'a IdsRequest,
    wanted: BTreeSet<Site>,
    edits: BTreeMap<Site, Vec<Edit>>,
    run: PackedIds,
}

impl<'a> Job<'a> {
    fn new(model: &'a Model, ids: &'a PaddedIds, request: &'a IdsRequest) -> Result<Self> {
        let spec = &model.spec;
        let wanted = wanted_sites(spec, &request.sites)?;
        let logits = Site::global(SiteKind::Logits);
        if let (Some(labels), true) = (&ids.labels, wanted.contains(&logits)) {
            let scored = if spec.logits_per_sequence() { ids.rows } else { ids.rows * ids.length };
            check_labels(spec, labels, scored, spec.site_width(logits))?;
        }
        let edits = match &request.intervention {
            Some(intervention) => {
                let all: BTreeSet<Site> = spec.sites().into_iter().collect();
                let width = |site| all.contains(&site).then(|| spec.site_width(site));
                intervention.resolve(width, ids)?
            }
            None => BTreeMap::new(),
        };
        let run = PackedIds::new(spec, ids)?;
        Ok(Self { model, ids, request, wanted, edits, run })
    }

    /// Every wanted site of all rows; those that do not fit into one batch are run one part after
    /// the other.
    fn sites<O: Ops>(&self, forward: &mut Forward<O>) -> Result<BTreeMap<Site, Vec<f32>>> {
        let mut all: BTreeMap<Site, Vec<f32>> = BTreeMap::new();
        for rows in self.run.parts(forward.limits().tokens) {
            let part = self.run.part(rows);
            let edits = edits_within(&self.edits, part.first..part.first + part.tokens.len());
            let mut collector = Collector::default();
            let mut work =
                SiteWork { wanted: &self.wanted, edits: &edits, visitor: &mut collector };
            forward.run(part.input(), &mut work)?;
            for (site, values) in collector.sites {
                match all.entry(site) {
                    Entry::Vacant(entry) => drop(entry.insert(values)),
                    Entry::Occupied(mut entry) => entry.get_mut().extend(values),
                }
            }
        }
        Ok(all)
    }

    /// What was asked for, on the grid of the ids.
    fn arrays(&self, sites: &BTreeMap<Site, Vec<f32>>) -> Result<BTreeMap<String, Array>> {
        let (spec, ids) = (&self.model.spec, self.ids);
        let matches = |name: &str| {
            let pattern = |glob: &String| glob::Pattern::new(glob).is_ok_and(|g| g.matches(name));
            self.request.sites.iter().any(pattern)
        };
        let mut arrays = BTreeMap::new();
        for (site, values) in sites {
            arrays.insert(site.to_string(), on_grid(spec, ids, *site, values));
        }
        if matches("loss") || ids.labels.is_some() {
            match loss_array(spec, ids, &arrays) {
                Some(loss) => {
                    arrays.insert("loss".into(), loss);
                }
                None if self.request.sites.iter().any(|site| site == "loss") => {
                    let what = "no loss can be had: the model has no head, or the file no labels";
                    return Err(Error::config("--sites loss", what, "add labels to the ids file"));
                }
                None => {}
            }
        }
        let constants = constants(self.model, &self.run, ids)?;
        arrays.extend(constants.into_iter().filter(|(name, _)| matches(name)));
        Ok(arrays)
    }
}

/// The edits of some tokens of a batch, counted from the first of them.
fn edits_within(
    edits: &BTreeMap<Site, Vec<Edit>>,
    range: Range<usize>,
) -> BTreeMap<Site, Vec<Edit>> {
    let here = |token: &u32| range.contains(&(*token as usize));
    let shift = |token: &u32| token - index(range.start);
    let within = |edit: &Edit| {
        let tokens = edit.tokens.as_ref();
        let tokens: Option<Vec<u32>> =
            tokens.map(|tokens| tokens.iter().filter(|token| here(token)).map(shift).collect());
        let none = tokens.as_ref().is_some_and(Vec::is_empty);
        (!none).then(|| Edit { tokens, ..edit.clone() })
    };
    edits.iter().map(|(site, edits)| (*site, edits.iter().filter_map(within).collect())).collect()
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("a batch has fewer than 2^32 tokens")
}

/// Every site that a pattern names, and `logits` where there is a head. A pattern may also name
/// one of [`EXTRA`] alone.
fn wanted_sites(spec: &ModelSpec, patterns: &[String]) -> Result<BTreeSet<Site>> {
    let mut wanted = BTreeSet::new();
    for pattern in patterns {
        let glob = glob::Pattern::new(pattern).ok();
        let names_extra = glob.is_some_and(|glob| EXTRA.iter().any(|name| glob.matches(name)));
        match spec.select_sites(std::slice::from_ref(pattern)) {
            Ok(sites) => wanted.extend(sites),
            Err(_) if names_extra => {}
            Err(error) => return Err(error),
        }
    }
    let logits = Site::global(SiteKind::Logits);
    if spec.has_site(logits) {
        wanted.insert(logits);
    }
    Ok(wanted)
}

/// Spreads packed rows out over the padded grid, pads 0.
fn on_grid(spec: &ModelSpec, ids: &PaddedIds, site: Site, values: &[f32]) -> Array {
    let (rows, length) = (ids.rows, ids.length);
    let attention = &spec.attention;
    match site.kind {
        SiteKind::AttnProbs => probabilities(attention.heads, ids, values),
        SiteKind::Pooled => {
            Array { shape: vec![rows, values.len() / rows], values: Values::F32(values.to_vec()) }
        }
        SiteKind::Logits
            if values.len() == rows * spec.site_width(site) && spec.logits_per_sequence() =>
        {
            Array { shape: vec![rows, values.len() / rows], values: Values::F32(values.to_vec()) }
        }
        kind => {
            let real = ids.real();
            let width = values.len() / real.len();
            let mut out = vec![0.0; rows * length * width];
            for (row, at) in values.chunks_exact(width).zip(real) {
                out[at * width..][..width].copy_from_slice(row);
            }
            let mut shape = vec![rows, length];
            match kind {
                SiteKind::HeadOut => shape.extend([attention.heads, attention.head_width]),
                SiteKind::Logits if width == 1 => {}
                _ => shape.push(width),
            }
            Array { shape, values: Values::F32(out) }
        }
    }
}

/// `[B, H, S, S]`.
fn probabilities(heads: usize, ids: &PaddedIds, values: &[f32]) -> Array {
    let (rows, length) = (ids.rows, ids.length);
    let mut out = vec![0.0; rows * heads * length * length];
    let mut from = 0;
    for (row, mask) in ids.attention_mask.chunks_exact(length).enumerate() {
        let first = mask.iter().position(|&m| m == 1).expect("checked");
        let n = mask.iter().filter(|&&m| m == 1).count();
        for head in 0..heads {
            for query in 0..n {
                let at = ((row * heads + head) * length + first + query) * length + first;
                out[at..at + n].copy_from_slice(&values[from..from + n]);
                from += n;
            }
        }
    }
    Array { shape: vec![rows, heads, length, length], values: Values::F32(out) }
}

fn loss_array(
    spec: &ModelSpec,
    ids: &PaddedIds,
    arrays: &BTreeMap<String, Array>,
) -> Option<Array> {
    let Values::F32(logits) = &arrays.get("logits")?.values else { return None };
    let targets = Targets {
        input_ids: &ids.input_ids,
        attention_mask: &ids.attention_mask,
        labels: ids.labels.as_deref(),
        length: ids.length,
    };
    let loss = losses(spec, logits, targets)?;
    let shape =
        if spec.logits_per_sequence() { vec![ids.rows] } else { vec![ids.rows, ids.length] };
    Some(Array { shape, values: Values::F32(loss) })
}

/// What a model adds or looks up by position: the same for every text.
fn constants(model: &Model, run: &PackedIds, ids: &PaddedIds) -> Result<BTreeMap<String, Array>> {
    let spec = &model.spec;
    let mut arrays = BTreeMap::new();
    let mut put = |name: &str, shape: Vec<usize>, values: Values| {
        arrays.insert(name.to_owned(), Array { shape, values });
    };
    let positions = run
        .positions
        .clone()
        .unwrap_or_else(|| run.starts.windows(2).flat_map(|pair| 0..pair[1] - pair[0]).collect());
    if let Some(rows) = position_rows(spec, &run.tokens, &run.starts, &positions) {
        let mut grid = vec![0; ids.input_ids.len()];
        for (at, row) in ids.real().into_iter().zip(rows) {
            grid[at] = i64::from(row);
        }
        put("position_rows", vec![ids.rows, ids.length], Values::I64(grid));
    }
    match &spec.positions {
        PositionSpec::Rotary { inv_freq } => {
            put("rope_inv_freq", vec![inv_freq.len()], Values::F32(inv_freq.clone()));
        }
        PositionSpec::Alibi { slopes } => {
            put("alibi_slopes", vec![slopes.len()], Values::F32(slopes.clone()));
        }
        PositionSpec::Relative { .. } => {
            let table = model.tensor(Param::RelativeBias)?.data;
            let (heads, s) = (spec.attention.heads, ids.length);
            let spread = relative_bias(spec, &table, s);
            let cell = |head: usize, query: usize, key: usize| {
                spread[head * (2 * s - 1) + key + s - 1 - query]
            };
            let bias = (0..heads * s * s).map(|i| cell(i / (s * s), i / s % s, i % s)).collect();
            put("position_bias", vec![heads, s, s], Values::F32(bias));
        }
        _ => {}
    }
    Ok(arrays)
}
