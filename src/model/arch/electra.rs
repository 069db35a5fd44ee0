//! ELECTRA (Clark et al. 2020): BERT whose embeddings may be narrower than its stream, as a
//! generator (masked language head) or a discriminator.

use super::At::One;
use super::bert::{self, CLASSES};
use super::common::{self, MaskedHead};
use super::{Architecture, Keys};
use crate::error::Result;
use crate::model::settings::Settings;
use crate::model::spec::{Activation, HeadSpec, HeadTransform, ModelSpec, Param, Projection};

pub(super) const ELECTRA: Architecture = Architecture {
    name: "electra",
    prefixes: &["electra.", ""],
    head: |head| match head {
        HeadSpec::TokenClasses { .. } => CLASSES,
        HeadSpec::Discriminator { .. } => &[
            (Param::HeadDense, One("discriminator_predictions.dense")),
            (Param::Head, One("discriminator_predictions.dense_prediction")),
        ],
        _ => &[
            (Param::HeadDense, One("generator_predictions.dense")),
            (Param::HeadNormWeight, One("generator_predictions.LayerNorm")),
            (Param::Head, One("generator_lm_head")),
        ],
    },
    describe,
    ..bert::BERT
};

fn describe(settings: &Settings, keys: &Keys) -> Result<ModelSpec> {
    let mut spec = bert::encoder(settings, keys, "electra")?;
    spec.embedding.narrow_site = true;
    let narrow = settings.count_or(&["embedding_size"], 128)?;
    spec.embedding.width = narrow;
    if narrow != spec.width {
        spec.embedding.project = Some(Projection { bias: true, before_positions: false });
    }
    let names = settings.texts("architectures")?;
    let discriminates = keys.has("discriminator_predictions.dense.weight");
    let generates = keys.has("generator_predictions.dense.weight");
    let named_generator = names.iter().any(|name| name.ends_with("ForMaskedLM"));
    spec.head = if discriminates && !(generates && named_generator) {
        HeadSpec::Discriminator { activation: spec.mlp.activation }
    } else {
        let masked = MaskedHead {
            dense: "generator_predictions.dense.weight",
            biases: ["generator_lm_head.bias"; 2],
            last: "generator_lm_head.weight",
            width: narrow,
            // The generator's head has GELU whatever the encoder has.
            transform: HeadTransform { activation: Activation::GeluErf, norm: spec.norm },
        };
        common::encoder_head(settings, keys, masked)?
    };
    Ok(spec)
}
