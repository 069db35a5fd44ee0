//! `electrode sparsity`: how many neurons a model uses on a sample of a corpus, and how many it
//! needs, written as tables.

use std::path::{Path, PathBuf};

use super::devices::{Devices, open};
use crate::artifact::sparsity::{
    FIRING, FiringRow, PERPLEXITY, PerplexityRow, SPARSITY, SparsityRow,
};
use crate::artifact::table::write_table;
use crate::config::{Dtype, Policy, Pool};
use crate::corpus::align::RowRules;
use crate::corpus::batch::{Batch, pack};
use crate::corpus::config::CorpusConfig;
use crate::corpus::labels::LabelIndex;
use crate::corpus::read::{Columns, Documents};
use crate::corpus::stream::tokenize_documents;
use crate::device::backward::Differentiable;
use crate::device::cpu::CpuDevice;
use crate::device::forward::Limits;
use crate::device::gradient_ops::GradientOps;
use crate::engine::tokenizer::open_tokenizer;
use crate::error::{Error, Result};
use crate::id::SiteKind;
use crate::model::{Activation, HeadSpec, Model};
use crate::stimulate::neurons::site_of;
use crate::stimulate::sparsity::curve::{Curve, Point};
use crate::stimulate::sparsity::perplexity::{Cut, Means, Probe, bisect};
use crate::stimulate::sparsity::{Firing, Sparsity};

/// Documents tokenised together.
const DOCUMENTS: usize = 64;
/// Passes that narrow thresholds down, after the first.
const REFINEMENTS: u32 = 2;
/// eps unless asked otherwise: ReLU is exactly 0, others come near.
const EPS: f32 = 0.01;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct SparsityConfig {
    /// Folder with config.json, or org/name in the local Hub cache.
    pub model: String,
    /// The corpus.
    pub corpus: CorpusConfig,
    /// Tokens of it that are measured, about.
    pub tokens: usize,
    /// A neuron fires if |x| is above this; by default 0 for ReLU, 0.01 for others.
    pub eps: Option<f32>,
    /// Shares of each layer's output that the tail may hold.
    pub cett: Vec<f64>,
    /// Growth of the perplexity that is allowed; none for no search.
    pub ppl: Option<f64>,
    /// Thresholds J of a pass.
    pub thresholds: u32,
    /// Strengths that are tried for the perplexity, by each means.
    pub probes: u32,
    /// Tokens of a batch; by default as many as suit the device.
    pub batch_tokens: Option<usize>,
    /// Where it runs.
    pub device: Option<String>,
    /// Of the forward pass.
    pub dtype: Dtype,
    /// The folder to write.
    pub out: PathBuf,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Rows of `sparsity.parquet`.
    pub sparsity: Vec<SparsityRow>,
    /// Rows of `perplexity.parquet`.
    pub perplexity: Vec<PerplexityRow>,
    /// What fires, by layer.
    pub firing: Vec<Firing>,
}

/// Measures, and writes the tables.
pub fn measure_sparsity(config: &SparsityConfig, told: &mut dyn FnMut(f64)) -> Result<Measured> {
    check(config)?;
    let devices = Devices::choose(config.device.as_deref(), config.dtype)?;
    let tokens = config.batch_tokens.unwrap_or(devices.batch_tokens());
    let measured = match devices {
        Devices::Cpu => on(CpuDevice, config, tokens, told)?,
        Devices::Cuda(found) => {
            let gpu = found.first().expect("at least one");
            on(open(gpu, config.dtype)?, config, tokens, told)?
        }
    };
    write(&config.out, &measured)?;
    Ok(measured)
}

fn check(config: &SparsityConfig) -> Result<()> {
    let share = |c: &&f64| !(**c > 0.0 && **c < 1.0);
    if let Some(wrong) = config.cett.iter().find(share) {
        let what = format!("{wrong} is no share between 0 and 1");
        return Err(Error::config("--cett", what, "write 0.05,0.1,0.2"));
    }
    if let Some(wrong) = config.ppl.filter(|p| !(p.is_finite() && *p > 0.0)) {
        let what = format!("{wrong} is no growth of the perplexity");
        return Err(Error::config("--ppl", what, "write 0.01 for 1 %"));
    }
    match config.eps.filter(|eps| !(eps.is_finite() && *eps >= 0.0)) {
        Some(eps) => {
            Err(Error::config("--eps", format!("{eps} is no threshold"), "write 0.01, or 0"))
        }
        None => Ok(()),
    }
}

