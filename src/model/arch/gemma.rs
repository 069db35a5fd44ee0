//! Gemma (2024) and Gemma 2 (2024): norms with weight 1 + w, scaled embeddings; the second with
//! norms on both sides of each branch, capped scores and logits, and every other layer a window.

use super::At::{One, Three};
use super::common::{narrow_root, windows};
use super::llama::{self, Family, set_attention_bias};
use super::{Architecture, Keys};
use crate::error::Result;
use crate::model::settings::{Settings, narrow};
use crate::model::spec::{Activation, BlockSpec, HeadSpec, LayerParam, ModelSpec};

pub(super) const GEMMA: Architecture =
    Architecture { name: "gemma", tied: true, describe: describe_gemma, ..llama::LLAMA };

pub(super) const GEMMA2: Architecture = Architecture {
    name: "gemma2",
    tied: true,
    layer: &[
        (LayerParam::AttnNormWeight, One("input_layernorm")),
        (LayerParam::Qkv, Three("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
        (LayerParam::Out, One("self_attn.o_proj")),
        (LayerParam::AttnPostNormWeight, One("post_attention_layernorm")),
        (LayerParam::MlpNormWeight, One("pre_feedforward_layernorm")),
        (LayerParam::Gate, One("mlp.gate_proj")),
        (LayerParam::Up, One("mlp.up_proj")),
        (LayerParam::Down, One("mlp.down_proj")),
        (LayerParam::MlpPostNormWeight, One("post_feedforward_layernorm")),
    ],
    describe: describe_gemma2,
    ..llama::LLAMA
};

fn common(settings: &Settings, keys: &Keys, family: &Family) -> Result<ModelSpec> {
    let both = settings.flag("use_bidirectional_attention", false)?;
    settings.refuse_if(both, "use_bidirectional_attention", "is not supported")?;
    let mut spec = llama::decoder(settings, keys, family)?;
    set_attention_bias(&mut spec, settings)?;
    spec.norm.plus_one = true;
    spec.embedding.scale = narrow_root(spec.width);
    Ok(spec)
}

fn describe_gemma(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let family = Family { name: "gemma", kv_heads: Some(16), head_width: Some(256) };
    let mut spec = common(settings, keys, &family)?;
    // The published files say "gelu" and mean the tanh form the model was trained with;
    // `hidden_activation` came later and means what it says.
    spec.mlp.activation = match settings.text("hidden_activation")? {
        Some(name) => settings.activation_named("hidden_activation", name)?,
        None => match settings.activation("hidden_act", Activation::GeluTanh)? {
            Activation::GeluErf => Activation::GeluTanh,
            other => other,
        },
    };
    Ok(spec)
}

fn describe_gemma2(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let family = Family { name: "gemma2", kv_heads: Some(4), head_width: Some(256) };
    let mut spec = common(settings, keys, &family)?;
    spec.mlp.activation = settings.activation("hidden_activation", Activation::GeluTanh)?;
    spec.block = BlockSpec::Sandwich;
    let scalar = settings.number("query_pre_attn_scalar")?.unwrap_or(256.0);
    spec.attention.scale = vec![narrow(1.0 / scalar.sqrt()); spec.layers];
    spec.attention.softcap = cap(settings, "attn_logit_softcapping", 50.0)?;
    let window = llama::window(settings)?;
    spec.attention.windows = windows(settings, spec.layers, window, |layer| layer % 2 == 0)?;
    if let HeadSpec::Lm { softcap, .. } = &mut spec.head {
        *softcap = cap(settings, "final_logit_softcapping", 30.0)?;
    }
    Ok(spec)
}

/// Absent means the default, `null` means no cap.
fn cap(settings: &Settings, key: &str, default: f64) -> Result<Option<f32>> {
    let default = (!settings.names(key)).then_some(default);
    Ok(settings.number(key)?.or(default).map(narrow))
}
