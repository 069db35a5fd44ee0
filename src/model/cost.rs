//! What a model costs: parameters, bytes, floating-point operations per token.

use super::open::Model;
use super::spec::{HeadSpec, ModelSpec, Param, PositionSpec};
use crate::error::{Error, Result};

/// The cost of a model and of one token through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Numbers in the weights; a tied table counts once.
    pub parameters: u64,
    /// Of them in token, position and type tables, which cost no arithmetic.
    pub embedding_parameters: u64,
    /// Bytes of the weights as stored.
    pub stored_bytes: u64,
    /// Bytes of the weights in float32.
    pub f32_bytes: u64,
    /// Per token.
    pub flops: Flops,
}

/// Floating-point operations of one token, a multiplication and an addition counted as two.
/// Matrix products only: norms and nonlinearities are under one per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Flops {
    /// Query, key, value and output projections of all layers, and that of the embedding.
    pub projections: u64,
    /// Scores and weighted sums of all layers.
    pub attention: u64,
    /// The feed-forward parts of all layers.
    pub mlp: u64,
    /// The head.
    pub head: u64,
}

impl Flops {
    /// The sum.
    pub fn total(&self) -> u64 {
        self.projections + self.attention + self.mlp + self.head
    }
}

impl ModelSpec {
    /// Operations per token, averaged over a sequence of `length` tokens: with a causal mask or a
    /// window a token sees fewer keys, and only those count.
    pub fn flops_per_token(&self, length: usize) -> Flops {
        let wide = |n: usize| n as u64;
        let (layers, width) = (wide(self.layers), wide(self.width));
        let attention = &self.attention;
        let queries = wide(attention.heads) * wide(attention.head_width);
        let keys = wide(attention.kv_heads) * wide(attention.head_width);
        let project = self.embedding.project.map_or(0, |_| 2 * wide(self.embedding.width) * width);
        let seen: u64 = attention
            .windows
            .iter()
            .map(|window| pairs(wide(length), attention.causal, window.map(wide)))
            .sum();
        let matrices = if self.mlp.gated { 3 } else { 2 };
        Flops {
            projections: layers * 2 * width * (2 * queries + 2 * keys) + project,
            attention: 4 * queries * seen / wide(length).max(1),
            mlp: layers * 2 * matrices * width * wide(self.mlp.width),
            head: self.head_flops(),
        }
    }

    fn head_flops(&self) -> u64 {
        let (vocab, wide) = (self.vocab as u64, self.width as u64);
        match self.head {
            HeadSpec::None => 0,
            HeadSpec::Lm { transform, width, project, .. } => {
                let width = width as u64;
                let before = u64::from(transform.is_some()) + u64::from(project);
                2 * (before * wide * width + vocab * width)
            }
            HeadSpec::TokenClasses { classes } => 2 * classes as u64 * wide,
            // Once per sequence, not per token.
            HeadSpec::SequenceClasses { .. } => 0,
            HeadSpec::Discriminator { .. } => 2 * wide * (wide + 1),
        }
    }
}

/// Pairs of query and key that see each other in a sequence.
fn pairs(length: u64, causal: bool, window: Option<u64>) -> u64 {
    let window = window.unwrap_or(length).clamp(1, length.max(1));
    // The first `window` queries of a causal model see 1, 2, … keys, the others `window` each.
    let causal_pairs =
        window.min(length) * (window + 1) / 2 + (length - window.min(length)) * window;
    if causal { causal_pairs } else { length * length }
}

impl Model {
    /// What the model costs, with sequences of `length` tokens.
    pub fn cost(&self, length: usize) -> Result<Cost> {
        let (mut parameters, mut embedding_parameters) = (0_u64, 0_u64);
        for (param, shape) in self.spec.params() {
            if param == Param::Head && self.head_is_tied() {
                continue;
            }
            let count = shape.iter().try_fold(1_u64, |n, m| n.checked_mul(*m as u64));
            let add = |sum: u64| count.and_then(|count| sum.checked_add(count));
            let overflow = || Error::Contradiction { what: "more parameters than a u64".into() };
            parameters = add(parameters).ok_or_else(overflow)?;
            if matches!(param, Param::Tokens | Param::Positions | Param::TokenTypes) {
                embedding_parameters = add(embedding_parameters).ok_or_else(overflow)?;
            }
        }
        Ok(Cost {
            parameters,
            embedding_parameters,
            stored_bytes: self.stored_types()?.iter().map(|(_, bytes)| bytes).sum(),
            f32_bytes: 4 * parameters,
            flops: self.spec.flops_per_token(length),
        })
    }

    /// One line about how the model knows where a token stands, for people.
    pub fn positions(&self) -> &'static str {
        match self.spec.positions {
            PositionSpec::Learned { .. } => "learned table",
            PositionSpec::LearnedFromIds { .. } => "learned table, counted from the ids",
            PositionSpec::Rotary { .. } => "rotary",
            PositionSpec::Alibi { .. } => "ALiBi",
            PositionSpec::Relative { .. } => "learned bias by distance",
        }
    }
}
