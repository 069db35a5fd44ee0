//! How fast this machine runs a model, and how near its limits: what `electrode bench` shows.
//!
//! Limits are measured beside the workload: a copy of a whole tensor for memory, the model's own
//! matrix products for arithmetic, and on a processor what it multiplies and adds in registers alone for
//! those. Workloads take turns, so that a machine that slows down does so
//! for all of them; times are medians.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::pass::run_batch;
use super::watch::StatisticsWatch;
use crate::config::Pool;
use crate::corpus::batch::Batch;
use crate::corpus::block::{Row, Sequence};
use crate::device::forward::{Forward, ForwardInput, Limits, SiteWork};
use crate::device::ops::{Epilogue, Ops};
use crate::device::site_view::{SiteView, SiteVisitor};
use crate::device::statistics::StatisticsPlan;
use crate::error::{Error, Result};
use crate::id::{RowId, Site, SiteKind};
use crate::model::{Model, ModelSpec};

/// Label groups of the full statistics: as many as there are universal parts of speech.
const GROUPS: u32 = 17;
const BINS: usize = 64;
const TOP: usize = 20;

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Tokens of a device call.
    pub tokens: usize,
    /// Tokens of a sequence.
    pub sequence: usize,
    /// Device calls that are timed together.
    pub batches: usize,
    /// Times each workload is timed; the median is told.
    pub rounds: usize,
}

/// A matrix product of the model.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Product {
    /// Which: `qkv`, `out`, `up`, `down`.
    pub name: &'static str,
    /// Rows of the input, outputs, inputs.
    pub shape: [usize; 3],
    /// Operations per second, a multiplication and an addition counted as two.
    pub flops_per_s: f64,
    /// Of what the device does in registers alone, where that is known.
    pub share_of_peak: Option<f64>,
}

/// A pass over the batches.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Pass {
    /// `forward`, `moments`, `statistics`.
    pub name: &'static str,
    /// Median.
    pub tokens_per_s: f64,
    /// Slowest and fastest round.
    pub spread: [f64; 2],
    /// Of the best matrix product's rate.
    pub share_of_ceiling: f64,
    /// Of the pass's time, beyond the bare forward.
    pub cost_of_statistics: f64,
}

/// What was measured.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Measured {
    /// Bytes read and written per second by a copy.
    pub copy_bytes_per_s: f64,
    /// Operations per second in registers alone, where they were measured.
    pub peak_flops_per_s: Option<f64>,
    /// The model's matrix products.
    pub products: Vec<Product>,
    /// Passes.
    pub passes: Vec<Pass>,
    /// Operations of a token, without the head.
    pub flops_per_token: u64,
    /// Neurons under statistics.
    pub neurons: usize,
}

/// Measures a device with a model; `peak` measures what it does in registers alone.
pub fn measure<O: Ops + Clone>(
    ops: &O,
    model: &Model,
    load: Load,
    peak: Option<&dyn Fn() -> f64>,
) -> Result<Measured> {
    let spec = &model.spec;
    let sequence = load.sequence.min(spec.max_tokens.unwrap_or(usize::MAX)).min(load.tokens);
    if sequence == 0 || load.rounds == 0 || load.batches == 0 {
        let what = "tokens, sequence, batches and rounds are at least 1";
        return Err(Error::config("bench", what, "ask for more"));
    }
    let load = Load { sequence, ..load };
    let copy_bytes_per_s = copy_rate(ops, spec, load)?;
    let mut products = products(ops, spec, load)?;
    let peak_flops_per_s = peak.map(|measure| measure());
    for product in &mut products {
        product.share_of_peak = peak_flops_per_s.map(|peak| product.flops_per_s / peak);
    }
    let ceiling = products.iter().map(|product| product.flops_per_s).fold(0.0, f64::max);
    let flops = spec.flops_per_token(sequence);
    let flops_per_token = flops.total() - flops.head;
    let sites = watched(spec);
    let neurons = sites.iter().map(|site| spec.site_width(*site)).sum();
    let passes = passes(ops, model, load, &sites)?;
    let bare = passes[0].1[load.rounds / 2];
    let passes = passes
        .into_iter()
        .map(|(name, seconds)| {
            let rate = |seconds: f64| (load.batches * load.tokens) as f64 / seconds;
            let median = seconds[seconds.len() / 2];
            Pass {
                name,
                tokens_per_s: rate(median),
                spread: [rate(seconds[seconds.len() - 1]), rate(seconds[0])],
                share_of_ceiling: rate(median) * flops_per_token as f64 / ceiling,
                cost_of_statistics: (1.0 - bare / median).max(0.0),
            }
        })
        .collect();
    Ok(Measured { copy_bytes_per_s, peak_flops_per_s, products, passes, flops_per_token, neurons })
}

