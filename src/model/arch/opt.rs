//! OPT (Zhang et al. 2022): its position table begins with two unused rows; the 350M model has
//! norms after the sums and a token table narrower than the stream.

use super::At::{One, Three};
use super::common::{attention, causal_head, even_heads, layer_norm, plain_embedding};
use super::{Architecture, Keys};
use crate::error::Result;
use crate::model::settings::Settings;
use crate::model::spec::{
    Activation, BlockSpec, EmbeddingSpec, HeadSpec, LayerParam, MlpSpec, ModelSpec, Param,
    PositionSpec, Projection,
};

pub(super) const OPT: Architecture = Architecture {
    name: "opt",
    prefixes: &["model.decoder.", "decoder.", ""],
    block: "layers.",
    trunk: &[
        (Param::Tokens, One("embed_tokens")),
        (Param::Positions, One("embed_positions")),
        (Param::EmbeddingProject, One("project_in")),
        (Param::FinalNormWeight, One("final_layer_norm")),
        (Param::HeadProject, One("project_out")),
    ],
    layer: &[
        (LayerParam::AttnNormWeight, One("self_attn_layer_norm")),
        (LayerParam::Qkv, Three("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
        (LayerParam::Out, One("self_attn.out_proj")),
        (LayerParam::MlpNormWeight, One("final_layer_norm")),
        (LayerParam::Up, One("fc1")),
        (LayerParam::Down, One("fc2")),
    ],
    head: |_| &[(Param::Head, One("lm_head"))],
    layers: &["num_hidden_layers"],
    mlp_width: &["ffn_dim"],
    heads: None,
    beside: None,
    tied: true,
    describe,
};

/// Rows before that of the first position.
const OFFSET: usize = 2;

fn describe(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let affine = settings.flag("layer_norm_elementwise_affine", true)?;
    let key = "layer_norm_elementwise_affine";
    settings.refuse_if(!affine, key, "norms without weights are not supported")?;
    let width = settings.count(&["hidden_size"])?;
    let narrow = settings.count_or(&["word_embed_proj_dim"], width)?;
    let layers = settings.layers(OPT.layers)?;
    let heads = settings.count(&["num_attention_heads"])?;
    let max_tokens = settings.count_or(&["max_position_embeddings"], 2048)?;
    let bias = settings.flag("enable_bias", true)?;
    let before = settings.flag("do_layer_norm_before", true)?;
    let removed = settings.flag("_remove_final_layer_norm", false)?;
    let mut attention = attention(layers, heads, even_heads(settings, width, heads)?);
    (attention.qkv_bias, attention.out_bias) = (bias, bias);
    let mut head = causal_head(settings, keys, "lm_head", narrow)?;
    if let HeadSpec::Lm { project, .. } = &mut head {
        *project = narrow != width;
    }
    Ok(ModelSpec {
        architecture: "opt".to_owned(),
        vocab: settings.count(&["vocab_size"])?,
        width,
        layers,
        max_tokens: Some(max_tokens),
        embedding: EmbeddingSpec {
            project: (narrow != width)
                .then_some(Projection { bias: false, before_positions: true }),
            ..plain_embedding(narrow)
        },
        positions: PositionSpec::Learned { rows: max_tokens + OFFSET, offset: OFFSET },
        attention,
        mlp: MlpSpec {
            width: settings.count(OPT.mlp_width)?,
            activation: settings.activation("activation_function", Activation::Relu)?,
            gated: false,
            bias,
        },
        block: if before { BlockSpec::PreNorm } else { BlockSpec::PostNorm },
        norm: layer_norm(1e-5),
        final_norm: before && !removed,
        pooler: false,
        head,
        bos: settings.token("bos_token_id")?,
    })
}
