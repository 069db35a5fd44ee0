//! What a transformer language model is, as data: one [`ModelSpec`] describes every architecture,
//! and one forward program runs it. No code below asks for a model by name.

/// The nonlinearity of an MLP or a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// The exact form with erf.
    GeluErf,
    /// The tanh approximation (`gelu_new`, `gelu_pytorch_tanh`, BLOOM's own).
    GeluTanh,
    /// x * sigmoid(x).
    Silu,
    /// tanh(x) (BERT's pooler).
    Tanh,
}

/// Kind and constant of a norm; the weights are looked up by [`Param`].
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct NormSpec {
    /// Mean and variance, or root mean square only.
    pub kind: NormKind,
    /// Added to the variance.
    pub eps: f32,
    /// The stored weight is w, the factor 1 + w (Gemma).
    pub plus_one: bool,
}

/// See [`NormSpec::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Subtracts the mean, divides by the standard deviation; weight and bias.
    Layer,
    /// Divides by the root mean square; weight only.
    Rms,
}

/// How tokens become the stream that enters layer 0.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct EmbeddingSpec {
    /// Width E of the token table.
    pub width: usize,
    /// The looked-up row is multiplied by this (Gemma: sqrt(D)).
    pub scale: f32,
    /// Rows of the token-type table; 0 for none. Type 0 is added where none is given.
    pub token_types: usize,
    /// A norm after the sum of tables (BERT, BLOOM).
    pub norm: Option<NormSpec>,
    /// A matrix E -> D (ELECTRA, OPT), and whether it stands before the position table is added.
    pub project: Option<Projection>,
    /// What stands before the matrix is a site, `embeddings_narrow`; ELECTRA's is one even where it
    /// is as wide as the stream, so that one run file serves its small and its large models.
    pub narrow_site: bool,
}

/// See [`EmbeddingSpec::project`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Projection {
    /// The matrix has a bias.
    pub bias: bool,
    /// True: tokens are projected, then positions (of width D) are added (OPT). False: positions
    /// (of width E) are added and normed, then all is projected (ELECTRA).
    pub before_positions: bool,
}

/// How a token knows where it stands.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "scheme")]
pub enum PositionSpec {
    /// A table of `rows` rows; position p takes row p + `offset`.
    Learned {
        /// Rows of the table, offset included.
        rows: usize,
        /// OPT 2, others 0.
        offset: usize,
    },
    /// RoBERTa: the table's row is pad + (number of non-pad tokens so far), pads take row pad.
    LearnedFromIds {
        /// Rows of the table.
        rows: usize,
        /// The id of the padding token.
        pad: u32,
    },
    /// Rotates the first 2 * inv_freq.len() columns of each query and key head, in halves:
    /// column j pairs with column j + len.
    Rotary {
        /// Inverse frequencies, as the float32 model holds them.
        inv_freq: Vec<f32>,
    },
    /// Adds slope * (key position) to the scores; one slope per head.
    Alibi {
        /// Slope of each head.
        slopes: Vec<f32>,
    },
    /// T5: a learned bias per bucket of distance and head, read from layer 0.
    Relative {
        /// Rows of the bias table.
        buckets: usize,
        /// Distances from here on share the last bucket.
        max_distance: usize,
        /// Encoder: half of the buckets for keys after the query.
        bidirectional: bool,
    },
}

/// Shape and rule of the attention.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct AttentionSpec {
    /// Query heads H.
    pub heads: usize,
    /// Key and value heads K; H % K == 0.
    pub kv_heads: usize,
    /// Width d of a head.
    pub head_width: usize,
    /// Scores are multiplied by this, one per layer (GPT-2 may divide by the layer number).
    pub scale: Vec<f32>,
    /// Scores become c * tanh(s / c) (Gemma 2).
    pub softcap: Option<f32>,
    /// A query sees keys up to itself only.
    pub causal: bool,
    /// Per layer: a query sees only the last `w` keys, itself included.
    pub windows: Vec<Option<usize>>,
    /// A norm over each query and key head before rotation (Qwen 3, Phi).
    pub qk_norm: Option<NormSpec>,
    /// q, k, v have a bias.
    pub qkv_bias: bool,
    /// The output projection has a bias.
    pub out_bias: bool,
}

