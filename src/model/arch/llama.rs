//! LLaMA (Touvron et al. 2023) and those built like it: Mistral, Qwen 2 and Qwen 3.

use super::At::{One, Three};
use super::common::{
    attention, causal_head, even_heads, inverse_root, plain_embedding, rms_norm, windows,
};
use super::rope::{self, WHOLE};
use super::{Architecture, At, HeadKeys, Keys};
use crate::error::Result;
use crate::model::settings::Settings;
use crate::model::spec::{Activation, BlockSpec, LayerParam, MlpSpec, ModelSpec, Param};

const HEAD_KEYS: HeadKeys =
    HeadKeys { heads: "num_attention_heads", kv_heads: "num_key_value_heads", width: "head_dim" };

pub(super) const LLAMA: Architecture = Architecture {
    name: "llama",
    prefixes: &["model.", ""],
    block: "layers.",
    trunk: &[(Param::Tokens, One("embed_tokens")), (Param::FinalNormWeight, One("norm"))],
    layer: LAYER,
    head: |_| &[(Param::Head, One("lm_head"))],
    layers: &["num_hidden_layers"],
    mlp_width: &["intermediate_size"],
    heads: Some(HEAD_KEYS),
    beside: None,
    tied: false,
    describe: describe_llama,
};

pub(super) const MISTRAL: Architecture =
    Architecture { name: "mistral", describe: describe_mistral, ..LLAMA };

pub(super) const QWEN2: Architecture =
    Architecture { name: "qwen2", describe: describe_qwen2, ..LLAMA };

pub(super) const QWEN3: Architecture =
    Architecture { name: "qwen3", describe: describe_qwen3, ..LLAMA };

const LAYER: &[(LayerParam, At)] = &[
    (LayerParam::AttnNormWeight, One("input_layernorm")),
    (LayerParam::Qkv, Three("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    (LayerParam::QNormWeight, One("self_attn.q_norm")),
    (LayerParam::KNormWeight, One("self_attn.k_norm")),
    (LayerParam::Out, One("self_attn.o_proj")),
    (LayerParam::MlpNormWeight, One("post_attention_layernorm")),
    (LayerParam::Gate, One("mlp.gate_proj")),
    (LayerParam::Up, One("mlp.up_proj")),
    (LayerParam::Down, One("mlp.down_proj")),
];

/// Defaults that differ within the family.
pub(super) struct Family {
    pub(super) name: &'static str,
    /// Where `num_key_value_heads` is absent; `None`: as many as query heads.
    pub(super) kv_heads: Option<usize>,
    /// Where `head_dim` is absent; `None`: the stream cut evenly.
    pub(super) head_width: Option<usize>,
}

/// The trunk and head that the family has in common: no biases, no windows.
pub(super) fn decoder(settings: &Settings, keys: &Keys, family: &Family) -> Result<ModelSpec> {
    let width = settings.count(&["hidden_size"])?;
    let layers = settings.layers(LLAMA.layers)?;
    let heads = settings.count(&["num_attention_heads"])?;
    let head_width = match settings.optional_count("head_dim")?.or(family.head_width) {
        Some(head_width) => head_width,
        None => even_heads(settings, width, heads)?,
    };
    let mut attention = attention(layers, heads, head_width);
    let kv_heads = family.kv_heads.unwrap_or(heads);
    attention.kv_heads = settings.count_or(&["num_key_value_heads"], kv_heads)?;
    attention.scale = vec![inverse_root(head_width); layers];
    (attention.qkv_bias, attention.out_bias) = (false, false);
    Ok(ModelSpec {
        architecture: family.name.to_owned(),
        vocab: settings.count(&["vocab_size"])?,
        width,
        layers,
        max_tokens: settings.optional_count("max_position_embeddings")?,
        embedding: plain_embedding(width),
        positions: rope::positions(settings, head_width, &WHOLE)?,
        attention,
        mlp: MlpSpec {
            width: settings.count(LLAMA.mlp_width)?,
            activation: settings.activation("hidden_act", Activation::Silu)?,
            gated: true,
            bias: false,
        },
        block: BlockSpec::PreNorm,
        norm: rms_norm(settings.epsilon(&["rms_norm_eps"], 1e-6)?),
        final_norm: true,
        pooler: false,
        head: causal_head(settings, keys, "lm_head", width)?,
        bos: settings.token("bos_token_id")?,
    })
}

/// `attention_bias` concerns all four projections.
pub(super) fn set_attention_bias(spec: &mut ModelSpec, settings: &Settings) -> Result<()> {
    let bias = settings.flag("attention_bias", false)?;
    (spec.attention.qkv_bias, spec.attention.out_bias) = (bias, bias);
    Ok(())
}

/// A width of the window, absent if the key is `null`, and by default 4096.
pub(super) fn window(settings: &Settings) -> Result<Option<usize>> {
    let default = (!settings.names("sliding_window")).then_some(4096);
    Ok(settings.optional_count("sliding_window")?.or(default))
}

fn describe_llama(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let family = Family { name: "llama", kv_heads: None, head_width: None };
    let mut spec = decoder(settings, keys, &family)?;
    set_attention_bias(&mut spec, settings)?;
    spec.mlp.bias = settings.flag("mlp_bias", false)?;
    Ok(spec)
}

fn describe_mistral(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let family = Family { name: "mistral", kv_heads: Some(8), head_width: None };
    let mut spec = decoder(settings, keys, &family)?;
    spec.attention.windows = windows(settings, spec.layers, window(settings)?, |_| true)?;
    Ok(spec)
}

/// Qwen: a window only where it is switched on, and only from layer `max_window_layers` on.
fn set_qwen_windows(spec: &mut ModelSpec, settings: &Settings) -> Result<()> {
    let on = settings.flag("use_sliding_window", false)?;
    let width = if on { window(settings)? } else { None };
    let first = match settings.names("max_window_layers") {
        // Zero is a meaning here: every layer slides.
        true if settings.is_zero("max_window_layers") => 0,
        _ => settings.count_or(&["max_window_layers"], 28)?,
    };
    spec.attention.windows = windows(settings, spec.layers, width, |layer| layer >= first)?;
    Ok(())
}

fn describe_qwen2(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let family = Family { name: "qwen2", kv_heads: Some(32), head_width: None };
    let mut spec = decoder(settings, keys, &family)?;
    spec.attention.qkv_bias = true;
    set_qwen_windows(&mut spec, settings)?;
    Ok(spec)
}

fn describe_qwen3(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let family = Family { name: "qwen3", kv_heads: Some(32), head_width: Some(128) };
    let mut spec = decoder(settings, keys, &family)?;
    set_attention_bias(&mut spec, settings)?;
    spec.attention.qk_norm = Some(spec.norm);
    set_qwen_windows(&mut spec, settings)?;
    Ok(spec)
}
