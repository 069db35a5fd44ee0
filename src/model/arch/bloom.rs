//! BLOOM (BigScience 2022): ALiBi instead of positions (Press et al. 2022), a norm after the token
//! table, query, key and value interleaved by head.

use super::At::{ByHead, One};
use super::common::{attention, causal_head, even_heads, layer_norm, plain_embedding};
use super::{Architecture, Keys};
use crate::error::Result;
use crate::model::settings::{Settings, narrow};
use crate::model::spec::{
    Activation, BlockSpec, EmbeddingSpec, LayerParam, MlpSpec, ModelSpec, Param, PositionSpec,
};

pub(super) const BLOOM: Architecture = Architecture {
    name: "bloom",
    prefixes: &["transformer.", ""],
    block: "h.",
    trunk: &[
        (Param::Tokens, One("word_embeddings")),
        (Param::EmbeddingNormWeight, One("word_embeddings_layernorm")),
        (Param::FinalNormWeight, One("ln_f")),
    ],
    layer: &[
        (LayerParam::AttnNormWeight, One("input_layernorm")),
        (LayerParam::Qkv, ByHead("self_attention.query_key_value")),
        (LayerParam::Out, One("self_attention.dense")),
        (LayerParam::MlpNormWeight, One("post_attention_layernorm")),
        (LayerParam::Up, One("mlp.dense_h_to_4h")),
        (LayerParam::Down, One("mlp.dense_4h_to_h")),
    ],
    head: |_| &[(Param::Head, One("lm_head"))],
    layers: &["n_layer", "num_hidden_layers"],
    mlp_width: &[],
    heads: None,
    beside: None,
    tied: true,
    describe,
};

fn describe(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let width = settings.count(&["hidden_size", "n_embed"])?;
    let layers = settings.layers(BLOOM.layers)?;
    let heads = settings.count(&["n_head", "num_attention_heads"])?;
    let norm = layer_norm(settings.epsilon(&["layer_norm_epsilon"], 1e-5)?);
    let after = settings.flag("apply_residual_connection_post_layernorm", false)?;
    Ok(ModelSpec {
        architecture: "bloom".to_owned(),
        vocab: settings.count(&["vocab_size"])?,
        width,
        layers,
        max_tokens: settings.optional_count("seq_length")?,
        embedding: EmbeddingSpec { norm: Some(norm), ..plain_embedding(width) },
        positions: PositionSpec::Alibi { slopes: slopes(heads) },
        attention: attention(layers, heads, even_heads(settings, width, heads)?),
        mlp: MlpSpec {
            // Not a setting: `n_inner` stands in some files and is not read by the model's own code.
            width: 4 * width,
            // Written out in the model's own code, not a setting.
            activation: Activation::GeluTanh,
            gated: false,
            bias: true,
        },
        block: if after { BlockSpec::ResidualAfterNorm } else { BlockSpec::PreNorm },
        norm,
        final_norm: true,
        pooler: false,
        head: causal_head(settings, keys, "lm_head", width)?,
        bos: settings.token("bos_token_id")?,
    })
}

/// Slopes of Press et al. 2022: powers of 2^(-8/n) for n heads if n is a power of two, else those
/// of the next lower power, and every second one of the next higher.
fn slopes(heads: usize) -> Vec<f32> {
    let heads = u32::try_from(heads).expect("counts are at most a million");
    let lower = 1 << heads.ilog2();
    let series = |n: u32, step: usize| {
        let base = narrow((-8.0 / f64::from(n)).exp2());
        (1..).step_by(step).map(move |power| narrow(f64::from(base).powi(power)))
    };
    let count = |n: u32| usize::try_from(n).expect("fits");
    series(lower, 1)
        .take(count(lower))
        .chain(series(2 * lower, 2).take(count(heads - lower)))
        .collect()
}
