//! BERT (Devlin et al. 2019) and RoBERTa (Liu et al. 2019), which differs in its positions and in
//! the names of its head; XLM-R is RoBERTa with another vocabulary.

use super::At::{Either, One, Three};
use super::common::{self, MaskedHead, attention, even_heads, layer_norm};
use super::{Architecture, At, Keys};
use crate::error::Result;
use crate::model::settings::Settings;
use crate::model::spec::{
    Activation, BlockSpec, EmbeddingSpec, HeadSpec, HeadTransform, LayerParam, MlpSpec, ModelSpec,
    Param, PositionSpec,
};

pub(super) const BERT: Architecture = Architecture {
    name: "bert",
    prefixes: &["bert.", ""],
    block: "encoder.layer.",
    trunk: TRUNK,
    layer: LAYER,
    head: |head| match head {
        HeadSpec::TokenClasses { .. } | HeadSpec::SequenceClasses { .. } => CLASSES,
        _ => &[
            (Param::HeadDense, One("cls.predictions.transform.dense")),
            (Param::HeadNormWeight, One("cls.predictions.transform.LayerNorm")),
            (Param::Head, Either("cls.predictions.decoder", "cls.predictions")),
        ],
    },
    layers: &["num_hidden_layers"],
    mlp_width: &["intermediate_size"],
    heads: None,
    beside: None,
    tied: true,
    describe: describe_bert,
};

pub(super) const ROBERTA: Architecture = Architecture {
    name: "roberta",
    prefixes: &["roberta.", ""],
    head: |head| match head {
        HeadSpec::TokenClasses { .. } | HeadSpec::SequenceClasses { .. } => CLASSES,
        _ => &[
            (Param::HeadDense, One("lm_head.dense")),
            (Param::HeadNormWeight, One("lm_head.layer_norm")),
            (Param::Head, Either("lm_head.decoder", "lm_head")),
        ],
    },
    describe: |settings, keys| describe_roberta(settings, keys, "roberta"),
    ..BERT
};

pub(super) const XLM_ROBERTA: Architecture = Architecture {
    name: "xlm-roberta",
    describe: |settings, keys| describe_roberta(settings, keys, "xlm-roberta"),
    ..ROBERTA
};

pub(super) const TRUNK: &[(Param, At)] = &[
    (Param::Tokens, One("embeddings.word_embeddings")),
    (Param::Positions, One("embeddings.position_embeddings")),
    (Param::TokenTypes, One("embeddings.token_type_embeddings")),
    (Param::EmbeddingNormWeight, One("embeddings.LayerNorm")),
    (Param::EmbeddingProject, One("embeddings_project")),
    (Param::Pooler, One("pooler.dense")),
];

pub(super) const LAYER: &[(LayerParam, At)] = &[
    (LayerParam::Qkv, Three("attention.self.query", "attention.self.key", "attention.self.value")),
    (LayerParam::Out, One("attention.output.dense")),
    (LayerParam::AttnNormWeight, One("attention.output.LayerNorm")),
    (LayerParam::Up, One("intermediate.dense")),
    (LayerParam::Down, One("output.dense")),
    (LayerParam::MlpNormWeight, One("output.LayerNorm")),
];

/// Of token and sequence classification.
pub(super) const CLASSES: &[(Param, At)] = &[(Param::Head, One("classifier"))];

/// The encoder that BERT, RoBERTa and ELECTRA have in common, without its head.
pub(super) fn encoder(settings: &Settings, keys: &Keys, name: &str) -> Result<ModelSpec> {
    common::refuse_variants(settings)?;
    let width = settings.count(&["hidden_size"])?;
    let layers = settings.layers(BERT.layers)?;
    let heads = settings.count(&["num_attention_heads"])?;
    let rows = settings.count_or(&["max_position_embeddings"], 512)?;
    let norm = layer_norm(settings.epsilon(&["layer_norm_eps"], 1e-12)?);
    let mut attention = attention(layers, heads, even_heads(settings, width, heads)?);
    attention.causal = settings.flag("is_decoder", false)?;
    Ok(ModelSpec {
        architecture: name.to_owned(),
        vocab: settings.count(&["vocab_size"])?,
        width,
        layers,
        max_tokens: Some(rows),
        embedding: EmbeddingSpec {
            token_types: settings.count_or(&["type_vocab_size"], 2)?,
            norm: Some(norm),
            ..common::plain_embedding(width)
        },
        positions: PositionSpec::Learned { rows, offset: 0 },
        attention,
        mlp: MlpSpec {
            width: settings.count(BERT.mlp_width)?,
            activation: settings.activation("hidden_act", Activation::GeluErf)?,
            gated: false,
            bias: true,
        },
        block: BlockSpec::PostNorm,
        norm,
        final_norm: false,
        pooler: keys.trunk("pooler.dense.weight"),
        head: HeadSpec::None,
        bos: settings.token("bos_token_id")?,
    })
}

fn describe_bert(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let mut spec = encoder(settings, keys, "bert")?;
    let masked = MaskedHead {
        dense: "cls.predictions.transform.dense.weight",
        biases: ["cls.predictions.decoder.bias", "cls.predictions.bias"],
        last: "cls.predictions.decoder.weight",
        width: spec.width,
        transform: HeadTransform { activation: spec.mlp.activation, norm: spec.norm },
    };
    spec.head = common::encoder_head(settings, keys, masked)?;
    Ok(spec)
}

fn describe_roberta(settings: &Settings, keys: &Keys, name: &str) -> Result<ModelSpec> {
    let mut spec = encoder(settings, keys, name)?;
    let rows = settings.count_or(&["max_position_embeddings"], 512)?;
    let pad = settings.token("pad_token_id")?.unwrap_or(1);
    spec.positions = PositionSpec::LearnedFromIds { rows, pad };
    // Rows up to the pad's own are never taken by a token.
    let limit = usize::try_from(pad).ok().and_then(|pad| rows.checked_sub(pad + 1));
    spec.max_tokens = limit.filter(|limit| *limit > 0);
    if spec.max_tokens.is_none() {
        let what = format!("{rows} rows leave none for tokens when padding has id {pad}");
        return Err(settings.wrong("max_position_embeddings", what, "correct the value"));
    }
    let masked = MaskedHead {
        dense: "lm_head.dense.weight",
        biases: ["lm_head.decoder.bias", "lm_head.bias"],
        last: "lm_head.decoder.weight",
        width: spec.width,
        // RoBERTa's head has GELU whatever the encoder has.
        transform: HeadTransform { activation: Activation::GeluErf, norm: spec.norm },
    };
    spec.head = common::encoder_head(settings, keys, masked)?;
    Ok(spec)
}
