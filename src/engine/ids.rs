//! `extract --ids`: runs a padded batch of token ids and keeps every site asked for, on the grid
//! the ids came in.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::array::{Array, Values};
use super::fleet::{Device, Fleet, Setup, Slot};
use super::ids_gradient::{PREFIX, take_gradients, wanted_gradients};
use super::loss::{Targets, check_labels, losses};
use super::padded::PackedIds;
pub use super::padded::PaddedIds;
use crate::capture::collect::Collector;
use crate::capture::intervention::Intervention;
use crate::capture::plan::{Edits, Plan};
use crate::device::forward::{Forward, SiteWork};
use crate::device::gradient_ops::GradientOps;
use crate::device::ops::{Edit, Ops};
use crate::device::{position_rows, relative_bias};
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};
use crate::model::{Model, ModelSpec, Param, PositionSpec};

/// What `extract --ids` asks for.
#[derive(Clone, Debug)]
pub struct IdsRequest {
    /// Site names and globs; `loss`, the names of constants, and `grad.` before a site may be among
    /// them.
    pub sites: Vec<String>,
    /// Edits.
    pub intervention: Option<Intervention>,
}

/// Names beside the sites that `extract --ids` knows.
const EXTRA: [&str; 5] =
    ["loss", "position_rows", "rope_inv_freq", "alibi_slopes", "position_bias"];

/// Runs the ids on a device and gives every array asked for, by name. `logits` come with every model
/// that has a head.
pub fn extract_ids<O: GradientOps + Clone>(
    ops: O,
    model: &Model,
    ids: &PaddedIds,
    request: &IdsRequest,
) -> Result<BTreeMap<String, Array>> {
    let job = Job::new(model, ids, request)?;
    let mut forward = Forward::new(ops.clone(), model, job.run.limits(), &job.read())?;
    let runs = job.runs(&mut forward)?;
    drop(forward);
    job.arrays(&runs, || Ok(ops.clone()))
}

/// As [`extract_ids`], on the first device that can: in smaller parts where its memory is short.
pub fn extract_ids_on<O: Device + GradientOps>(
    slots: Vec<Slot<'_, O>>,
    model: &Model,
    ids: &PaddedIds,
    request: &IdsRequest,
) -> Result<BTreeMap<String, Array>> {
    let job = Job::new(model, ids, request)?;
    let read = job.read();
    let mut fleet = Fleet::new(slots, Setup::forward(model, job.run.limits(), &read));
    let runs = fleet.on_one(|forward| job.runs(forward))?;
    job.arrays(&runs, || fleet.reopen())
}

/// What is asked, checked.
pub(super) struct Job<'a> {
    pub(super) model: &'a Model,
    pub(super) ids: &'a PaddedIds,
    request: &'a IdsRequest,
    wanted: BTreeSet<Site>,
    /// Sites whose gradients are asked for.
    pub(super) gradients: BTreeSet<Site>,
    /// One for each run of the ids.
    plans: Vec<Plan>,
    pub(super) run: PackedIds,
}

/// What one run of the ids gave.
struct Run {
    /// What its arrays are called before their own name.
    prefix: String,
    edits: Edits,
    sites: BTreeMap<Site, Vec<f32>>,
}

impl<'a> Job<'a> {
    fn new(model: &'a Model, ids: &'a PaddedIds, request: &'a IdsRequest) -> Result<Self> {
        let spec = &model.spec;
        let wanted = wanted_sites(spec, &request.sites)?;
        let gradients = wanted_gradients(spec, &request.sites)?;
        let logits = Site::global(SiteKind::Logits);
        if let (Some(labels), true) = (&ids.labels, wanted.contains(&logits)) {
            let scored = if spec.logits_per_sequence() { ids.rows } else { ids.rows * ids.length };
            check_labels(spec, labels, scored, spec.site_width(logits))?;
        }
        let run = PackedIds::new(spec, ids)?;
        let plans = match &request.intervention {
            Some(intervention) => intervention.plans(spec, Some(&ids.grid()))?,
            None => vec![Plan::default()],
        };
        let job = Self { model, ids, request, wanted, gradients, plans, run };
        if !job.gradients.is_empty() {
            job.scored()?;
        }
        Ok(job)
    }

    /// The sites that some run reads.
    fn read(&self) -> BTreeSet<Site> {
        let before = self.plans.iter().flat_map(Plan::reads);
        self.wanted.iter().copied().chain(before).collect()
    }

    /// The run of each arm, after one without edits where an arm writes what that gives.
    fn runs<O: Ops>(&self, forward: &mut Forward<O>) -> Result<Vec<Run>> {
        let spec = &self.model.spec;
        let reads: BTreeSet<Site> = self.plans.iter().flat_map(Plan::reads).collect();
        let clean = match reads.is_empty() {
            true => BTreeMap::new(),
            false => self.sites(forward, &reads, &Edits::new())?,
        };
        let run = |plan: &Plan| {
            let edits = plan.edits(spec, &clean);
            let sites = self.sites(forward, &self.wanted, &edits)?;
            Ok(Run { prefix: plan.prefix.clone(), edits, sites })
        };
        self.plans.iter().map(run).collect()
    }

