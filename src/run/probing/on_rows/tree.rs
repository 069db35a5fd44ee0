//! `tree-probe`: what the neurons of two adjacent words say together of the tree above them, by a label
//! of the pair that stands on its first word (Arps et al. 2022, arXiv 2204.06201).

use super::greedy_probes::{Classes, Greedy};
use super::parts::{PartRows, Parts};
use super::tried::{CHOSEN, TRIED, Tried};
use crate::error::Result;
use crate::methods::MethodCall;
use crate::methods::probing::Block;
use crate::methods::probing::elastic_net::{ElasticNet, Targets};
use crate::methods::probing::salience::exact_order;
use crate::probe::split::Part;
use crate::probe::tasks::Labelled;

/// Share of the first gradient at which training ends.
const TOLERANCE: f64 = 1e-5;
/// Training rows that a class needs.
pub(super) const LEAST: usize = 2;

/// Of labelled rows those whose next row is the next word of the sentence: the first words of pairs.
pub(super) fn first_words(labelled: &Labelled, continues: &[bool]) -> Labelled {
    let own = labelled.rows.iter().zip(&labelled.targets);
    let paired = own.filter(|(row, _)| continues.get(**row as usize + 1) == Some(&true));
    let (rows, targets) = paired.map(|(row, target)| (*row, *target)).unzip();
    Labelled { rows, targets }
}

/// First words and those behind them, each once, in the order of the corpus.
pub(super) fn both_words(first: &Labelled) -> Labelled {
    let mut rows: Vec<u32> = first.rows.iter().flat_map(|row| [*row, *row + 1]).collect();
    rows.dedup();
    rows.sort_unstable();
    rows.dedup();
    let targets = vec![0.0; rows.len()];
    Labelled { rows, targets }
}

/// One multinomial probe on `[x_i ; x_i+1]`; a neuron is as important as its weights for both words.
pub(super) fn tree(
    call: &MethodCall,
    [first, second]: [&Parts; 2],
    classes: usize,
) -> Result<Option<Greedy>> {
    let [one, other] = [first, second].map(|parts| Classes::new(parts, classes, LEAST));
    if !one.can_be_told() {
        return Ok(None);
    }
    let columns = one.candidates(call.whole("candidates"))?;
    let features = |part: Part| {
        let ((x, targets), (z, _)) = (one.known(part, &columns), other.known(part, &columns));
        let width = columns.len();
        let pairs = x.chunks_exact(width).zip(z.chunks_exact(width));
        let values = pairs.flat_map(|(x, z)| x.iter().chain(z).map(|x| f64::from(*x)));
        (Block::new(values.collect(), 2 * width), targets)
    };
    let (x, targets) = features(Part::Train);
    let net = ElasticNet { l2: call.number("l2"), tolerance: TOLERANCE, ..ElasticNet::default() };
    let probe = net.fit(&x, Targets::Classes(&targets, one.count()), None)?;
    let tried = TRIED.map(|part| {
        let (x, targets) = features(part);
        let mut own = Tried::of_posteriors((part, &columns), &probe.log_posteriors(&x), &targets);
        // Pairs of classes that were left out count as wrong.
        let all: &PartRows = first.of(part);
        own.accuracy *= targets.len() as f64 / all.targets.len().max(1) as f64;
        own.flags.push(CHOSEN);
        own
    });
    let mut masses = vec![0.0; one.count() * first.width];
    for (class, weights) in masses.chunks_exact_mut(first.width).zip(probe.weights.rows()) {
        for (at, column) in columns.iter().enumerate() {
            class[*column as usize] = weights[at].abs() + weights[columns.len() + at].abs();
        }
    }
    let ranking = exact_order(&Block::new(masses, first.width));
    Ok(Some(Greedy { ranking, tried: tried.into(), left_out: one.left_out().to_vec() }))
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.

    use super::*;

    #[test]
    fn pairs_stay_inside_sentences() {
        // Sentences of rows 0-2, 3, 4-5.
        let continues = [false, true, true, false, false, true];
        let labelled =
            Labelled { rows: vec![0, 2, 3, 4, 5], targets: vec![1.0, 2.0, 3.0, 4.0, 5.0] };
        let first = first_words(&labelled, &continues);
        assert_eq!((&first.rows[..], &first.targets[..]), (&[0, 4][..], &[1.0, 4.0][..]));
        assert_eq!(both_words(&first).rows, [0, 1, 4, 5]);
    }
}
