//! Pieces that several tables share.

use super::{Keys, unsupported};
use crate::error::Result;
use crate::model::settings::{Settings, narrow};
use crate::model::spec::{
    AttentionSpec, EmbeddingSpec, HeadSpec, HeadTransform, NormKind, NormSpec,
};

/// Mean and variance, weight and bias.
pub(super) fn layer_norm(eps: f32) -> NormSpec {
    NormSpec { kind: NormKind::Layer, eps, plus_one: false }
}

/// Root mean square, weight only.
pub(super) fn rms_norm(eps: f32) -> NormSpec {
    NormSpec { kind: NormKind::Rms, eps, plus_one: false }
}

/// A token table as wide as the stream, and nothing else.
pub(super) fn plain_embedding(width: usize) -> EmbeddingSpec {
    EmbeddingSpec {
        width,
        scale: 1.0,
        token_types: 0,
        norm: None,
        project: None,
        narrow_site: false,
    }
}

/// Attention as most have it: every head its own keys, scores over the root of the head's width.
pub(super) fn attention(layers: usize, heads: usize, head_width: usize) -> AttentionSpec {
    AttentionSpec {
        heads,
        kv_heads: heads,
        head_width,
        scale: vec![inverse_root(head_width); layers],
        softcap: None,
        causal: true,
        windows: vec![None; layers],
        qk_norm: None,
        qkv_bias: true,
        out_bias: true,
    }
}

/// 1 / sqrt(width).
pub(super) fn inverse_root(width: usize) -> f32 {
    narrow(1.0 / root(width))
}

/// sqrt(width); widths are at most a million, so exact as a float.
pub(super) fn root(width: usize) -> f64 {
    f64::from(u32::try_from(width).expect("widths are at most a million")).sqrt()
}

/// The width of a head where the stream is cut evenly.
pub(super) fn even_heads(settings: &Settings, width: usize, heads: usize) -> Result<usize> {
    if !width.is_multiple_of(heads) {
        let what = format!("a stream of {width} columns cannot be cut into {heads} heads");
        return Err(settings.wrong("num_attention_heads", what, "correct the value"));
    }
    Ok(width / heads)
}

/// The head of a causal language model: one matrix, its own or the token table. A trunk that was
/// saved alone suffices where the matrix is tied; a model trained for something else has no
/// language head even if the table is there.
pub(super) fn causal_head(
    settings: &Settings,
    keys: &Keys,
    own: &str,
    width: usize,
) -> Result<HeadSpec> {
    let names = settings.texts("architectures")?;
    let speaks = |name: &&str| {
        ["ForCausalLM", "LMHeadModel", "DoubleHeadsModel", "ForPreTraining", "Model"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let wanted = names.is_empty() || names.iter().any(speaks);
    let there = keys.has(&format!("{own}.weight"));
    if !wanted || !(there || keys.tied) {
        if wanted && names.iter().any(|name| !name.ends_with("Model")) {
            tracing::warn!(?names, "no language head in the checkpoint: logits cannot be had");
        }
        return Ok(HeadSpec::None);
    }
    let bias = keys.has(&format!("{own}.bias"));
    Ok(HeadSpec::Lm { transform: None, width, project: false, bias, softcap: None })
}

/// What a masked language model's head is called in the checkpoint, and what it computes.
pub(super) struct MaskedHead {
    /// The dense layer's key.
    pub(super) dense: &'static str,
    /// Keys of the bias of the last matrix.
    pub(super) biases: [&'static str; 2],
    /// Keys of the last matrix.
    pub(super) last: &'static str,
    /// Width of the dense layer's output.
    pub(super) width: usize,
    /// Between dense layer and last matrix.
    pub(super) transform: HeadTransform,
}

/// The head of an encoder: classification where the configuration names that class, else the
/// masked-language head if its weights are there.
pub(super) fn encoder_head(
    settings: &Settings,
    keys: &Keys,
    masked: MaskedHead,
) -> Result<HeadSpec> {
    let names = settings.texts("architectures")?;
    let is = |end: &str| names.iter().any(|name| name.ends_with(end));
    let classifier = keys.has("classifier.weight");
    if is("ForTokenClassification") && classifier {
        return Ok(HeadSpec::TokenClasses { classes: settings.classes()? });
    }
    if is("BertForSequenceClassification") && classifier && keys.trunk("pooler.dense.weight") {
        return Ok(HeadSpec::SequenceClasses { classes: settings.classes()? });
    }
    if keys.has(masked.dense) && (keys.tied || keys.has(masked.last)) {
        return Ok(HeadSpec::Lm {
            transform: Some(masked.transform),
            width: masked.width,
            project: false,
            bias: masked.biases.iter().any(|name| keys.has(name)),
            softcap: None,
        });
    }
    if !names.is_empty() && !names.iter().all(|name| name.ends_with("Model")) {
        tracing::warn!(?names, "no such head in the checkpoint: logits cannot be had");
    }
    Ok(HeadSpec::None)
}

/// Settings of encoders that would change what is computed.
pub(super) fn refuse_variants(settings: &Settings) -> Result<()> {
    let positions = settings.text("position_embedding_type")?.unwrap_or("absolute");
    if positions != "absolute" {
        let what = format!("'{positions}' positions are not supported");
        return Err(unsupported(settings, "position_embedding_type", what));
    }
    let cross = settings.flag("add_cross_attention", false)?;
    settings.refuse_if(cross, "add_cross_attention", "cross-attention is not supported")
}

/// Which layers see a window only: as `layer_types` says, else as `rule` does.
pub(super) fn windows(
    settings: &Settings,
    layers: usize,
    window: Option<usize>,
    rule: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>> {
    let types = settings.texts("layer_types")?;
    if types.is_empty() {
        return Ok((0..layers).map(|layer| window.filter(|_| rule(layer))).collect());
    }
    if types.len() != layers {
        let what = format!("names {} layers, the model has {layers}", types.len());
        return Err(settings.wrong("layer_types", what, "correct the list"));
    }
    types
        .iter()
        .map(|name| match *name {
            "full_attention" => Ok(None),
            "sliding_attention" => match window {
                Some(_) => Ok(window),
                None => Err(settings.wrong(
                    "sliding_window",
                    "is missing, but layer_types names layers that slide",
                    "complete config.json",
                )),
            },
            other => {
                Err(unsupported(settings, "layer_types", format!("'{other}' is not supported")))
            }
        })
        .collect()
}

/// sqrt(width) as the float32 models hold it.
pub(super) fn narrow_root(width: usize) -> f32 {
    narrow(root(width))
}
