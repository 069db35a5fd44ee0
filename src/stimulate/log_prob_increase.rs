//! What each neuron of an MLP adds to a prediction by itself (Yu & Ananiadou 2024, arXiv 2312.12141):
//! `Imp(n) = log p(w | r + m_n v_n) - log p(w | r)`, r being the stream between attention and MLP at the
//! answering token, m_n the neuron and v_n its column of the down projection. p reads the stream through
//! the final norm with its scale frozen to that of the last layer's output and without its bias.
//!
//! The neurons with the largest first-order effect are taken exactly, the others to first order.

use std::collections::BTreeSet;

use super::neurons::{Activations, activations, site_of};
use super::question::QuestionBatch;
use crate::device::backward::Differentiable;
use crate::device::gradient_ops::Metric;
use crate::device::suffix_ops::SuffixOps;
use crate::error::Result;
use crate::id::SiteKind;
use crate::model::{Model, NormKind, Param};

/// The final norm, to be held at a scale.
#[derive(Clone, Debug, PartialEq)]
pub struct FrozenNorm {
    /// `[D]`; ones where the model has no final norm.
    weight: Vec<f64>,
    /// Means are taken off.
    centred: bool,
    /// None where the model has no final norm.
    eps: Option<f64>,
}

impl FrozenNorm {
    /// That of a model.
    pub fn of(model: &Model) -> Result<Self> {
        let spec = &model.spec;
        if !spec.final_norm {
            return Ok(Self { weight: vec![1.0; spec.width], centred: false, eps: None });
        }
        let offset = if spec.norm.plus_one { 1.0 } else { 0.0 };
        let weight = model.tensor(Param::FinalNormWeight)?.data;
        Ok(Self {
            weight: weight.iter().map(|w| f64::from(*w) + offset).collect(),
            centred: spec.norm.kind == NormKind::Layer,
            eps: Some(f64::from(spec.norm.eps)),
        })
    }

    fn mean(&self, row: impl Iterator<Item = f64>) -> f64 {
        if self.centred { row.sum::<f64>() / self.weight.len() as f64 } else { 0.0 }
    }

    /// The scale that the norm has at a row.
    pub fn scale(&self, row: &[f32]) -> f64 {
        let Some(eps) = self.eps else { return 1.0 };
        let mean = self.mean(row.iter().map(|x| f64::from(*x)));
        let square = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>();
        1.0 / (square / row.len() as f64 + eps).sqrt()
    }

    /// A row through the norm at that scale, without bias.
    #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
    pub fn apply(&self, row: &[f32], scale: f64) -> impl Iterator<Item = f32> {
        let mean = self.mean(row.iter().map(|x| f64::from(*x)));
        row.iter().zip(&self.weight).map(move |(x, w)| ((f64::from(*x) - mean) * scale * w) as f32)
    }

    /// The gradient before the norm from that after it.
    #[expect(clippy::cast_possible_truncation, reason = "gradients are f32")]
    fn pull(&self, gradient: &[f32], scale: f64) -> impl Iterator<Item = f32> {
        let scaled = move |(g, w): (&f32, &f64)| f64::from(*g) * w * scale;
        let mean = self.mean(gradient.iter().zip(&self.weight).map(scaled));
        gradient.iter().zip(&self.weight).map(move |pair| (scaled(pair) - mean) as f32)
    }
}

/// Increases of every neuron of these layers, `[S, F]` each; `exact` neurons of each question and layer
/// are not to first order.
pub fn log_prob_increases<O: SuffixOps>(
    run: &mut Differentiable<O>,
    batch: &QuestionBatch,
    layers: &[usize],
    (norm, exact): (&FrozenNorm, usize),
) -> Result<Vec<Vec<f32>>> {
    let last = site_of(SiteKind::ResidPost, run.spec().layers - 1);
    let kinds = [SiteKind::ResidMid, SiteKind::MlpAct];
    let mut wanted: BTreeSet<_> =
        layers.iter().flat_map(|&layer| kinds.map(|kind| site_of(kind, layer))).collect();
    wanted.insert(last);
    let kept = activations(run, batch, &wanted)?;
    let width = run.spec().width;
    let last = kept.read(run.ops(), last)?;
    let scales =
        batch.rows.iter().map(|&row| norm.scale(&last[row as usize * width..][..width])).collect();
    let lens = Lens { batch, kept: &kept, norm, scales, exact };
    layers.iter().map(|&layer| lens.layer(run, layer)).collect()
}

