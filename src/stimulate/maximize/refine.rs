//! Discrete texts made better one token at a time (HotFlip, Ebrahimi et al. 2018): to first order,
//! token v at position p changes the objective by `g_p . (e_v - e_p)`, g being the gradient with
//! respect to the vector there; the best so many changes are run, and the best of them is kept if it
//! is better than the text.

use rayon::prelude::*;

use super::ascent::{Ascent, Texts};
use super::vocabulary::{Vocabulary, largest};
use crate::device::gradient_ops::GradientOps;
use crate::error::Result;

/// Changes of each text that are run in a round.
const CANDIDATES: usize = 16;

/// A change of one token.
#[derive(Clone, Copy)]
struct Change {
    text: usize,
    position: usize,
    token: u32,
}

/// Refines texts `[R, L]` in place, at most so many rounds; a text that no change makes better is
/// done. `weight` is that of the fluency.
pub fn refine<O: GradientOps>(
    (ascent, vocabulary): (&mut Ascent<O>, &mut Vocabulary<O>),
    neurons: &[u32],
    tokens: &mut [u32],
    (rounds, weight): (u32, f32),
) -> Result<()> {
    let length = ascent.frame().length;
    let mut open: Vec<usize> = (0..neurons.len()).collect();
    for _ in 0..rounds {
        if open.is_empty() {
            break;
        }
        let (asked, texts) = chosen(&open, neurons, (tokens, length));
        let vectors = vocabulary.vectors(&texts);
        let here = Texts { neurons: &asked, tokens: &texts, vectors: Some(&vectors) };
        let gradient = ascent.ask(here, true)?.gradient;
        let exact = Texts { vectors: None, ..here };
        let now = ascent.ask(exact, false)?.objective(weight);
        let changes = changes(ascent.ops(), vocabulary, (&texts, length), &gradient)?;
        let (mut others, mut of) = (Vec::new(), Vec::new());
        for change in &changes {
            let first = others.len();
            others.extend_from_slice(&texts[change.text * length..][..length]);
            others[first + change.position] = change.token;
            of.push(asked[change.text]);
        }
        let tried = Texts { neurons: &of, tokens: &others, vectors: None };
        let tried = ascent.ask(tried, false)?.objective(weight);
        let mut best: Vec<Option<(f32, Change)>> = vec![None; asked.len()];
        for (value, change) in tried.into_iter().zip(changes) {
            let to_beat = best[change.text].map_or(now[change.text], |(value, _)| value);
            if value > to_beat {
                best[change.text] = Some((value, change));
            }
        }
        for (text, best) in open.iter().zip(&best) {
            if let Some((_, change)) = best {
                tokens[text * length + change.position] = change.token;
            }
        }
        open = open.iter().zip(&best).filter(|(_, best)| best.is_some()).map(|(t, _)| *t).collect();
    }
    Ok(())
}

/// The neurons and tokens of some texts.
fn chosen(
    open: &[usize],
    neurons: &[u32],
    (tokens, length): (&[u32], usize),
) -> (Vec<u32>, Vec<u32>) {
    let text = |&text: &usize| &tokens[text * length..][..length];
    (
        open.iter().map(|&text| neurons[text]).collect(),
        open.iter().flat_map(text).copied().collect(),
    )
}

/// The most promising changes of each text, most promising first.
fn changes<O: GradientOps>(
    ops: &O,
    vocabulary: &mut Vocabulary<O>,
    (tokens, length): (&[u32], usize),
    gradient: &[f32],
) -> Result<Vec<Change>> {
    let (allowed, size) = (vocabulary.allowed().to_vec(), vocabulary.size());
    // One more than is kept: the token itself may be among them.
    let mut by_place: Vec<Vec<(u32, f64)>> = Vec::with_capacity(tokens.len());
    vocabulary.products(ops, gradient, |first, products| {
        let of_row = |(r, products): (usize, &[f32])| {
            let own = tokens[first + r];
            let gain = |token: u32| {
                f64::from(products[token as usize]) - f64::from(products[own as usize])
            };
            let mut found = largest(&allowed, CANDIDATES + 1, gain);
            found.retain(|(token, _)| *token != own);
            found
        };
        by_place.par_extend(products.par_chunks_exact(size).enumerate().map(of_row));
    })?;
    let mut all = Vec::new();
    for (text, places) in by_place.chunks_exact(length).enumerate() {
        let changes = places.iter().enumerate().flat_map(|(position, found)| {
            found.iter().map(move |&(token, gain)| (gain, Change { text, position, token }))
        });
        let mut changes: Vec<(f64, Change)> = changes.collect();
        changes.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.extend(changes.into_iter().take(CANDIDATES).map(|(_, change)| change));
    }
    Ok(all)
}
