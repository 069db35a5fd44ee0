//! Which weights a [`ModelSpec`] has, and the shape of each. Loading, checking and counting all
//! read this one list.

use super::spec::{
    BlockSpec, HeadSpec, LayerParam, ModelSpec, NormKind, NormSpec, Param, PositionSpec,
};

impl LayerParam {
    /// Every weight of a block, in the order of the forward pass.
    pub const ALL: [LayerParam; 20] = [
        Self::AttnNormWeight,
        Self::AttnNormBias,
        Self::Qkv,
        Self::QkvBias,
        Self::QNormWeight,
        Self::QNormBias,
        Self::KNormWeight,
        Self::KNormBias,
        Self::Out,
        Self::OutBias,
        Self::AttnPostNormWeight,
        Self::MlpNormWeight,
        Self::MlpNormBias,
        Self::Gate,
        Self::GateBias,
        Self::Up,
        Self::UpBias,
        Self::Down,
        Self::DownBias,
        Self::MlpPostNormWeight,
    ];

    /// For a bias, the weight it belongs to: checkpoints name both by one module.
    pub(crate) fn bias_of(self) -> Option<LayerParam> {
        Some(match self {
            Self::AttnNormBias => Self::AttnNormWeight,
            Self::QkvBias => Self::Qkv,
            Self::QNormBias => Self::QNormWeight,
            Self::KNormBias => Self::KNormWeight,
            Self::OutBias => Self::Out,
            Self::MlpNormBias => Self::MlpNormWeight,
            Self::GateBias => Self::Gate,
            Self::UpBias => Self::Up,
            Self::DownBias => Self::Down,
            _ => return None,
        })
    }
}

impl Param {
    /// Every weight outside the blocks, before them and after them.
    const BEFORE: [Param; 8] = [
        Self::Tokens,
        Self::Positions,
        Self::TokenTypes,
        Self::EmbeddingNormWeight,
        Self::EmbeddingNormBias,
        Self::EmbeddingProject,
        Self::EmbeddingProjectBias,
        Self::RelativeBias,
    ];
    const AFTER: [Param; 11] = [
        Self::FinalNormWeight,
        Self::FinalNormBias,
        Self::Pooler,
        Self::PoolerBias,
        Self::HeadDense,
        Self::HeadDenseBias,
        Self::HeadNormWeight,
        Self::HeadNormBias,
        Self::HeadProject,
        Self::Head,
        Self::HeadBias,
    ];

    /// See [`LayerParam::bias_of`].
    pub(crate) fn bias_of(self) -> Option<Param> {
        Some(match self {
            Self::EmbeddingNormBias => Self::EmbeddingNormWeight,
            Self::EmbeddingProjectBias => Self::EmbeddingProject,
            Self::FinalNormBias => Self::FinalNormWeight,
            Self::PoolerBias => Self::Pooler,
            Self::HeadDenseBias => Self::HeadDense,
            Self::HeadNormBias => Self::HeadNormWeight,
            Self::HeadBias => Self::Head,
            Self::Layer(layer, param) => Self::Layer(layer, param.bias_of()?),
            _ => return None,
        })
    }

    /// Whether it belongs to what stands on the trunk (the pooler does not).
    pub(crate) fn in_head(self) -> bool {
        matches!(
            self,
            Self::HeadDense
                | Self::HeadDenseBias
                | Self::HeadNormWeight
                | Self::HeadNormBias
                | Self::Head
                | Self::HeadBias
        )
    }
}

impl ModelSpec {
    /// Every weight of the model with its shape, in the order of the forward pass.
    pub fn params(&self) -> impl Iterator<Item = (Param, Vec<usize>)> {
        let blocks = (0..self.layers)
            .flat_map(|layer| LayerParam::ALL.map(|param| Param::Layer(layer, param)));
        Param::BEFORE
            .into_iter()
            .chain(blocks)
            .chain(Param::AFTER)
            .filter_map(|param| Some((param, self.shape(param)?)))
    }

    /// The shape of a weight as `Model::tensor` returns it; `None` if this model has no such
    /// weight.
    pub fn shape(&self, param: Param) -> Option<Vec<usize>> {
        match param {
            Param::Layer(layer, param) if layer < self.layers => self.layer_shape(param),
            Param::Layer(..) => None,
            Param::HeadDense
            | Param::HeadDenseBias
            | Param::HeadNormWeight
            | Param::HeadNormBias
            | Param::HeadProject
            | Param::Head
            | Param::HeadBias => self.head_shape(param),
            _ => self.trunk_shape(param),
        }
    }

