//! `extract --ids`: runs a padded batch of token ids and keeps every site asked for, on the grid
//! the ids came in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::array::{Array, Values};
use super::loss::{Targets, check_labels, losses};
use crate::capture::collect::Collector;
use crate::capture::intervention::{Intervention, Locate};
use crate::device::forward::{Forward, ForwardInput, Limits, SiteWork};
use crate::device::ops::Ops;
use crate::device::{position_rows, relative_bias};
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};
use crate::model::{Model, ModelSpec, Param, PositionSpec};

/// A padded batch as `extract --ids` reads it; all `[B, S]`.
#[derive(Clone, Debug, Default)]
pub struct PaddedIds {
    /// Rows B.
    pub rows: usize,
    /// Padded length S.
    pub length: usize,
    /// Token ids.
    pub input_ids: Vec<i64>,
    /// 1 = real token; the real tokens of a row are contiguous.
    pub attention_mask: Vec<i64>,
    /// Token types, where given.
    pub token_type_ids: Option<Vec<i64>>,
    /// Positions, where given.
    pub position_ids: Option<Vec<i64>>,
    /// Targets of the loss, where given; `[B]` for sequence classes.
    pub labels: Option<Vec<i64>>,
}

impl PaddedIds {
    /// Reads the safetensors file of the contract.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let remedy = "give a safetensors file with input_ids and attention_mask, (B, S) int64";
        let refuse = |what: String| Error::input(path, what, remedy);
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| refuse(format!("not a safetensors file: {error}")))?;
        let tensor = |name: &str| -> Result<Option<(Vec<usize>, Vec<i64>)>> {
            let Ok(view) = file.tensor(name) else { return Ok(None) };
            let values = match view.dtype() {
                Dtype::I64 => view.data().chunks_exact(8).map(le_i64).collect(),
                Dtype::I32 => view.data().chunks_exact(4).map(le_i32).collect(),
                other => return Err(refuse(format!("{name} is {other:?}, not int64"))),
            };
            Ok(Some((view.shape().to_vec(), values)))
        };
        let (shape, input_ids) =
            tensor("input_ids")?.ok_or_else(|| refuse("no tensor 'input_ids'".into()))?;
        let [rows, length] = shape[..] else {
            return Err(refuse(format!("input_ids has shape {shape:?}, not (B, S)")));
        };
        let grid = |name: &str| -> Result<Option<Vec<i64>>> {
            match tensor(name)? {
                Some((found, _)) if found != shape => {
                    Err(refuse(format!("{name} has shape {found:?}, input_ids {shape:?}")))
                }
                found => Ok(found.map(|(_, values)| values)),
            }
        };
        let all = vec![1; input_ids.len()];
        let ids = Self {
            rows,
            length,
            attention_mask: grid("attention_mask")?.unwrap_or(all),
            token_type_ids: grid("token_type_ids")?,
            position_ids: grid("position_ids")?,
            labels: tensor("labels")?.map(|(_, values)| values),
            input_ids,
        };
        ids.check(&refuse)?;
        Ok(ids)
    }

    fn check(&self, refuse: &impl Fn(String) -> Error) -> Result<()> {
        if self.rows == 0 || self.length == 0 {
            return Err(refuse("input_ids is empty".into()));
        }
        for (row, mask) in self.attention_mask.chunks_exact(self.length).enumerate() {
            let real = mask.iter().filter(|&&m| m == 1).count();
            let runs = mask.chunk_by(|a, b| a == b).filter(|run| run[0] == 1).count();
            if real == 0 || runs != 1 || mask.iter().any(|m| !(0..=1).contains(m)) {
                let what = format!("row {row} of attention_mask has no single run of ones");
                return Err(refuse(what));
            }
        }
        Ok(())
    }

    /// Flat grid index of every real token, in order.
    fn real(&self) -> Vec<usize> {
        let ones = self.attention_mask.iter().enumerate();
        ones.filter(|(_, mask)| **mask == 1).map(|(at, _)| at).collect()
    }

    /// Cumulative lengths of the rows.
    fn starts(&self) -> Vec<u32> {
        let mut starts = vec![0];
        let mut end = 0;
        for mask in self.attention_mask.chunks_exact(self.length) {
            end += u32::try_from(mask.iter().filter(|&&m| m == 1).count()).expect("checked");
            starts.push(end);
        }
        starts
    }
}