/// The feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MlpSpec {
    /// Neurons F per layer.
    pub width: usize,
    /// Its nonlinearity.
    pub activation: Activation,
    /// act(gate) * up instead of act(up).
    pub gated: bool,
    /// Its matrices have biases.
    pub bias: bool,
}

/// How a block adds to the stream. `N` is that place's norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockSpec {
    /// mid = pre + attn(N pre); post = mid + mlp(N mid).
    PreNorm,
    /// mid = N(pre + attn(pre)); post = N(mid + mlp(mid)).
    PostNorm,
    /// post = pre + attn(N pre) + mlp(N' pre), with a norm for each branch (GPT-NeoX).
    Parallel,
    /// post = pre + attn(N pre) + mlp(N pre), one norm for both (Phi).
    ParallelSharedNorm,
    /// mid = pre + N(attn(N pre)); post = mid + N(mlp(N mid)) (Gemma 2).
    Sandwich,
    /// mid = N pre + attn(N pre); post = N mid + mlp(N mid) (BLOOM with
    /// `apply_residual_connection_post_layernorm`).
    ResidualAfterNorm,
}

/// What stands on the trunk.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "head")]
pub enum HeadSpec {
    /// Nothing: `logits` and `loss` cannot be had.
    None,
    /// A distribution over the vocabulary at each token.
    Lm {
        /// A dense layer, nonlinearity and norm first (masked language models).
        transform: Option<HeadTransform>,
        /// Width of what the last matrix reads (ELECTRA, OPT: E).
        width: usize,
        /// OPT: a matrix D -> E without bias before the last one.
        project: bool,
        /// The last matrix has a bias.
        bias: bool,
        /// Logits become c * tanh(l / c) (Gemma 2).
        softcap: Option<f32>,
    },
    /// A class per token.
    TokenClasses {
        /// Number of classes.
        classes: usize,
    },
    /// A class per sequence, from the pooler's output.
    SequenceClasses {
        /// Number of classes.
        classes: usize,
    },
    /// ELECTRA: was this token replaced; one logit per token.
    Discriminator {
        /// Of the dense layer before the last one.
        activation: Activation,
    },
}

/// See [`HeadSpec::Lm`].
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct HeadTransform {
    /// After the dense layer.
    pub activation: Activation,
    /// After the nonlinearity.
    pub norm: NormSpec,
}

/// A model, described. Filled from `config.json` by one table per architecture in `model/arch/`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ModelSpec {
    /// `model_type` of the configuration, normalised to the names of the documentation.
    pub architecture: String,
    /// Rows of the token table V.
    pub vocab: usize,
    /// Width of the stream D.
    pub width: usize,
    /// Number of blocks L.
    pub layers: usize,
    /// Longest sequence the position scheme allows, in tokens, if it has a limit.
    pub max_tokens: Option<usize>,
    /// Tokens to stream.
    pub embedding: EmbeddingSpec,
    /// Position scheme.
    pub positions: PositionSpec,
    /// Attention.
    pub attention: AttentionSpec,
    /// Feed-forward part.
    pub mlp: MlpSpec,
    /// Order of norms and sums.
    pub block: BlockSpec,
    /// The norm of the blocks.
    pub norm: NormSpec,
    /// The trunk ends in a norm of its own.
    pub final_norm: bool,
    /// BERT's pooler is in the checkpoint.
    pub pooler: bool,
    /// What stands on top.
    pub head: HeadSpec,
    /// The id that opens a sequence, where the configuration names one.
    pub bos: Option<u32>,
}

/// Longest sequence that corpora are cut into unless the user says otherwise: buffers grow with
/// it, and models are trained to far more positions than most texts use.
const DEFAULT_SEQUENCE: usize = 2048;

impl ModelSpec {
    /// Whether `logits` has a row per sequence, and not per token.
    pub fn logits_per_sequence(&self) -> bool {
        matches!(self.head, HeadSpec::SequenceClasses { .. })
    }