    fn trunk_shape(&self, param: Param) -> Option<Vec<usize>> {
        let (narrow, wide) = (self.embedding.width, self.width);
        let project = self.embedding.project;
        let position_width = match project {
            Some(projection) if projection.before_positions => wide,
            _ => narrow,
        };
        let norm = self.embedding.norm;
        match param {
            Param::Tokens => Some(vec![self.vocab, narrow]),
            Param::Positions => match self.positions {
                PositionSpec::Learned { rows, .. } | PositionSpec::LearnedFromIds { rows, .. } => {
                    Some(vec![rows, position_width])
                }
                _ => None,
            },
            Param::TokenTypes => {
                (self.embedding.token_types > 0).then(|| vec![self.embedding.token_types, narrow])
            }
            Param::EmbeddingNormWeight => norm.map(|_| vec![narrow]),
            Param::EmbeddingNormBias => norm.filter(has_bias).map(|_| vec![narrow]),
            Param::EmbeddingProject => project.map(|_| vec![wide, narrow]),
            Param::EmbeddingProjectBias => project.filter(|p| p.bias).map(|_| vec![wide]),
            Param::RelativeBias => match self.positions {
                PositionSpec::Relative { buckets, .. } => Some(vec![buckets, self.attention.heads]),
                _ => None,
            },
            Param::FinalNormWeight => self.final_norm.then(|| vec![wide]),
            Param::FinalNormBias => (self.final_norm && has_bias(&self.norm)).then(|| vec![wide]),
            Param::Pooler => self.pooler.then(|| vec![wide, wide]),
            Param::PoolerBias => self.pooler.then(|| vec![wide]),
            _ => None,
        }
    }

    fn layer_shape(&self, param: LayerParam) -> Option<Vec<usize>> {
        let (wide, mlp, attention) = (self.width, self.mlp, &self.attention);
        let queries = attention.heads * attention.head_width;
        let qkv = queries + 2 * attention.kv_heads * attention.head_width;
        let qk_norm = attention.qk_norm.map(|_| vec![attention.head_width]);
        let qk_bias = attention.qk_norm.filter(has_bias).map(|_| vec![attention.head_width]);
        let sandwich = self.block == BlockSpec::Sandwich;
        let mlp_norm = self.block != BlockSpec::ParallelSharedNorm;
        let bias = has_bias(&self.norm);
        let (there, shape) = match param {
            LayerParam::AttnNormWeight => (true, vec![wide]),
            LayerParam::AttnNormBias => (bias, vec![wide]),
            LayerParam::Qkv => (true, vec![qkv, wide]),
            LayerParam::QkvBias => (attention.qkv_bias, vec![qkv]),
            LayerParam::QNormWeight | LayerParam::KNormWeight => return qk_norm,
            LayerParam::QNormBias | LayerParam::KNormBias => return qk_bias,
            LayerParam::Out => (true, vec![wide, queries]),
            LayerParam::OutBias => (attention.out_bias, vec![wide]),
            LayerParam::AttnPostNormWeight | LayerParam::MlpPostNormWeight => {
                (sandwich, vec![wide])
            }
            LayerParam::MlpNormWeight => (mlp_norm, vec![wide]),
            LayerParam::MlpNormBias => (mlp_norm && bias, vec![wide]),
            LayerParam::Gate => (mlp.gated, vec![mlp.width, wide]),
            LayerParam::GateBias => (mlp.gated && mlp.bias, vec![mlp.width]),
            LayerParam::Up => (true, vec![mlp.width, wide]),
            LayerParam::UpBias => (mlp.bias, vec![mlp.width]),
            LayerParam::Down => (true, vec![wide, mlp.width]),
            LayerParam::DownBias => (mlp.bias, vec![wide]),
        };
        there.then_some(shape)
    }

    fn head_shape(&self, param: Param) -> Option<Vec<usize>> {
        let wide = self.width;
        match self.head {
            HeadSpec::None => None,
            HeadSpec::Lm { transform, width, project, bias, .. } => match param {
                Param::HeadDense => transform.map(|_| vec![width, wide]),
                Param::HeadDenseBias | Param::HeadNormWeight => transform.map(|_| vec![width]),
                Param::HeadNormBias => transform.filter(|t| has_bias(&t.norm)).map(|_| vec![width]),
                Param::HeadProject => project.then(|| vec![width, wide]),
                Param::Head => Some(vec![self.vocab, width]),
                Param::HeadBias => bias.then(|| vec![self.vocab]),
                _ => None,
            },
            HeadSpec::TokenClasses { classes } | HeadSpec::SequenceClasses { classes } => {
                match param {
                    Param::Head => Some(vec![classes, wide]),
                    Param::HeadBias => Some(vec![classes]),
                    _ => None,
                }
            }
            HeadSpec::Discriminator { .. } => match param {
                Param::HeadDense => Some(vec![wide, wide]),
                Param::HeadDenseBias => Some(vec![wide]),
                Param::Head => Some(vec![1, wide]),
                Param::HeadBias => Some(vec![1]),
                _ => None,
            },
        }
    }
}

/// A norm that subtracts the mean also adds a bias.
fn has_bias(norm: &NormSpec) -> bool {
    norm.kind == NormKind::Layer
}
