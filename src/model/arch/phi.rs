//! Phi 1, 1.5 and 2 (Gunasekar et al. 2023): attention and MLP side by side behind one norm.

use super::At::{One, Three};
use super::common::{attention, causal_head, even_heads, layer_norm, plain_embedding};
use super::rope::{self, Legacy};
use super::{Architecture, Keys};
use crate::error::Result;
use crate::model::settings::Settings;
use crate::model::spec::{Activation, BlockSpec, LayerParam, MlpSpec, ModelSpec, Param};

pub(super) const PHI: Architecture = Architecture {
    name: "phi",
    prefixes: &["model.", ""],
    block: "layers.",
    trunk: &[
        (Param::Tokens, One("embed_tokens")),
        (Param::FinalNormWeight, One("final_layernorm")),
    ],
    layer: &[
        (LayerParam::AttnNormWeight, One("input_layernorm")),
        (LayerParam::Qkv, Three("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
        (LayerParam::QNormWeight, One("self_attn.q_layernorm")),
        (LayerParam::KNormWeight, One("self_attn.k_layernorm")),
        (LayerParam::Out, One("self_attn.dense")),
        (LayerParam::Up, One("mlp.fc1")),
        (LayerParam::Down, One("mlp.fc2")),
    ],
    head: |_| &[(Param::Head, One("lm_head"))],
    layers: &["num_hidden_layers"],
    mlp_width: &["intermediate_size"],
    heads: None,
    beside: None,
    tied: false,
    describe,
};

const LEGACY: Legacy =
    Legacy { theta: "rope_theta", share: "partial_rotary_factor", default_share: 0.5 };

fn describe(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let width = settings.count(&["hidden_size"])?;
    let layers = settings.layers(PHI.layers)?;
    let heads = settings.count(&["num_attention_heads"])?;
    let head_width = even_heads(settings, width, heads)?;
    let norm = layer_norm(settings.epsilon(&["layer_norm_eps"], 1e-5)?);
    let mut attention = attention(layers, heads, head_width);
    attention.kv_heads = settings.count_or(&["num_key_value_heads"], heads)?;
    attention.qk_norm = settings.flag("qk_layernorm", false)?.then_some(norm);
    Ok(ModelSpec {
        architecture: "phi".to_owned(),
        vocab: settings.count(&["vocab_size"])?,
        width,
        layers,
        max_tokens: settings.optional_count("max_position_embeddings")?,
        embedding: plain_embedding(width),
        positions: rope::positions(settings, head_width, &LEGACY)?,
        attention,
        mlp: MlpSpec {
            width: settings.count(PHI.mlp_width)?,
            activation: settings.activation("hidden_act", Activation::GeluTanh)?,
            gated: false,
            bias: true,
        },
        block: BlockSpec::ParallelSharedNorm,
        norm,
        final_norm: true,
        pooler: false,
        head: causal_head(settings, keys, "lm_head", width)?,
        bos: settings.token("bos_token_id")?,
    })
}