    /// Width of `logits`: the vocabulary, the classes, or 1 for a yes-no question.
    pub fn classes(&self) -> Option<usize> {
        match self.head {
            HeadSpec::None => None,
            HeadSpec::Lm { .. } => Some(self.vocab),
            HeadSpec::TokenClasses { classes } | HeadSpec::SequenceClasses { classes } => {
                Some(classes)
            }
            HeadSpec::Discriminator { .. } => Some(1),
        }
    }

    /// Width of the head's hidden layer, for heads with two matrices.
    pub fn head_hidden_width(&self) -> Option<usize> {
        match self.head {
            HeadSpec::Lm { transform: Some(_), width, .. } => Some(width),
            HeadSpec::Lm { project: true, width, .. } => Some(width),
            HeadSpec::Discriminator { .. } => Some(self.width),
            _ => None,
        }
    }

    /// Width of what the head's last matrix reads.
    pub fn head_input_width(&self) -> usize {
        self.head_hidden_width().unwrap_or(self.width)
    }

    /// Longest sequence to cut a corpus into: what the user asked for, within the model's limit.
    pub fn sequence_limit(&self, asked: Option<usize>) -> usize {
        asked.unwrap_or(DEFAULT_SEQUENCE).min(self.max_tokens.unwrap_or(usize::MAX))
    }
}

/// A weight, named by what it does. `Model::tensor` finds it under any checkpoint's key and
/// returns it in one orientation: matrices are `[out, in]`, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Param {
    /// `[V, E]`.
    Tokens,
    /// `[rows, D or E]`.
    Positions,
    /// `[types, E]`.
    TokenTypes,
    /// `[E]`.
    EmbeddingNormWeight,
    /// `[E]`.
    EmbeddingNormBias,
    /// `[D, E]`.
    EmbeddingProject,
    /// `[D]`.
    EmbeddingProjectBias,
    /// `[buckets, H]` (T5).
    RelativeBias,
    /// One layer's.
    Layer(usize, LayerParam),
    /// `[D]`.
    FinalNormWeight,
    /// `[D]`.
    FinalNormBias,
    /// `[D, D]`.
    Pooler,
    /// `[D]`.
    PoolerBias,
    /// `[D or E, D]`: the dense layer of a masked-language or discriminator head.
    HeadDense,
    /// Its bias.
    HeadDenseBias,
    /// The head's norm.
    HeadNormWeight,
    /// The head's norm.
    HeadNormBias,
    /// `[E, D]` (OPT).
    HeadProject,
    /// `[V or classes, *]`: the last matrix; the token table where tied.
    Head,
    /// Its bias.
    HeadBias,
}

/// A weight of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerParam {
    /// Norm of the attention branch: before it, or after its sum in post-norm models. `[D]`.
    AttnNormWeight,
    /// Its bias.
    AttnNormBias,
    /// Queries, then keys, then values, one under the other: `[(H + 2K) * d, D]`. Checkpoints
    /// that interleave them by head, or keep three matrices, are put in this order on loading.
    Qkv,
    /// `[(H + 2K) * d]`.
    QkvBias,
    /// Norm of each query head, `[d]`.
    QNormWeight,
    /// Its bias (Phi).
    QNormBias,
    /// Norm of each key head, `[d]`.
    KNormWeight,
    /// Its bias (Phi).
    KNormBias,
    /// Output projection, `[D, H * d]`.
    Out,
    /// Its bias.
    OutBias,
    /// Gemma 2: norm of the attention's output. `[D]`.
    AttnPostNormWeight,
    /// Norm of the MLP branch: before it, or after its sum in post-norm models. `[D]`.
    MlpNormWeight,
    /// Its bias.
    MlpNormBias,
    /// Gated MLPs: `[F, D]`.
    Gate,
    /// Its bias.
    GateBias,
    /// `[F, D]`: the linear branch of gated MLPs, the only one of others.
    Up,
    /// Its bias.
    UpBias,
    /// `[D, F]`.
    Down,
    /// Its bias.
    DownBias,
    /// Gemma 2: norm of the MLP's output. `[D]`.
    MlpPostNormWeight,
}
