//! The latent-variable probe. Oracles: all sets of a few neurons counted, finite differences, planted
//! neurons.

use electrode::methods::probing::draw::Draws;
use electrode::methods::probing::greedy::{Criterion, select};
use electrode::methods::probing::latent::LatentSettings;
use electrode::methods::probing::masks::{Masks, Sampling};

use super::support::noise_block;
use crate::methods::support::{Random, largest_error};

const LOGITS: [f64; 5] = [0.3, -1.2, 2.0, 0.0, -0.4];

/// ln of the sum over sets of a size of the products, and the probability of each neuron, by counting.
fn counted(logits: &[f64], size: usize) -> (f64, Vec<f64>) {
    let (mut total, mut inside) = (0.0, vec![0.0; logits.len()]);
    for set in 0_u32..1 << logits.len() {
        if set.count_ones() as usize == size {
            let members = || (0..logits.len()).filter(|n| set >> n & 1 == 1);
            let weight = members().map(|n| logits[n]).sum::<f64>().exp();
            total += weight;
            members().for_each(|n| inside[n] += weight);
        }
    }
    (total.ln(), inside.into_iter().map(|w| w / total).collect())
}

#[test]
fn conditional_poisson_sets_are_those_counted() {
    let masks = Masks::new(&LOGITS, Sampling::ConditionalPoisson);
    for size in 1..=5 {
        assert!(largest_error(&masks.inclusion(size), &counted(&LOGITS, size).1) < 1e-12, "{size}");
    }
    let mut draws = Draws::new(3, 0);
    let mut seen = [0.0_f64; 5];
    let mut sizes = [0.0_f64; 6];
    for _ in 0..20_000 {
        let mask = masks.draw(&mut draws);
        let size = mask.neurons.len();
        sizes[size] += 1.0;
        let (ln_total, inside) = counted(&LOGITS, size);
        let sum: f64 = mask.neurons.iter().map(|&n| LOGITS[n as usize]).sum();
        assert!((mask.log_probability - (sum - ln_total)).abs() < 1e-12);
        for n in 0..5 {
            let member = f64::from(u8::from(mask.neurons.contains(&(n as u32))));
            assert!((mask.score[n] - (member - inside[n])).abs() < 1e-12);
            if size == 2 {
                seen[n] += member;
            }
        }
    }
    // Sizes are uniform and sets of two as counted: five standard errors.
    (1..=5).for_each(|size| assert!((sizes[size] - 4000.0).abs() < 5.0 * 57.0, "{size}"));
    let two = counted(&LOGITS, 2).1;
    for n in 0..5 {
        assert!((seen[n] / sizes[2] - two[n]).abs() < 5.0 * 0.5 / sizes[2].sqrt(), "{n}");
    }
}

#[test]
fn poisson_sets_and_their_entropy() {
    let masks = Masks::new(&LOGITS, Sampling::Poisson);
    let (entropy, slope) = masks.poisson_entropy();
    // -Σ q ln q over all 32 sets.
    let mut summed = 0.0;
    for set in 0_u32..32 {
        let p = |n: usize| {
            let p = 1.0 / (1.0 + (-LOGITS[n]).exp());
            if set >> n & 1 == 1 { p } else { 1.0 - p }
        };
        let q: f64 = (0..5).map(p).product();
        summed -= q * q.ln();
    }
    assert!((entropy - summed).abs() < 1e-12);
    for n in 0..5 {
        let moved = |by: f64| {
            let mut logits = LOGITS;
            logits[n] += by;
            Masks::new(&logits, Sampling::Poisson).poisson_entropy().0
        };
        assert!((slope[n] - (moved(1e-5) - moved(-1e-5)) / 2e-5).abs() < 1e-8, "{n}");
    }
    let mut draws = Draws::new(1, 0);
    let mut mean = [0.0_f64; 5];
    for _ in 0..20_000 {
        let mask = masks.draw(&mut draws);
        mean.iter_mut().zip(&mask.score).for_each(|(m, s)| *m += s / 20_000.0);
        let q: f64 = (0..5)
            .map(|n| {
                let z = if mask.neurons.contains(&(n as u32)) { LOGITS[n] } else { -LOGITS[n] };
                -(1.0 + (-z).exp()).ln()
            })
            .sum();
        assert!((mask.log_probability - q).abs() < 1e-12);
    }
    assert!(mean.iter().all(|m| m.abs() < 5.0 * 0.5 / 20_000.0_f64.sqrt()), "{mean:?}");
}

#[test]
fn one_probe_answers_for_every_set() {
    for sampling in [Sampling::Poisson, Sampling::ConditionalPoisson] {
        let mut random = Random(2);
        let mut x = noise_block(&mut random, 240, 8);
        let labels: Vec<u32> = (0..240).map(|_| random.below(3) as u32).collect();
        for (row, &label) in x.rows_mut().zip(&labels) {
            row[2] += 3.0 * f64::from(u8::from(label == 0));
            row[5] -= 2.5 * f64::from(u8::from(label == 1));
        }
        let settings =
            LatentSettings { sampling, rate: 5e-2, epochs: 300, ..LatentSettings::default() };
        let found = settings.fit(&x, &labels, 3).expect("rows");
        assert_eq!(found, settings.fit(&x, &labels, 3).expect("rows"), "the seed decides");
        let by_logit = |&a: &usize, &b: &usize| found.logits[b].total_cmp(&found.logits[a]);
        let mut order: Vec<usize> = (0..8).collect();
        order.sort_by(by_logit);
        let mut first = order[..2].to_vec();
        first.sort_unstable();
        assert_eq!(first, [2, 5], "{sampling:?}: {:?}", found.logits);
        let mut selection = found.selection(&x);
        let steps = select(&mut selection, (&labels, 3), (Criterion::Accuracy, 8));
        let mut chosen: Vec<u32> = steps[..2].iter().map(|step| step.neuron).collect();
        // What a step reports is what the probe says with all other inputs at 0.
        for end in 1..=8 {
            let kept: Vec<u32> = steps[..end].iter().map(|step| step.neuron).collect();
            let right = x.rows().zip(&labels).filter(|(row, label)| {
                let masked: Vec<f64> =
                    (0..8).map(|n| if kept.contains(&(n as u32)) { row[n] } else { 0.0 }).collect();
                let logits = found.probe.logits(&masked);
                (0..3).all(|c| logits[c] <= logits[**label as usize])
            });
            assert!((right.count() as f64 / 240.0 - steps[end - 1].accuracy).abs() < 1e-12);
        }
        chosen.sort_unstable();
        assert_eq!(chosen, [2, 5], "{sampling:?}");
        assert!(steps[1].accuracy > 0.8, "{}", steps[1].accuracy);
        assert!(settings.fit(&x, &labels, 2).is_err(), "a class that is not there");
    }
}
