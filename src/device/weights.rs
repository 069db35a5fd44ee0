//! A model's weights on a device, in the order the forward pass reads them.

use super::ops::{NormWeights, Ops};
use crate::error::Result;
use crate::model::{
    BlockSpec, HeadSpec, LayerParam, Model, ModelSpec, NormKind, NormSpec, Param, PositionSpec,
};

/// All weights of a model on one device.
pub(super) struct ForwardWeights<O: Ops> {
    pub(super) tokens: O::Table,
    pub(super) positions: Option<O::Table>,
    pub(super) token_types: Option<O::Table>,
    pub(super) embedding_norm: Option<NormWeights<O::Vector>>,
    pub(super) project: Option<O::Matrix>,
    pub(super) angles: Option<O::Table>,
    pub(super) score_bias: Option<O::Vector>,
    pub(super) layers: Vec<LayerWeights<O>>,
    pub(super) final_norm: Option<NormWeights<O::Vector>>,
    pub(super) pooler: Option<O::Matrix>,
    pub(super) head: HeadWeights<O>,
}

/// One block's weights.
pub(super) struct LayerWeights<O: Ops> {
    pub(super) attn_norm: NormWeights<O::Vector>,
    pub(super) qkv: O::Matrix,
    pub(super) q_norm: Option<NormWeights<O::Vector>>,
    pub(super) k_norm: Option<NormWeights<O::Vector>>,
    pub(super) out: O::Matrix,
    pub(super) attn_post_norm: Option<NormWeights<O::Vector>>,
    /// None where one norm serves both branches.
    pub(super) mlp_norm: Option<NormWeights<O::Vector>>,
    pub(super) gate: Option<O::Matrix>,
    pub(super) up: O::Matrix,
    pub(super) down: O::Matrix,
    pub(super) mlp_post_norm: Option<NormWeights<O::Vector>>,
}

/// The head's weights; all none for a bare trunk.
pub(super) struct HeadWeights<O: Ops> {
    pub(super) dense: Option<O::Matrix>,
    pub(super) norm: Option<NormWeights<O::Vector>>,
    pub(super) last: Option<O::Matrix>,
}

/// Reads parameters of one model and uploads them.
struct Loader<'a, O: Ops> {
    ops: &'a O,
    model: &'a Model,
}