/// Sites under statistics: the neurons of every MLP, and the stream after every block.
fn watched(spec: &ModelSpec) -> Vec<Site> {
    let layers = 0..u32::try_from(spec.layers).expect("few layers");
    let kinds = [SiteKind::MlpAct, SiteKind::ResidPost];
    layers.flat_map(|layer| kinds.map(|kind| Site::of_layer(layer, kind))).collect()
}

/// Times `work` in rounds after one that does not count; seconds, ascending.
fn rounds<O: Ops>(ops: &O, count: usize, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let mut seconds = Vec::with_capacity(count);
    for round in 0..=count {
        ops.wait()?;
        let clock = Instant::now();
        work()?;
        ops.wait()?;
        if round > 0 {
            seconds.push(clock.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

fn copy_rate<O: Ops>(ops: &O, spec: &ModelSpec, load: Load) -> Result<f64> {
    let cols = spec.mlp.width;
    let (mut from, mut to) = (ops.tensor(load.tokens, cols)?, ops.tensor(load.tokens, cols)?);
    ops.set_rows(&mut from, load.tokens);
    ops.set_rows(&mut to, load.tokens);
    // Both ways, so that neither stays in a cache as the source.
    let seconds = rounds(ops, load.rounds, || {
        for _ in 0..load.batches {
            ops.copy(&from, &mut to);
            ops.copy(&to, &mut from);
        }
        Ok(())
    })?;
    let bytes = 2 * 2 * load.batches * load.tokens * cols * ops.element_bytes();
    Ok(bytes as f64 / seconds[seconds.len() / 2])
}

fn products<O: Ops>(ops: &O, spec: &ModelSpec, load: Load) -> Result<Vec<Product>> {
    let attention = &spec.attention;
    let heads = attention.heads * attention.head_width;
    let qkv = heads + 2 * attention.kv_heads * attention.head_width;
    let shapes = [
        ("qkv", qkv, spec.width),
        ("out", spec.width, heads),
        ("up", spec.mlp.width, spec.width),
        ("down", spec.width, spec.mlp.width),
    ];
    shapes
        .into_iter()
        .map(|(name, out, inner)| {
            let mut x = ops.tensor(load.tokens, inner)?;
            let mut y = ops.tensor(load.tokens, out)?;
            // Zeros would draw less power, and run faster, than real activations.
            let noise = (0..out * inner).map(noise).collect();
            let weight = ops.matrix(out, noise, None)?;
            ops.set_rows(&mut x, load.tokens);
            ops.set_rows(&mut y, load.tokens);
            fill(ops, (load.tokens, inner), &mut x)?;
            let seconds = rounds(ops, load.rounds, || {
                for _ in 0..load.batches {
                    ops.linear(&weight, &x, Epilogue::Store, &mut y);
                }
                Ok(())
            })?;
            let flops = 2 * load.batches * load.tokens * out * inner;
            let flops_per_s = flops as f64 / seconds[seconds.len() / 2];
            Ok(Product { name, shape: [load.tokens, out, inner], flops_per_s, share_of_peak: None })
        })
        .collect()
}

/// Values between -1 and 1 that look random.
fn noise(i: usize) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are the noise")]
    let bits = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(0x9e37_79b9);
    let bits = (bits ^ (bits >> 15)).wrapping_mul(0x85eb_ca6b);
    #[expect(clippy::cast_precision_loss, reason = "noise")]
    let unit = (bits >> 8) as f32 / (1_u32 << 24) as f32;
    2.0 * unit - 1.0
}

/// Rows of a table of noise, into every row of a tensor.
fn fill<O: Ops>(ops: &O, (rows, cols): (usize, usize), x: &mut O::Tensor) -> Result<()> {
    let table = ops.table(64, (0..64 * cols).map(noise).collect())?;
    let ids: Vec<u32> = (0..rows).map(|row| u32::try_from(row % 64).expect("below 64")).collect();
    ops.embed(&table, &ids, 1.0, x);
    Ok(())
}

/// Reads nothing.
struct Blind;

impl<O: Ops> SiteVisitor<O> for Blind {
    fn visit(&mut self, _: &O, _: &SiteView<'_, O>) -> Result<()> {
        Ok(())
    }
}

/// Seconds of each pass, ascending.
fn passes<O: Ops + Clone>(
    ops: &O,
    model: &Model,
    load: Load,
    sites: &[Site],
) -> Result<Vec<(&'static str, Vec<f64>)>> {
    let spec = &model.spec;
    let wanted: BTreeSet<Site> = sites.iter().copied().collect();
    let limits = Limits { tokens: load.tokens, sequence: load.sequence };
    let mut forward = Forward::new(ops.clone(), model, limits, &wanted)?;
    let batches: Vec<Batch> = (0..load.batches).map(|i| batch(spec, load, i)).collect();
    let plans = |bins: usize, top: usize| -> Vec<(Site, Arc<StatisticsPlan>)> {
        sites.iter().map(|&site| (site, Arc::new(plan(spec.site_width(site), bins, top)))).collect()
    };
    let (moments, all) = (plans(0, 0), plans(BINS, TOP));
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=load.rounds {
        for (which, seconds) in times.iter_mut().enumerate() {
            let plan = if which == 1 { &moments } else { &all };
            let mut watch = StatisticsWatch::new(&forward, plan, Pool::Last)?;
            ops.wait()?;
            let clock = Instant::now();
            for batch in &batches {
                if which == 0 {
                    bare(&mut forward, batch, &wanted)?;
                } else {
                    run_batch(&mut forward, batch, &mut watch)?;
                }
            }
            ops.wait()?;
            if round > 0 {
                seconds.push(clock.elapsed().as_secs_f64());
            }
        }
    }
    let [bare, moments, all] = times.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        seconds
    });
    Ok(vec![("forward", bare), ("moments", moments), ("statistics", all)])
}

fn bare<O: Ops>(forward: &mut Forward<O>, batch: &Batch, wanted: &BTreeSet<Site>) -> Result<()> {
    let edits = BTreeMap::new();
    let mut work = SiteWork { wanted, edits: &edits, visitor: &mut Blind };
    forward.run(ForwardInput::of(batch), &mut work)
}

/// Sequences of tokens that mean nothing, each token a row of one group.
fn batch(spec: &ModelSpec, load: Load, number: usize) -> Batch {
    let mut batch = Batch::empty();
    let vocab = u64::try_from(spec.vocab).expect("a vocabulary");
    let mut row = (number * load.tokens) as u64;
    while batch.tokens.len() < load.tokens {
        let length = load.sequence.min(load.tokens - batch.tokens.len());
        let rows: Vec<u64> = (0..length as u64).map(|i| row + i).collect();
        row += length as u64;
        let token = |row: &u64| u32::try_from(row * 7919 % vocab).expect("ids are 32 bits");
        let scored = (0..).zip(&rows).map(|(first, &row)| Row {
            id: RowId(row),
            first,
            len: 1,
            groups: vec![first % GROUPS],
        });
        batch.push(&Sequence {
            tokens: rows.iter().map(token).collect(),
            rows: scored.collect(),
            ..Sequence::default()
        });
    }
    batch
}

fn plan(neurons: usize, bins: usize, top: usize) -> StatisticsPlan {
    #[expect(clippy::cast_precision_loss, reason = "few bins")]
    let edge = |bin: usize| (bin as f32 - BINS as f32 / 2.0) / 8.0;
    StatisticsPlan {
        neurons,
        groups: GROUPS as usize,
        bins,
        edges: (0..neurons).flat_map(|_| (1..bins.max(1)).map(edge)).collect(),
        shift: vec![0.0; neurons],
        top,
        bottom: 0,
        sample: 0,
        sample_seed: 0,
    }
}
