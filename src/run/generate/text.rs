//! Texts as they are written, what they are like together, and how they are kept until all are done.

use serde::{Deserialize, Serialize};

use crate::generate::continuation::{Continuation, Finished};
use crate::generate::measures::{distinct, perplexity};

/// A text that was generated: a line of the output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Text {
    /// The arm, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
    /// Number of the prompt, from 0.
    pub index: usize,
    /// Number of the sample, from 0.
    pub sample: usize,
    /// The prompt.
    pub prompt: String,
    /// What was generated after it.
    pub text: String,
    /// Its tokens, an end-of-text token included.
    pub tokens: Vec<u32>,
    /// Sum of their log-probabilities, in nats, under the model as edited and before temperature.
    pub log_prob: f64,
    /// exp(-log_prob / tokens).
    pub perplexity: f64,
    /// The same under the model without edits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge_log_prob: Option<f64>,
    /// See `perplexity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge_perplexity: Option<f64>,
    /// `end` (an end-of-text token), `stop` or `length`.
    pub finished: &'static str,
}

/// What the texts of an arm are like.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The arm, where there are several.
    pub arm: Option<String>,
    /// Texts.
    pub texts: usize,
    /// Tokens that were generated.
    pub tokens: usize,
    /// Perplexity of all tokens under the model as edited.
    pub perplexity: f64,
    /// And without edits.
    pub judge_perplexity: Option<f64>,
    /// Different tokens over all tokens, and the same of pairs.
    pub distinct: [f64; 2],
}

impl Summary {
    /// Of the texts of one arm.
    pub fn of(texts: &[Text]) -> Self {
        let tokens = texts.iter().map(|text| text.tokens.len()).sum();
        let judged: Option<f64> = texts.iter().map(|text| text.judge_log_prob).sum();
        let grams = |n| distinct(texts.iter().map(|text| &text.tokens[..]), n);
        Self {
            arm: texts.first().and_then(|text| text.arm.clone()),
            texts: texts.len(),
            tokens,
            perplexity: perplexity(texts.iter().map(|text| text.log_prob).sum(), tokens),
            judge_perplexity: judged.map(|sum| perplexity(sum, tokens)),
            distinct: [grams(1), grams(2)],
        }
    }
}

/// A JSON object a line.
pub fn json_lines(texts: &[Vec<Text>]) -> String {
    let line = |text: &Text| serde_json::to_string(text).expect("plain data") + "\n";
    texts.iter().flatten().map(line).collect()
}

/// A [`Continuation`] as it is kept, and what the judge says of it; sums by their bits.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) prompt: usize,
    pub(super) sample: usize,
    pub(super) tokens: Vec<u32>,
    pub(super) log_prob: u64,
    pub(super) finished: Finished,
    pub(super) judged: Option<u64>,
}

impl Kept {
    pub(super) fn of((one, judged): (Continuation, Option<f64>)) -> Self {
        Self {
            prompt: one.prompt,
            sample: one.sample,
            tokens: one.tokens,
            log_prob: one.log_prob.to_bits(),
            finished: one.finished,
            judged: judged.map(f64::to_bits),
        }
    }
}
