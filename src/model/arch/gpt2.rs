//! GPT-2 (Radford et al. 2019). Its matrices are stored `[in, out]`.

use super::At::{Conv1d, One};
use super::common::{attention, causal_head, even_heads, layer_norm, plain_embedding, root};
use super::{Architecture, Keys};
use crate::error::Result;
use crate::model::settings::{Settings, narrow};
use crate::model::spec::{
    Activation, BlockSpec, LayerParam, MlpSpec, ModelSpec, Param, PositionSpec,
};

pub(super) const GPT2: Architecture = Architecture {
    name: "gpt2",
    prefixes: &["transformer.", ""],
    block: "h.",
    trunk: &[
        (Param::Tokens, One("wte")),
        (Param::Positions, One("wpe")),
        (Param::FinalNormWeight, One("ln_f")),
    ],
    layer: &[
        (LayerParam::AttnNormWeight, One("ln_1")),
        (LayerParam::Qkv, Conv1d("attn.c_attn")),
        (LayerParam::Out, Conv1d("attn.c_proj")),
        (LayerParam::MlpNormWeight, One("ln_2")),
        (LayerParam::Up, Conv1d("mlp.c_fc")),
        (LayerParam::Down, Conv1d("mlp.c_proj")),
    ],
    head: |_| &[(Param::Head, One("lm_head"))],
    layers: &["n_layer", "num_hidden_layers"],
    mlp_width: &["n_inner"],
    heads: None,
    beside: None,
    tied: true,
    describe,
};

fn describe(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let cross = settings.flag("add_cross_attention", false)?;
    settings.refuse_if(cross, "add_cross_attention", "cross-attention is not supported")?;
    let width = settings.count(&["n_embd", "hidden_size"])?;
    let layers = settings.layers(GPT2.layers)?;
    let heads = settings.count(&["n_head", "num_attention_heads"])?;
    let rows = settings.count_or(&["n_positions", "max_position_embeddings", "n_ctx"], 1024)?;
    let head_width = even_heads(settings, width, heads)?;
    let mut attention = attention(layers, heads, head_width);
    attention.scale = scales(settings, layers, head_width)?;
    Ok(ModelSpec {
        architecture: "gpt2".to_owned(),
        vocab: settings.count(&["vocab_size"])?,
        width,
        layers,
        max_tokens: Some(rows),
        embedding: plain_embedding(width),
        positions: PositionSpec::Learned { rows, offset: 0 },
        attention,
        mlp: MlpSpec {
            width: settings.count_or(GPT2.mlp_width, 4 * width)?,
            activation: settings.activation("activation_function", Activation::GeluTanh)?,
            gated: false,
            bias: true,
        },
        block: BlockSpec::PreNorm,
        norm: layer_norm(settings.epsilon(&["layer_norm_epsilon"], 1e-5)?),
        final_norm: true,
        pooler: false,
        head: causal_head(settings, keys, "lm_head", width)?,
        bos: settings.token("bos_token_id")?,
    })
}

/// Scores may be divided by the layer's number, counted from 1 (Mistral's GPT-2 variants).
fn scales(settings: &Settings, layers: usize, head_width: usize) -> Result<Vec<f32>> {
    let scaled = settings.flag("scale_attn_weights", true)?;
    let by_layer = settings.flag("scale_attn_by_inverse_layer_idx", false)?;
    let base = if scaled { 1.0 / root(head_width) } else { 1.0 };
    let numbers = (1..=u32::try_from(layers).unwrap_or(u32::MAX)).map(f64::from);
    Ok(numbers.map(|number| narrow(if by_layer { base / number } else { base })).collect())
}