fn on<O: GradientOps>(
    ops: O,
    config: &SparsityConfig,
    batch_tokens: usize,
    told: &mut dyn FnMut(f64),
) -> Result<Measured> {
    let model = Model::open(&config.model)?;
    let longest = model.spec.sequence_limit(config.corpus.max_tokens);
    let batches = sample(&model, config, (batch_tokens, longest))?;
    let sequence = |batch: &Batch| batch.starts.windows(2).map(|p| (p[1] - p[0]) as usize).max();
    let limits = Limits {
        tokens: batches.iter().map(|batch| batch.tokens.len()).max().unwrap_or(1),
        sequence: batches.iter().filter_map(sequence).max().unwrap_or(1),
    };
    let speaks = matches!(model.spec.head, HeadSpec::Lm { .. }) && model.spec.attention.causal;
    let allowed = config.ppl.filter(|_| speaks);
    if config.ppl.is_some() && !speaks {
        tracing::warn!("no perplexity: the model is no causal language model with a head");
    }
    let sites = (0..model.spec.layers).map(|layer| site_of(SiteKind::MlpAct, layer)).collect();
    let run = Differentiable::new(ops, &model, limits, (&sites, allowed.is_some()))?;
    let mut sparsity = Sparsity::new(run, &model)?;
    let relu = model.spec.mlp.activation == Activation::Relu;
    let eps = config.eps.unwrap_or(if relu { 0.0 } else { EPS });
    let firing = sparsity.firing(&batches, eps)?;
    told(0.1);
    let curves = curves(&mut sparsity, &batches, config, &firing)?;
    told(0.5);
    let mut measured = Measured { firing, ..Measured::default() };
    measured.rows_of_firing(eps);
    for &c in &config.cett {
        let points: Vec<Point> = curves.iter().map(|curve| curve.around(c).0).collect();
        measured.rows_of_cett(c, &points);
    }
    if let Some(allowed) = allowed {
        let job = (&batches[..], &curves[..], model.spec.mlp.width);
        measured.search(&mut sparsity, job, (allowed, config.probes), told)?;
    }
    measured.rows_of_curves(&curves);
    model.check_unchanged()?;
    Ok(measured)
}

/// The first documents of the corpus, packed, up to about the tokens asked for. Rows are tokens:
/// special ones are left out, and the first of a sequence where a decoder has no BOS there.
fn sample(
    model: &Model,
    config: &SparsityConfig,
    (batch_tokens, longest): (usize, usize),
) -> Result<Vec<Batch>> {
    let tokenizer = open_tokenizer(model, config.corpus.add_bos)?;
    let rules = RowRules {
        pool: Pool::None,
        special_tokens: Policy::Exclude,
        first_position: !(model.spec.attention.causal && tokenizer.before().is_empty()),
        max_tokens: Some(longest),
        long: config.corpus.long,
    };
    let mut reader = Documents::open(&config.corpus, Columns::only(std::iter::empty::<String>()))?;
    let (mut sequences, mut tokens) = (Vec::new(), 0);
    while tokens < config.tokens {
        let mut documents = Vec::new();
        while documents.len() < DOCUMENTS {
            match reader.advance()? {
                Some(document) => documents.push(document),
                None => break,
            }
        }
        if documents.is_empty() {
            break;
        }
        let (more, _) = tokenize_documents(&documents, &tokenizer, &LabelIndex::default(), &rules)?;
        for sequence in more {
            if tokens >= config.tokens {
                break;
            }
            tokens += sequence.tokens.len();
            sequences.push(sequence);
        }
    }
    let batches = pack(&sequences, batch_tokens.max(1));
    if batches.iter().all(|batch| batch.rows() == 0) {
        let what = "no token of the corpus counts";
        return Err(Error::input(&config.corpus.files[0], what, "check the format"));
    }
    Ok(batches)
}

/// CETT by threshold, of every layer: J thresholds over the whole range, then as many around each
/// share asked for, twice.
fn curves<O: GradientOps>(
    sparsity: &mut Sparsity<O>,
    batches: &[Batch],
    config: &SparsityConfig,
    firing: &[Firing],
) -> Result<Vec<Curve>> {
    let first = firing.iter().map(|layer| Curve::range(layer.largest, config.thresholds));
    let mut curves = vec![Curve::default(); firing.len()];
    let mut add = |curves: &mut Vec<Curve>, thresholds: &[Vec<f32>]| -> Result<()> {
        let points = sparsity.cett(batches, thresholds)?;
        curves.iter_mut().zip(points).for_each(|(curve, points)| curve.add(points));
        Ok(())
    };
    add(&mut curves, &first.collect::<Vec<_>>())?;
    for _ in 0..REFINEMENTS {
        let of = |curve: &Curve| {
            let around = config.cett.iter().flat_map(|&c| curve.between(c, config.thresholds));
            around.collect::<Vec<f32>>()
        };
        let thresholds: Vec<Vec<f32>> = curves.iter().map(of).collect();
        if thresholds.iter().any(|list| !list.is_empty()) {
            add(&mut curves, &thresholds)?;
        }
    }
    Ok(curves)
}

impl Measured {
    fn rows_of_firing(&mut self, eps: f32) {
        let row = |layer: Option<usize>, ratio: f64| SparsityRow {
            definition: "firing".into(),
            layer: layer.map(number),
            c: None,
            threshold: Some(f64::from(eps)),
            cett: None,
            activation_ratio: ratio,
        };
        let rates: Vec<f64> = self.firing.iter().map(Firing::rate).collect();
        self.sparsity.push(row(None, mean(&rates)));
        self.sparsity.extend(rates.iter().enumerate().map(|(layer, &rate)| row(Some(layer), rate)));
    }