impl<O: Ops> Loader<'_, O> {
    fn matrix(&self, weight: Param, bias: Option<Param>) -> Result<O::Matrix> {
        let tensor = self.model.tensor(weight)?;
        let bias = bias.map(|bias| self.model.tensor(bias)).transpose()?.map(|b| b.data);
        self.ops.matrix(tensor.shape[0], tensor.data, bias)
    }

    fn table(&self, param: Param) -> Result<O::Table> {
        let tensor = self.model.tensor(param)?;
        self.ops.table(tensor.shape[0], tensor.data)
    }

    fn norm(&self, spec: NormSpec, weight: Param, bias: Param) -> Result<NormWeights<O::Vector>> {
        let has_bias = spec.kind == NormKind::Layer && self.model.has(bias);
        Ok(NormWeights {
            spec,
            weight: self.ops.vector(self.model.tensor(weight)?.data)?,
            bias: has_bias.then(|| self.ops.vector(self.model.tensor(bias)?.data)).transpose()?,
        })
    }

    fn layer(&self, l: usize) -> Result<LayerWeights<O>> {
        use LayerParam as P;
        let spec = &self.model.spec;
        let at = |param| Param::Layer(l, param);
        let norm = |weight, bias| self.norm(spec.norm, at(weight), at(bias));
        let sandwich = spec.block == BlockSpec::Sandwich;
        let post = |weight| sandwich.then(|| norm(weight, P::AttnNormBias)).transpose();
        let head_norm = |weight, bias| {
            spec.attention.qk_norm.map(|head| self.norm(head, at(weight), at(bias))).transpose()
        };
        let (attention, mlp) = (&spec.attention, &spec.mlp);
        let biased = |on: bool, param| on.then_some(at(param));
        Ok(LayerWeights {
            attn_norm: norm(P::AttnNormWeight, P::AttnNormBias)?,
            qkv: self.matrix(at(P::Qkv), biased(attention.qkv_bias, P::QkvBias))?,
            q_norm: head_norm(P::QNormWeight, P::QNormBias)?,
            k_norm: head_norm(P::KNormWeight, P::KNormBias)?,
            out: self.matrix(at(P::Out), biased(attention.out_bias, P::OutBias))?,
            attn_post_norm: post(P::AttnPostNormWeight)?,
            mlp_norm: (spec.block != BlockSpec::ParallelSharedNorm)
                .then(|| norm(P::MlpNormWeight, P::MlpNormBias))
                .transpose()?,
            gate: mlp
                .gated
                .then(|| self.matrix(at(P::Gate), biased(mlp.bias, P::GateBias)))
                .transpose()?,
            up: self.matrix(at(P::Up), biased(mlp.bias, P::UpBias))?,
            down: self.matrix(at(P::Down), biased(mlp.bias, P::DownBias))?,
            mlp_post_norm: post(P::MlpPostNormWeight)?,
        })
    }

    fn head(&self, tokens: &O::Table) -> Result<HeadWeights<O>> {
        let none = HeadWeights { dense: None, norm: None, last: None };
        match self.model.spec.head {
            HeadSpec::None => Ok(none),
            HeadSpec::Lm { transform, project, bias, .. } => {
                let bias = bias.then_some(Param::HeadBias);
                let dense = match (transform, project) {
                    (Some(_), _) => {
                        Some(self.matrix(Param::HeadDense, Some(Param::HeadDenseBias))?)
                    }
                    (None, true) => Some(self.matrix(Param::HeadProject, None)?),
                    (None, false) => None,
                };
                let norm = transform
                    .map(|t| self.norm(t.norm, Param::HeadNormWeight, Param::HeadNormBias))
                    .transpose()?;
                let last = if self.model.head_is_tied() {
                    let bias = bias.map(|b| self.model.tensor(b)).transpose()?.map(|b| b.data);
                    self.ops.tied(tokens, bias)?
                } else {
                    self.matrix(Param::Head, bias)?
                };
                Ok(HeadWeights { dense, norm, last: Some(last) })
            }
            HeadSpec::TokenClasses { .. } | HeadSpec::SequenceClasses { .. } => {
                let last = Some(self.matrix(Param::Head, Some(Param::HeadBias))?);
                Ok(HeadWeights { last, ..none })
            }
            HeadSpec::Discriminator { .. } => Ok(HeadWeights {
                dense: Some(self.matrix(Param::HeadDense, Some(Param::HeadDenseBias))?),
                norm: None,
                last: Some(self.matrix(Param::Head, Some(Param::HeadBias))?),
            }),
        }
    }
}

/// Loads and uploads everything; `positions` is the number of positions rotation tables cover.
pub(super) fn load<O: Ops>(
    ops: &O,
    model: &Model,
    positions: usize,
    with_head: bool,
) -> Result<ForwardWeights<O>> {
    let loader = Loader { ops, model };
    let spec = &model.spec;
    let tokens = loader.table(Param::Tokens)?;
    let embedding = &spec.embedding;
    let learned = matches!(
        spec.positions,
        PositionSpec::Learned { .. } | PositionSpec::LearnedFromIds { .. }
    );
    let none = HeadWeights { dense: None, norm: None, last: None };
    let head = if with_head { loader.head(&tokens)? } else { none };
    Ok(ForwardWeights {
        positions: learned.then(|| loader.table(Param::Positions)).transpose()?,
        token_types: (embedding.token_types > 0)
            .then(|| loader.table(Param::TokenTypes))
            .transpose()?,
        embedding_norm: embedding
            .norm
            .map(|n| loader.norm(n, Param::EmbeddingNormWeight, Param::EmbeddingNormBias))
            .transpose()?,
        project: embedding
            .project
            .map(|p| {
                let bias = p.bias.then_some(Param::EmbeddingProjectBias);
                loader.matrix(Param::EmbeddingProject, bias)
            })
            .transpose()?,
        angles: rotation_table(spec, positions)
            .map(|values| ops.exact_table(positions, values))
            .transpose()?,
        score_bias: score_bias(spec, model, positions)?.map(|v| ops.vector(v)).transpose()?,
        layers: (0..spec.layers).map(|l| loader.layer(l)).collect::<Result<_>>()?,
        final_norm: spec
            .final_norm
            .then(|| loader.norm(spec.norm, Param::FinalNormWeight, Param::FinalNormBias))
            .transpose()?,
        pooler: spec
            .pooler
            .then(|| loader.matrix(Param::Pooler, Some(Param::PoolerBias)))
            .transpose()?,
        head,
        tokens,
    })
}