/// A batch read in the middle.
struct Lens<'a, O: SuffixOps> {
    batch: &'a QuestionBatch,
    kept: &'a Activations<O>,
    norm: &'a FrozenNorm,
    /// Of each question.
    scales: Vec<f64>,
    exact: usize,
}

impl<O: SuffixOps> Lens<'_, O> {
    /// The answering tokens' rows of a site, `[S, N]`.
    fn answering(&self, ops: &O, site: crate::id::Site) -> Result<Vec<f32>> {
        let values = self.kept.read(ops, site)?;
        let width = values.len() / self.batch.tokens.len();
        let row = |&row: &u32| values[row as usize * width..][..width].to_vec();
        Ok(self.batch.rows.iter().flat_map(row).collect())
    }

    fn layer(&self, run: &mut Differentiable<O>, layer: usize) -> Result<Vec<f32>> {
        let [mid, act] = [SiteKind::ResidMid, SiteKind::MlpAct].map(|kind| site_of(kind, layer));
        let (width, neurons) = (run.spec().width, run.spec().mlp.width);
        let rows = self.answering(run.ops(), mid)?;
        let normed: Vec<f32> = rows
            .chunks_exact(width)
            .zip(&self.scales)
            .flat_map(|(row, scale)| self.norm.apply(row, *scale))
            .collect();
        let answers = (&self.batch.targets[..], None);
        let (base, gradient) = run.score_rows(&normed, answers, Some(Metric::LogProb))?;
        let pulled: Vec<f32> = gradient
            .chunks_exact(width)
            .zip(&self.scales)
            .flat_map(|(row, scale)| self.norm.pull(row, *scale))
            .collect();
        let mut values = run.read_by_neurons(layer, &pulled)?;
        let active = self.answering(run.ops(), act)?;
        values.iter_mut().zip(&active).for_each(|(x, m)| *x *= m);
        let mut chosen: Vec<(u32, u32)> = Vec::new();
        for (question, row) in (0..).zip(values.chunks_exact(neurons)) {
            let mut order: Vec<u32> = (0..).take(neurons).collect();
            let size = |n: &u32| row[*n as usize].abs();
            order.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
            chosen.extend(order.into_iter().take(self.exact).map(|neuron| (question, neuron)));
        }
        for chosen in chosen.chunks(run.limits().tokens) {
            let exact = self.exactly(run, layer, chosen)?;
            for (&(question, neuron), log_prob) in chosen.iter().zip(exact) {
                let increase = log_prob - base[question as usize].log_prob;
                values[question as usize * neurons + neuron as usize] = increase;
            }
        }
        Ok(values)
    }

    /// log p of the answers with one neuron each, (question, neuron).
    fn exactly(
        &self,
        run: &mut Differentiable<O>,
        layer: usize,
        chosen: &[(u32, u32)],
    ) -> Result<Vec<f32>> {
        let [mid, act] = [SiteKind::ResidMid, SiteKind::MlpAct].map(|kind| site_of(kind, layer));
        let question = |of: &(u32, u32)| of.0 as usize;
        let tokens: Vec<u32> = chosen.iter().map(|of| self.batch.rows[question(of)]).collect();
        let neurons: Vec<u32> = chosen.iter().map(|of| of.1).collect();
        let stream = (self.kept.get(mid), self.kept.get(act));
        let rows = run.with_neuron(layer, (&tokens, &neurons), stream)?;
        let normed: Vec<f32> = rows
            .chunks_exact(run.spec().width)
            .zip(chosen)
            .flat_map(|(row, of)| self.norm.apply(row, self.scales[question(of)]))
            .collect();
        let targets: Vec<u32> = chosen.iter().map(|of| self.batch.targets[question(of)]).collect();
        let (scores, _) = run.score_rows(&normed, (&targets, None), None)?;
        Ok(scores.iter().map(|score| score.log_prob).collect())
    }
}
