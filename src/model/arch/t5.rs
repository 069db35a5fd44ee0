//! The encoder of T5 (Raffel et al. 2020): learned biases by distance, scores without a scale, no
//! biases elsewhere. The decoder of a full checkpoint is left alone, so there is no head.

use super::At::{Either, One, Three};
use super::common::{attention, plain_embedding, rms_norm};
use super::{Architecture, Beside, Keys};
use crate::error::Result;
use crate::model::settings::Settings;
use crate::model::spec::{
    Activation, BlockSpec, HeadSpec, LayerParam, MlpSpec, ModelSpec, Param, PositionSpec,
};

pub(super) const T5: Architecture = Architecture {
    name: "t5",
    prefixes: &[""],
    block: "encoder.block.",
    trunk: &[
        (Param::Tokens, Either("shared", "encoder.embed_tokens")),
        (Param::RelativeBias, One("encoder.block.0.layer.0.SelfAttention.relative_attention_bias")),
        (Param::FinalNormWeight, One("encoder.final_layer_norm")),
    ],
    layer: &[
        (LayerParam::AttnNormWeight, One("layer.0.layer_norm")),
        (
            LayerParam::Qkv,
            Three("layer.0.SelfAttention.q", "layer.0.SelfAttention.k", "layer.0.SelfAttention.v"),
        ),
        (LayerParam::Out, One("layer.0.SelfAttention.o")),
        (LayerParam::MlpNormWeight, One("layer.1.layer_norm")),
        (LayerParam::Gate, One("layer.1.DenseReluDense.wi_0")),
        (
            LayerParam::Up,
            // The only input matrix, or the linear one of a gated pair.
            Either("layer.1.DenseReluDense.wi", "layer.1.DenseReluDense.wi_1"),
        ),
        (LayerParam::Down, One("layer.1.DenseReluDense.wo")),
    ],
    head: |_| &[],
    layers: &["num_layers", "num_hidden_layers"],
    mlp_width: &["d_ff"],
    heads: None,
    beside: Some(Beside { prefix: "decoder.", layers: "num_decoder_layers" }),
    tied: true,
    describe,
};

fn describe(settings: &Settings, _keys: &Keys) -> Result<ModelSpec> {
    let width = settings.count(&["d_model", "hidden_size"])?;
    let layers = settings.layers(T5.layers)?;
    let heads = settings.count(&["num_heads", "num_attention_heads"])?;
    let mut attention = attention(layers, heads, settings.count(&["d_kv"])?);
    attention.causal = false;
    // The scale is folded into the initialisation of the query matrix (mesh-tensorflow).
    attention.scale = vec![1.0; layers];
    (attention.qkv_bias, attention.out_bias) = (false, false);
    let (gated, activation) = feed_forward(settings)?;
    let (buckets, max_distance) = distances(settings)?;
    Ok(ModelSpec {
        architecture: "t5".to_owned(),
        vocab: settings.count(&["vocab_size"])?,
        width,
        layers,
        max_tokens: None,
        embedding: plain_embedding(width),
        positions: PositionSpec::Relative { buckets, max_distance, bidirectional: true },
        attention,
        mlp: MlpSpec { width: settings.count(T5.mlp_width)?, activation, gated, bias: false },
        block: BlockSpec::PreNorm,
        norm: rms_norm(settings.epsilon(&["layer_norm_epsilon"], 1e-6)?),
        final_norm: true,
        pooler: false,
        head: HeadSpec::None,
        bos: settings.token("bos_token_id")?,
    })
}

/// Buckets, and the distance from which on all share one. Half of each direction's buckets hold
/// one distance each, the others grow with the logarithm, which needs room between the two.
fn distances(settings: &Settings) -> Result<(usize, usize)> {
    let buckets = settings.count_or(&["relative_attention_num_buckets"], 32)?;
    let max_distance = settings.count_or(&["relative_attention_max_distance"], 128)?;
    if buckets % 4 != 0 || max_distance <= buckets / 4 {
        let what = format!("{buckets} buckets up to a distance of {max_distance}");
        let remedy = "a multiple of 4, and a distance of more than a quarter of it";
        return Err(settings.wrong("relative_attention_num_buckets", what, remedy));
    }
    Ok((buckets, max_distance))
}

/// `feed_forward_proj` is `ACT` or `gated-ACT`; "gated-gelu" has always meant the tanh form.
fn feed_forward(settings: &Settings) -> Result<(bool, Activation)> {
    let key = "feed_forward_proj";
    match settings.text(key)? {
        Some("gated-gelu") => Ok((true, Activation::GeluTanh)),
        Some(text) => match text.strip_prefix("gated-") {
            Some(name) => Ok((true, settings.activation_named(key, name)?)),
            None => Ok((false, settings.activation_named(key, text)?)),
        },
        None => Ok((
            settings.flag("is_gated_act", false)?,
            settings.activation("dense_act_fn", Activation::Relu)?,
        )),
    }
}
