//! DistilBERT (Sanh et al. 2019): BERT without token types and pooler, under other names. Its
//! sinusoidal positions are stored like learned ones.

use super::At::{One, Three};
use super::bert::CLASSES;
use super::common::{self, MaskedHead, attention, even_heads, layer_norm};
use super::{Architecture, Keys};
use crate::error::Result;
use crate::model::settings::Settings;
use crate::model::spec::{
    Activation, BlockSpec, EmbeddingSpec, HeadSpec, HeadTransform, LayerParam, MlpSpec, ModelSpec,
    Param, PositionSpec,
};

pub(super) const DISTILBERT: Architecture = Architecture {
    name: "distilbert",
    prefixes: &["distilbert.", ""],
    block: "transformer.layer.",
    trunk: &[
        (Param::Tokens, One("embeddings.word_embeddings")),
        (Param::Positions, One("embeddings.position_embeddings")),
        (Param::EmbeddingNormWeight, One("embeddings.LayerNorm")),
    ],
    layer: &[
        (LayerParam::Qkv, Three("attention.q_lin", "attention.k_lin", "attention.v_lin")),
        (LayerParam::Out, One("attention.out_lin")),
        (LayerParam::AttnNormWeight, One("sa_layer_norm")),
        (LayerParam::Up, One("ffn.lin1")),
        (LayerParam::Down, One("ffn.lin2")),
        (LayerParam::MlpNormWeight, One("output_layer_norm")),
    ],
    head: |head| match head {
        HeadSpec::TokenClasses { .. } => CLASSES,
        _ => &[
            (Param::HeadDense, One("vocab_transform")),
            (Param::HeadNormWeight, One("vocab_layer_norm")),
            (Param::Head, One("vocab_projector")),
        ],
    },
    layers: &["n_layers", "num_hidden_layers"],
    mlp_width: &["hidden_dim", "intermediate_size"],
    heads: None,
    beside: None,
    tied: true,
    describe,
};

fn describe(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let width = settings.count(&["dim", "hidden_size"])?;
    let layers = settings.layers(DISTILBERT.layers)?;
    let heads = settings.count(&["n_heads", "num_attention_heads"])?;
    let rows = settings.count_or(&["max_position_embeddings"], 512)?;
    let activation = settings.activation("activation", Activation::GeluErf)?;
    // Not a setting in this architecture.
    let norm = layer_norm(1e-12);
    let masked = MaskedHead {
        dense: "vocab_transform.weight",
        biases: ["vocab_projector.bias"; 2],
        last: "vocab_projector.weight",
        width,
        transform: HeadTransform { activation, norm },
    };
    let mut attention = attention(layers, heads, even_heads(settings, width, heads)?);
    attention.causal = false;
    Ok(ModelSpec {
        architecture: "distilbert".to_owned(),
        vocab: settings.count(&["vocab_size"])?,
        width,
        layers,
        max_tokens: Some(rows),
        embedding: EmbeddingSpec { norm: Some(norm), ..common::plain_embedding(width) },
        positions: PositionSpec::Learned { rows, offset: 0 },
        attention,
        mlp: MlpSpec {
            width: settings.count(DISTILBERT.mlp_width)?,
            activation,
            gated: false,
            bias: true,
        },
        block: BlockSpec::PostNorm,
        norm,
        final_norm: false,
        pooler: false,
        head: common::encoder_head(settings, keys, masked)?,
        bos: settings.token("bos_token_id")?,
    })
}
