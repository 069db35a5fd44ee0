//! What became of a neuron, as it is kept until all are done. Numbers are stored by their bits.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::NeuronId;
use crate::stimulate::maximize::{Maximized, Outcome};

/// See [`Outcome`].
#[derive(Serialize, Deserialize)]
pub(super) enum Kept {
    Texts(Vec<Text>),
    Constant(u32),
}

/// See [`Maximized`].
#[derive(Serialize, Deserialize)]
pub(super) struct Text {
    restart: u32,
    /// Random, relaxed, snapped, discrete, climbed.
    values: [u32; 5],
    at: usize,
    fluency: Option<u32>,
    tokens: Vec<u32>,
    nearest: Vec<Vec<(u32, u64)>>,
}

impl Kept {
    pub(super) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Texts(texts) => Self::Texts(texts.iter().map(Text::of).collect()),
            Outcome::Constant(_, value) => Self::Constant(value.to_bits()),
        }
    }

    /// The outcome of this neuron.
    pub(super) fn outcome(self, neuron: NeuronId) -> Result<Outcome> {
        match self {
            Self::Constant(value) => Ok(Outcome::Constant(neuron, f32::from_bits(value))),
            Self::Texts(texts) if texts.is_empty() => {
                Err(Error::Contradiction { what: format!("{neuron} was kept without a text") })
            }
            Self::Texts(texts) => {
                Ok(Outcome::Texts(texts.into_iter().map(|text| text.read(neuron)).collect()))
            }
        }
    }
}

impl Text {
    fn of(text: &Maximized) -> Self {
        let values = [text.random, text.relaxed, text.snapped, text.discrete, text.climbed];
        let near = |list: &Vec<(u32, f64)>| {
            list.iter().map(|(token, cosine)| (*token, cosine.to_bits())).collect()
        };
        Self {
            restart: text.restart,
            values: values.map(f32::to_bits),
            at: text.at,
            fluency: text.fluency.map(f32::to_bits),
            tokens: text.tokens.clone(),
            nearest: text.nearest.iter().map(near).collect(),
        }
    }

    fn read(self, neuron: NeuronId) -> Maximized {
        let [random, relaxed, snapped, discrete, climbed] = self.values.map(f32::from_bits);
        let near = |list: Vec<(u32, u64)>| {
            list.into_iter().map(|(token, cosine)| (token, f64::from_bits(cosine))).collect()
        };
        Maximized {
            neuron,
            restart: self.restart,
            random,
            relaxed,
            snapped,
            discrete,
            climbed,
            at: self.at,
            fluency: self.fluency.map(f32::from_bits),
            tokens: self.tokens,
            nearest: self.nearest.into_iter().map(near).collect(),
        }
    }
}