    fn rows_of_cett(&mut self, c: f64, points: &[Point]) {
        let active: Vec<f64> = points.iter().map(|point| point.active).collect();
        self.sparsity.push(SparsityRow {
            definition: "cett".into(),
            layer: None,
            c: Some(c),
            threshold: None,
            cett: Some(mean(&points.iter().map(|point| point.cett).collect::<Vec<_>>())),
            activation_ratio: mean(&active),
        });
        let row = |(layer, point): (usize, &Point)| row_of_point("cett", (layer, Some(c)), point);
        self.sparsity.extend(points.iter().enumerate().map(row));
    }

    fn rows_of_curves(&mut self, curves: &[Curve]) {
        for (layer, curve) in curves.iter().enumerate() {
            let row = |point: &Point| row_of_point("curve", (layer, None), point);
            self.sparsity.extend(curve.points().iter().map(row));
        }
    }

    /// The most that each means can cut within the perplexity allowed.
    fn search<O: GradientOps>(
        &mut self,
        sparsity: &mut Sparsity<O>,
        (batches, curves, neurons): (&[Batch], &[Curve], usize),
        (allowed, probes): (f64, u32),
        told: &mut dyn FnMut(f64),
    ) -> Result<()> {
        let dense = sparsity.pruned(batches, &Cut::Nothing)?;
        let most = (1.0 + allowed) * dense.perplexity;
        self.perplexity.push(PerplexityRow {
            method: "dense".into(),
            parameter: None,
            activation_ratio: dense.ratio(),
            perplexity: dense.perplexity,
            ratio: 1.0,
            within: true,
            best: false,
        });
        let largest = self.firing.iter().map(|layer| layer.largest_value).fold(0.0, f32::max);
        let mut done = 0;
        for means in Means::ALL {
            let tried = bisect(probes, |strength| {
                let (cut, parameter) = means.cut(strength, curves, (neurons, largest));
                let pruned = sparsity.pruned(batches, &cut)?;
                done += 1;
                told(0.5 + 0.5 * f64::from(done) / f64::from(3 * probes));
                let within = pruned.perplexity <= most;
                Ok(Probe { means, parameter, cut, pruned, within })
            })?;
            self.rows_of_probes(&tried, dense.perplexity);
        }
        Ok(())
    }

    fn rows_of_probes(&mut self, tried: &[Probe], dense: f64) {
        let best = tried.iter().rposition(|probe| probe.within);
        for (at, probe) in tried.iter().enumerate() {
            self.perplexity.push(PerplexityRow {
                method: probe.means.name().into(),
                parameter: Some(probe.parameter),
                activation_ratio: probe.pruned.ratio(),
                perplexity: probe.pruned.perplexity,
                ratio: probe.pruned.perplexity / dense,
                within: probe.within,
                best: best == Some(at),
            });
        }
        let Some(Probe { cut: Cut::Tail(thresholds), parameter, pruned, .. }) =
            best.map(|at| &tried[at])
        else {
            return;
        };
        let row = |layer: Option<usize>, threshold: Option<f32>, ratio: f64| SparsityRow {
            definition: "ppl".into(),
            layer: layer.map(number),
            c: Some(*parameter),
            threshold: threshold.map(f64::from),
            cett: None,
            activation_ratio: ratio,
        };
        self.sparsity.push(row(None, None, pruned.ratio()));
        let layers = thresholds.iter().zip(&pruned.active).enumerate();
        self.sparsity.extend(layers.map(|(layer, (&e, &ratio))| row(Some(layer), Some(e), ratio)));
    }
}

fn row_of_point(definition: &str, (layer, c): (usize, Option<f64>), point: &Point) -> SparsityRow {
    SparsityRow {
        definition: definition.into(),
        layer: Some(number(layer)),
        c,
        threshold: Some(f64::from(point.threshold)),
        cett: Some(point.cett),
        activation_ratio: point.active,
    }
}

fn number(n: usize) -> i32 {
    i32::try_from(n).expect("layers and neurons are few")
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn write(folder: &Path, measured: &Measured) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    let name = "sparsity";
    write_table(&folder.join(SPARSITY), name, measured.sparsity.iter().cloned())?;
    if !measured.perplexity.is_empty() {
        write_table(&folder.join(PERPLEXITY), name, measured.perplexity.iter().cloned())?;
    }
    let of_layer = |(layer, firing): (usize, &Firing)| {
        let row = |neuron: usize, count: u64, tokens: u64, rate: f64| FiringRow {
            layer: number(layer),
            neuron: number(neuron),
            n: tokens.cast_signed(),
            rate,
            never: count == 0,
            always: count == tokens,
        };
        let counts = firing.counts.iter().enumerate();
        let rows = counts.map(|(n, &count)| row(n, count, firing.tokens, firing.rate_of(n)));
        rows.collect::<Vec<_>>()
    };
    let rows = measured.firing.iter().enumerate().flat_map(of_layer);
    write_table(&folder.join(FIRING), name, rows)?;
    Ok(())
}