fn le_i64(bytes: &[u8]) -> i64 {
    i64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

fn le_i32(bytes: &[u8]) -> i64 {
    i64::from(i32::from_le_bytes(bytes.try_into().expect("four bytes")))
}

impl Locate for PaddedIds {
    fn token(&self, row: u32, position: u32) -> Option<u32> {
        let (row, position) = (row as usize, position as usize);
        let at = row * self.length + position;
        let real = row < self.rows && position < self.length && self.attention_mask[at] == 1;
        let before = || self.attention_mask[..at].iter().filter(|&&m| m == 1).count();
        real.then(|| u32::try_from(before()).expect("a batch has fewer than 2^32 tokens"))
    }
}

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

/// Runs the ids and gives every array asked for, by name. `logits` come with every model that has
/// a head.
pub fn extract_ids<O: Ops>(
    ops: O,
    model: &Model,
    ids: &PaddedIds,
    request: &IdsRequest,
) -> Result<BTreeMap<String, Array>> {
    let spec = &model.spec;
    let matches = |name: &str| {
        let pattern = |glob: &String| glob::Pattern::new(glob).is_ok_and(|g| g.matches(name));
        request.sites.iter().any(pattern)
    };
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
    let mut forward = Forward::new(ops, model, run.limits(), &wanted)?;
    let mut collector = Collector::default();
    let mut work = SiteWork { wanted: &wanted, edits: &edits, visitor: &mut collector };
    forward.run(run.input(), &mut work)?;
    let mut arrays = BTreeMap::new();
    for (site, values) in &collector.sites {
        arrays.insert(site.to_string(), on_grid(spec, ids, *site, values));
    }
    if matches("loss") || ids.labels.is_some() {
        match loss_array(spec, ids, &arrays) {
            Some(loss) => {
                arrays.insert("loss".into(), loss);
            }
            None if request.sites.iter().any(|site| site == "loss") => {
                let what = "no loss can be had: the model has no head, or the file no labels";
                return Err(Error::config("--sites loss", what, "add labels to the ids file"));
            }
            None => {}
        }
    }
    let constants = constants(model, &run, ids)?;
    arrays.extend(constants.into_iter().filter(|(name, _)| matches(name)));
    Ok(arrays)
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

/// The batch without its pads.
struct PackedIds {
    tokens: Vec<u32>,
    starts: Vec<u32>,
    types: Option<Vec<u32>>,
    positions: Option<Vec<u32>>,
    longest: usize,
}

impl PackedIds {
    fn new(spec: &ModelSpec, ids: &PaddedIds) -> Result<Self> {
        let real = ids.real();
        let pick = |name: &str, values: &[i64], limit: usize| {
            let check = |&at: &usize| {
                let value = values[at];
                u32::try_from(value).ok().filter(|&v| (v as usize) < limit).ok_or_else(|| {
                    let (row, position) = (at / ids.length, at % ids.length);
                    Error::config(
                        format!("{name}, row {row}, position {position}"),
                        format!("{value} is out of range"),
                        format!("values are 0 to {}", limit.saturating_sub(1)),
                    )
                })
            };
            real.iter().map(check).collect::<Result<Vec<u32>>>()
        };
        let limit = spec.max_tokens.unwrap_or(1 << 20);
        let optional = |name: &str, values: &Option<Vec<i64>>, limit: usize| {
            values.as_ref().map(|values| pick(name, values, limit)).transpose()
        };
        let starts = ids.starts();
        let lengths = starts.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
        let longest = lengths.max().unwrap_or(0);
        if longest > limit {
            let what = format!("a row has {longest} tokens, the model takes {limit}");
            return Err(Error::config("input_ids", what, "cut the rows"));
        }
        let types = spec.embedding.token_types;
        Ok(Self {
            tokens: pick("input_ids", &ids.input_ids, spec.vocab)?,
            types: if types > 0 {
                optional("token_type_ids", &ids.token_type_ids, types)?
            } else {
                None
            },
            positions: optional("position_ids", &ids.position_ids, limit)?,
            starts,
            longest,
        })
    }

    fn limits(&self) -> Limits {
        let last = self.positions.iter().flatten().max().map_or(0, |&p| p as usize + 1);
        Limits { tokens: self.tokens.len(), sequence: self.longest.max(last) }
    }

    fn input(&self) -> ForwardInput<'_> {
        ForwardInput {
            tokens: &self.tokens,
            starts: &self.starts,
            token_types: self.types.as_deref(),
            positions: self.positions.as_deref(),
        }
    }
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