/// Cosines then sines of every position, `[positions, 2 * r]`. The angle is rounded to f32 before
/// the cosine is taken, as the float32 models do.
fn rotation_table(spec: &ModelSpec, positions: usize) -> Option<Vec<f32>> {
    let PositionSpec::Rotary { inv_freq } = &spec.positions else { return None };
    let mut table = Vec::with_capacity(positions * inv_freq.len() * 2);
    for position in 0..positions {
        #[expect(clippy::cast_precision_loss, reason = "positions are below 2^24")]
        let angles = inv_freq.iter().map(|freq| f64::from(freq * position as f32));
        #[expect(clippy::cast_possible_truncation, reason = "f32 is the table's type")]
        {
            table.extend(angles.clone().map(|angle| angle.cos() as f32));
            table.extend(angles.map(|angle| angle.sin() as f32));
        }
    }
    Some(table)
}

/// ALiBi slopes `[H]`, or T5's bias by distance `[H, 2 * reach + 1]` with reach = positions - 1.
fn score_bias(spec: &ModelSpec, model: &Model, positions: usize) -> Result<Option<Vec<f32>>> {
    match &spec.positions {
        PositionSpec::Alibi { slopes } => Ok(Some(slopes.clone())),
        PositionSpec::Relative { .. } => {
            let table = model.tensor(Param::RelativeBias)?.data;
            Ok(Some(relative_bias(spec, &table, positions)))
        }
        _ => Ok(None),
    }
}

/// T5's bucketed bias spread out over distances `-reach ..= reach` (key minus query), `[H, 2 *
/// reach + 1]`, reach = positions - 1. `table` is `[buckets, H]`.
pub fn relative_bias(spec: &ModelSpec, table: &[f32], positions: usize) -> Vec<f32> {
    let PositionSpec::Relative { buckets, max_distance, bidirectional } = spec.positions else {
        return Vec::new();
    };
    let heads = spec.attention.heads;
    let reach = i64::try_from(positions.max(1) - 1).expect("positions fit");
    let bucket_of: Vec<usize> = (-reach..=reach)
        .map(|distance| relative_bucket(distance, buckets, max_distance, bidirectional))
        .collect();
    let mut out = Vec::with_capacity(heads * bucket_of.len());
    for head in 0..heads {
        out.extend(bucket_of.iter().map(|bucket| table[bucket * heads + head]));
    }
    out
}

/// The bucket of a distance (Raffel et al. 2020): exact for small ones, logarithmic beyond.
fn relative_bucket(distance: i64, buckets: usize, max_distance: usize, both: bool) -> usize {
    let (mut first, mut count) = (0, buckets);
    let mut steps = -distance;
    if both {
        count /= 2;
        if distance > 0 {
            first = count;
        }
        steps = distance.abs();
    }
    let steps = usize::try_from(steps.max(0)).expect("not negative");
    let exact = count / 2;
    if steps < exact {
        return first + steps;
    }
    // In f32, as the reference computes it: the bucket borders depend on the rounding.
    #[expect(clippy::cast_precision_loss, reason = "distances are below 2^24")]
    let log = (steps as f32 / exact as f32).ln() / (max_distance as f64 / exact as f64).ln() as f32
        * (count - exact) as f32;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "log >= 0")]
    let far = exact + log as usize;
    first + far.min(count - 1)
}
