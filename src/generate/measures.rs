//! What is said of texts that were generated: how diverse they are, how likely, and which words they
//! hold.

use std::collections::HashSet;

use crate::error::{Error, Result};

/// Different n-grams of tokens over all n-grams, of all texts together (distinct-n; Li et al., NAACL
/// 2016, section 5.3); 0 where there is none.
pub fn distinct<'a>(texts: impl IntoIterator<Item = &'a [u32]>, n: usize) -> f64 {
    let (mut seen, mut all) = (HashSet::new(), 0_usize);
    for text in texts {
        for gram in text.windows(n) {
            seen.insert(gram);
            all += 1;
        }
    }
    if all == 0 { 0.0 } else { seen.len() as f64 / all as f64 }
}

/// exp of the mean negative log-probability (nats) of so many tokens; 1 where there is none.
pub fn perplexity(log_prob: f64, tokens: usize) -> f64 {
    if tokens == 0 { 1.0 } else { (-log_prob / tokens as f64).exp() }
}

/// A share of n texts with its standard error, sqrt(p (1 - p) / n).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// p.
    pub share: f64,
    /// Its standard error.
    pub error: f64,
}

impl Share {
    /// Of so many that hold.
    pub fn of(hits: usize, n: usize) -> Self {
        let n = n.max(1) as f64;
        let share = hits as f64 / n;
        Self { share, error: (share * (1.0 - share) / n).sqrt() }
    }
}

/// Words and phrases to be looked for in texts, case and what stands between words aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordList {
    phrases: HashSet<Vec<String>>,
    longest: usize,
}

impl WordList {
    /// One word or phrase a line, blank lines aside; `place` is named where there is none.
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        let phrases: HashSet<Vec<String>> =
            text.lines().map(words).filter(|phrase| !phrase.is_empty()).collect();
        let longest = phrases.iter().map(Vec::len).max().unwrap_or(0);
        if longest == 0 {
            return Err(Error::input(place, "there is no word in it", "write one word a line"));
        }
        Ok(Self { phrases, longest })
    }

    /// Whether a text holds any of them, as whole words.
    pub fn is_in(&self, text: &str) -> bool {
        let words = words(text);
        let at = |start: usize| {
            let most = self.longest.min(words.len() - start);
            (1..=most).any(|n| self.phrases.contains(&words[start..start + n]))
        };
        (0..words.len()).any(at)
    }
}

/// Runs of letters and digits, in lower case.
fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    parts.map(str::to_lowercase).collect()
}