    /// These sites of all rows; those that do not fit into one batch are run one part after the
    /// other.
    fn sites<O: Ops>(
        &self,
        forward: &mut Forward<O>,
        wanted: &BTreeSet<Site>,
        edits: &Edits,
    ) -> Result<BTreeMap<Site, Vec<f32>>> {
        let mut all: BTreeMap<Site, Vec<f32>> = BTreeMap::new();
        for rows in self.run.parts(forward.limits().tokens) {
            let part = self.run.part(rows.clone());
            let tokens = part.first..part.first + part.tokens.len();
            let edits = &edits_within(&self.model.spec, edits, (rows, tokens));
            let mut collector = Collector::default();
            let mut work = SiteWork { wanted, edits, visitor: &mut collector };
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

    /// Rows of the logits that the loss scores, and their targets.
    pub(super) fn scored(&self) -> Result<Vec<(usize, u32)>> {
        let (spec, ids) = (&self.model.spec, self.ids);
        let Some(targets) = targets(ids).of(spec) else {
            let what = "no loss can be had: the model has no head, or the file no labels";
            let remedy = "use a checkpoint with its head, and labels in the ids file";
            return Err(Error::config("--sites grad.*", what, remedy));
        };
        let target = |row: usize, at: usize| Some((row, u32::try_from(targets[at]?).ok()?));
        Ok(match spec.logits_per_sequence() {
            true => (0..ids.rows).filter_map(|row| target(row, row)).collect(),
            false => ids.real().iter().enumerate().filter_map(|(t, &at)| target(t, at)).collect(),
        })
    }

    /// What was asked for, on the grid of the ids; gradients are taken on a device that is free.
    fn arrays<O: GradientOps>(
        &self,
        runs: &[Run],
        open: impl FnMut() -> Result<O>,
    ) -> Result<BTreeMap<String, Array>> {
        let (spec, ids) = (&self.model.spec, self.ids);
        let matches = |name: &str| {
            let pattern = |glob: &String| glob::Pattern::new(glob).is_ok_and(|g| g.matches(name));
            self.request.sites.iter().any(pattern)
        };
        let mut arrays = BTreeMap::new();
        for Run { prefix, sites, .. } in runs {
            for (site, values) in sites {
                arrays.insert(format!("{prefix}{site}"), on_grid(spec, ids, *site, values));
            }
            if !matches("loss") && ids.labels.is_none() {
                continue;
            }
            let logits = arrays.get(&format!("{prefix}logits"));
            match logits.and_then(|logits| loss_array(spec, ids, logits)) {
                Some(loss) => {
                    arrays.insert(format!("{prefix}loss"), loss);
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
        let edits: Vec<&Edits> = runs.iter().map(|run| &run.edits).collect();
        for (run, gradients) in runs.iter().zip(take_gradients(self, &edits, open)?) {
            let named = |(site, values): (Site, Vec<f32>)| {
                let name = format!("{}{PREFIX}{site}", run.prefix);
                (name, on_grid(spec, ids, site, &values))
            };
            arrays.extend(gradients.into_iter().map(named));
        }
        Ok(arrays)
    }
}

/// The edits of some rows of a batch, which are these tokens, counted from the first of them.
pub(super) fn edits_within(
    spec: &ModelSpec,
    edits: &Edits,
    (rows, tokens): (Range<usize>, Range<usize>),
) -> Edits {
    let of_site = |(&site, edits): (&Site, &Vec<Edit>)| {
        let range = if spec.row_per_sequence(site) { &rows } else { &tokens };
        let within = |edit: &Edit| edit.within(range.clone(), spec.site_width(site));
        (site, edits.iter().filter_map(within).collect())
    };
    edits.iter().map(of_site).collect()
}

/// Every site that a pattern names, and `logits` where there is a head. A pattern may also name
/// one of [`EXTRA`] alone, or gradients.
fn wanted_sites(spec: &ModelSpec, patterns: &[String]) -> Result<BTreeSet<Site>> {
    let mut wanted = BTreeSet::new();
    for pattern in patterns.iter().filter(|pattern| !pattern.starts_with(PREFIX)) {
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

fn targets(ids: &PaddedIds) -> Targets<'_> {
    Targets {
        input_ids: &ids.input_ids,
        attention_mask: &ids.attention_mask,
        labels: ids.labels.as_deref(),
        length: ids.length,
    }
}

fn loss_array(spec: &ModelSpec, ids: &PaddedIds, logits: &Array) -> Option<Array> {
    let Values::F32(logits) = &logits.values else { return None };
    let loss = losses(spec, logits, targets(ids))?;
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
