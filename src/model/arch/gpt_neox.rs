//! GPT-NeoX (Black et al. 2022) and Pythia (Biderman et al. 2023): attention and MLP side by side.

use super::At::{ByHead, One};
use super::common::{attention, causal_head, even_heads, layer_norm, plain_embedding};
use super::rope::{self, Legacy};
use super::{Architecture, Keys};
use crate::error::Result;
use crate::model::settings::Settings;
use crate::model::spec::{Activation, BlockSpec, LayerParam, MlpSpec, ModelSpec, Param};

pub(super) const GPT_NEOX: Architecture = Architecture {
    name: "gpt_neox",
    prefixes: &["gpt_neox.", ""],
    block: "layers.",
    trunk: &[(Param::Tokens, One("embed_in")), (Param::FinalNormWeight, One("final_layer_norm"))],
    layer: &[
        (LayerParam::AttnNormWeight, One("input_layernorm")),
        (LayerParam::Qkv, ByHead("attention.query_key_value")),
        (LayerParam::Out, One("attention.dense")),
        (LayerParam::MlpNormWeight, One("post_attention_layernorm")),
        (LayerParam::Up, One("mlp.dense_h_to_4h")),
        (LayerParam::Down, One("mlp.dense_4h_to_h")),
    ],
    head: |_| &[(Param::Head, One("embed_out"))],
    layers: &["num_hidden_layers"],
    mlp_width: &["intermediate_size"],
    heads: None,
    beside: None,
    tied: false,
    describe,
};

const LEGACY: Legacy =
    Legacy { theta: "rotary_emb_base", share: "rotary_pct", default_share: 0.25 };

fn describe(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let width = settings.count(&["hidden_size"])?;
    let layers = settings.layers(GPT_NEOX.layers)?;
    let heads = settings.count(&["num_attention_heads"])?;
    let head_width = even_heads(settings, width, heads)?;
    let mut attention = attention(layers, heads, head_width);
    attention.qkv_bias = settings.flag("attention_bias", true)?;
    attention.out_bias = attention.qkv_bias;
    let parallel = settings.flag("use_parallel_residual", true)?;
    Ok(ModelSpec {
        architecture: "gpt_neox".to_owned(),
        vocab: settings.count(&["vocab_size"])?,
        width,
        layers,
        max_tokens: settings.optional_count("max_position_embeddings")?,
        embedding: plain_embedding(width),
        positions: rope::positions(settings, head_width, &LEGACY)?,
        attention,
        mlp: MlpSpec {
            width: settings.count(GPT_NEOX.mlp_width)?,
            activation: settings.activation("hidden_act", Activation::GeluErf)?,
            gated: false,
            bias: true,
        },
        block: if parallel { BlockSpec::Parallel } else { BlockSpec::PreNorm },
        norm: layer_norm(settings.epsilon(&["layer_norm_eps"], 1e-5)?),
        final_norm: true,
        pooler: false,
        head: causal_head(settings, keys, "embed_out", width)?,
        bos: settings.token("bos_token_id")?,
    })
}
