//! The next token from a row of logits. A draw depends on the seed, the prompt, the sample and the
//! step alone: not on what else is in the batch, nor on threads.

use crate::error::{Error, Result};
use crate::hash::{GAMMA, mix};

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the best token, the lowest of equal ones.
    pub temperature: f64,
    /// Only the so many best tokens; 0 for all.
    pub top_k: usize,
    /// Only the best tokens whose probabilities reach this sum, the one that reaches it included
    /// (nucleus sampling, Holtzman et al., ICLR 2020); 1 for all.
    pub top_p: f64,
    /// No run of so many tokens comes twice in a text, prompt included; 0 forbids nothing.
    pub no_repeat: usize,
    /// Of every draw.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, no_repeat: 0, seed: 0 }
    }
}

/// Which draw it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Number of the prompt.
    pub prompt: u64,
    /// Number of the sample of this prompt.
    pub sample: u64,
    /// Tokens chosen before.
    pub step: u64,
}

/// A token, and how likely the model held it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    /// The token.
    pub token: u32,
    /// Its log-probability under the softmax of all logits as they are, in nats.
    pub log_prob: f64,
}

/// A token that may be chosen, with its share of the draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: u32,
    /// Its probability.
    pub probability: f64,
}

impl Sampling {
    /// Refuses numbers that make no sense.
    pub fn check(&self) -> Result<()> {
        let wrong = |key: &str, what: String, remedy: &str| Err(Error::config(key, what, remedy));
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            let what = format!("{} is no temperature", self.temperature);
            return wrong("temperature", what, "use 0 for the best token, or a number above");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            let what = format!("{} is no share of probability", self.top_p);
            return wrong("top-p", what, "use a number above 0, up to 1");
        }
        Ok(())
    }

    /// Chooses the token after `text` from a row of logits.
    pub fn choose(&self, logits: &[f32], text: &[u32], draw: Draw) -> Result<Chosen> {
        let largest = largest(logits)?;
        let token = pick(&self.listed(logits, text), uniform(self.seed, draw));
        let sum: f64 = logits.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
        let log_prob = f64::from(logits[token as usize]) - largest - sum.ln();
        Ok(Chosen { token, log_prob })
    }

    /// Tokens that would end a run that `text` has already, ascending.
    fn forbidden(&self, text: &[u32]) -> Vec<u32> {
        let n = self.no_repeat;
        if n == 0 || text.len() < n {
            return Vec::new();
        }
        let end = &text[text.len() - (n - 1)..];
        let runs = text.windows(n).filter(|run| &run[..n - 1] == end);
        let mut tokens: Vec<u32> = runs.map(|run| run[n - 1]).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    /// What may be drawn after `text`, with the probability of each: all in the order of their
    /// numbers, a part of them from the best on.
    pub fn distribution(&self, logits: &[f32], text: &[u32]) -> Result<Vec<Candidate>> {
        largest(logits)?;
        Ok(self.listed(logits, text))
    }

    /// The same of logits that are a distribution.
    fn listed(&self, logits: &[f32], text: &[u32]) -> Vec<Candidate> {
        let forbidden = self.forbidden(text);
        let allowed = |(token, x): &(u32, &f32)| {
            **x > f32::NEG_INFINITY && forbidden.binary_search(token).is_err()
        };
        let mut list: Vec<(u32, f32)> =
            (0..).zip(logits).filter(allowed).map(|(token, &x)| (token, x)).collect();
        if list.is_empty() {
            // Everything would repeat: then nothing is forbidden.
            list = (0..).zip(logits.iter().copied()).collect();
        }
        if self.temperature > 0.0 {
            return self.nucleus(list);
        }
        let better = |a: (u32, f32), b: (u32, f32)| if b.1 > a.1 { b } else { a };
        let best = list.into_iter().reduce(better);
        best.into_iter().map(|(token, _)| Candidate { token, probability: 1.0 }).collect()
    }

    /// The k best, then the nucleus of what these share.
    fn nucleus(&self, mut list: Vec<(u32, f32)>) -> Vec<Candidate> {
        let some = self.top_k > 0 && self.top_k < list.len();
        if some || self.top_p < 1.0 {
            let best_first =
                |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
            if some {
                list.select_nth_unstable_by(self.top_k - 1, best_first);
                list.truncate(self.top_k);
            }
            list.sort_unstable_by(best_first);
        }
        let largest = list.iter().fold(f32::NEG_INFINITY, |a, b| a.max(b.1));
        let weight = |x: f32| ((f64::from(x) - f64::from(largest)) / self.temperature).exp();
        let mut list: Vec<Candidate> = list
            .into_iter()
            .map(|(token, x)| Candidate { token, probability: weight(x) })
            .collect();
        normalise(&mut list);
        if self.top_p < 1.0 {
            let mut sum = 0.0;
            let reached = list.iter().position(|c| {
                sum += c.probability;
                sum >= self.top_p
            });
            list.truncate(reached.map_or(list.len(), |at| at + 1));
            normalise(&mut list);
        }
        list
    }
}

/// The largest logit; a row that is no distribution is refused.
fn largest(logits: &[f32]) -> Result<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !largest.is_finite() || logits.iter().any(|x| x.is_nan()) {
        let what = "the model gives no probabilities: its logits are not finite";
        return Err(Error::config("logits", what, "edit less strongly, or check the weights"));
    }
    Ok(f64::from(largest))
}

fn normalise(list: &mut [Candidate]) {
    let sum: f64 = list.iter().map(|c| c.probability).sum();
    list.iter_mut().for_each(|c| c.probability /= sum);
}

/// The candidate at whose share of the line from 0 to 1 a number lies.
fn pick(list: &[Candidate], u: f64) -> u32 {
    let mut sum = 0.0;
    let hit = list.iter().find(|c| {
        sum += c.probability;
        u < sum
    });
    // Rounding may leave the end of the line to nobody: the last that has a share gets it.
    let last = || list.iter().rev().find(|c| c.probability > 0.0);
    hit.or_else(last).expect("some token may be drawn").token
}

/// A number in [0, 1) of 53 bits, by SplitMix64 over everything that names the draw.
fn uniform(seed: u64, draw: Draw) -> f64 {
    let bits = [draw.prompt, draw.sample, draw.step]
        .iter()
        .fold(mix(seed.wrapping_add(GAMMA)), |state, &n| mix((state ^ n).wrapping_add(GAMMA)));
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
