//! What can be asked of a model.

use super::ascent::Frame;
use super::{Asked, Settings};
use crate::device::backward::has_gradient;
use crate::error::{Error, Result};
use crate::id::NeuronId;
use crate::model::{HeadSpec, Model};

/// Refuses what cannot be asked of this model; gives the tokens of a text.
pub fn check(model: &Model, settings: &Settings, asked: Asked<'_>) -> Result<usize> {
    let frame = frame(settings, asked);
    check_frame(model, settings, asked.0, &frame)?;
    Ok(frame.tokens())
}

pub(super) fn frame(settings: &Settings, (_, _, [before, after]): Asked<'_>) -> Frame {
    Frame { before: before.to_vec(), after: after.to_vec(), length: settings.length }
}

pub(super) fn check_frame(
    model: &Model,
    settings: &Settings,
    neurons: &[NeuronId],
    frame: &Frame,
) -> Result<()> {
    let spec = &model.spec;
    let wrong = |place: &str, what: String, remedy: &str| Err(Error::config(place, what, remedy));
    if neurons.is_empty() || settings.restarts == 0 || settings.length == 0 {
        return wrong("maximize", "nothing to do".into(), "ask for a neuron, a text, a position");
    }
    let (from, to) = settings.temperature;
    let positive = |x: f32| x.is_finite() && x > 0.0;
    if !positive(from) || !positive(to) || !positive(settings.rate) {
        let what = "temperatures and the rate are above 0".to_owned();
        return wrong("maximize", what, "choose 1, 0.1 and 0.1");
    }
    if let Some(most) = spec.max_tokens.filter(|&most| frame.tokens() > most) {
        let what = format!("texts of {} tokens, the model takes {most}", frame.tokens());
        return wrong("--length", what, "make them shorter");
    }
    for neuron in neurons {
        if !spec.has_site(neuron.site) || !has_gradient(neuron.site) {
            let remedy = "use embeddings, final_norm, or a site of a layer but attn_probs";
            return wrong(&neuron.to_string(), "no gradient comes from there".into(), remedy);
        }
        let width = spec.site_width(neuron.site);
        if neuron.index as usize >= width {
            let what = format!("the site has {width} neurons");
            return wrong(&neuron.to_string(), what, "count from 0");
        }
    }
    let speaks = matches!(spec.head, HeadSpec::Lm { .. }) && spec.attention.causal;
    if settings.fluency != 0.0 && !speaks {
        let what = "fluency needs a causal language model with its head".to_owned();
        return wrong("--fluency", what, "leave it out");
    }
    Ok(())
}
