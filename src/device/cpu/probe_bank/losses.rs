//! Losses of rows of logits, and their gradients, which take the place of the logits. Largest logits and
//! sums of exponentials are those of one head; where heads stand beside each other, a row's exponentials
//! are taken for all of them at once.

use super::super::dispatch::multiversion;
use super::super::math;
use super::WIDEST;
use crate::device::probe_ops::ProbeLoss;
use crate::device::probe_units::Place;

/// What is asked of rows beside the gradient: `[rows, heads]` each.
#[derive(Debug)]
pub(super) struct Verdicts<'a> {
    /// Losses in nats.
    pub(super) losses: &'a mut [f64],
    /// Answers: classes; 0 for a squared loss.
    pub(super) said: &'a mut [u32],
}

/// Logits `[rows, width]` of each panel become gradients; padding columns become 0.
pub(super) fn gradients(
    (loss, places): (ProbeLoss, &[Place]),
    (panels, width): (&mut [&mut [f32]], usize),
    targets: &[f32],
    verdicts: &mut Option<Verdicts<'_>>,
) {
    match (loss, panels) {
        (ProbeLoss::Softmax, [logits]) => softmax(places, (logits, width), targets, verdicts),
        (ProbeLoss::Softmax, panels) => wide_softmax(places[0], (panels, width), targets, verdicts),
        (ProbeLoss::Logistic, panels) => {
            logistic(places, (&mut *panels[0], width), targets, verdicts);
        }
        (ProbeLoss::Squared, panels) => {
            squared(places, (&mut *panels[0], width), targets, verdicts);
        }
    }
}

/// The class a target names; the host has checked it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number below the head's columns"
)]
#[inline(always)]
pub(super) fn class(target: f32) -> usize {
    target as usize
}

#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    x.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// The first of the largest.
#[inline(always)]
fn first_of(x: &[f32], top: f32) -> usize {
    x.iter().position(|x| *x == top).unwrap_or(0)
}

/// What a row's head says.
#[inline(always)]
fn tell(verdicts: &mut Option<Verdicts<'_>>, at: usize, loss: f64, said: usize) {
    if let Some(verdicts) = verdicts {
        verdicts.losses[at] = loss;
        verdicts.said[at] = u32::try_from(said).expect("classes are counted in u32");
    }
}

multiversion! {
    /// `softmax(z) - onehot`, for heads of one panel.
    fn softmax(
        places: &[Place],
        logits: (&mut [f32], usize),
        targets: &[f32],
        verdicts: &mut Option<Verdicts<'_>>,
    ) {
        let (logits, width) = logits;
        let (mut shift, mut factor) = ([0.0_f32; WIDEST], [0.0_f32; WIDEST]);
        for (row, (z, target)) in logits.chunks_exact_mut(width).zip(targets).enumerate() {
            let target = class(*target);
            for (h, place) in places.iter().enumerate() {
                let own = &z[place.first..][..place.columns];
                let top = largest(own);
                shift[place.first..][..place.columns].fill(top);
                if verdicts.is_some() {
                    let loss = f64::from(top) - f64::from(own[target]);
                    tell(verdicts, row * places.len() + h, loss, first_of(own, top));
                }
            }
            for (z, shift) in z.iter_mut().zip(&shift) {
                *z = math::exp(*z - shift);
            }
            for (h, place) in places.iter().enumerate() {
                let sum: f32 = z[place.first..][..place.columns].iter().sum();
                factor[place.first..][..place.columns].fill(1.0 / sum);
                if let Some(verdicts) = verdicts {
                    verdicts.losses[row * places.len() + h] += f64::from(sum).ln();
                }
            }
            for (z, factor) in z.iter_mut().zip(&factor) {
                *z *= factor;
            }
            for place in places {
                z[place.first + target] -= 1.0;
            }
        }
    }

    /// The same for one head of many panels.
    fn wide_softmax(
        place: Place,
        panels: (&mut [&mut [f32]], usize),
        targets: &[f32],
        verdicts: &mut Option<Verdicts<'_>>,
    ) {
        let (panels, width) = panels;
        for (row, target) in targets.iter().enumerate() {
            let target = class(*target);
            let here = |p: usize| row * width..row * width + width.min(place.columns - p * width);
            let at = |column: usize| row * width + column % width;
            let top = panels.iter().enumerate().map(|(p, z)| largest(&z[here(p)]));
            let top = top.fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
            if verdicts.is_some() {
                let said = (0..place.columns).position(|c| panels[c / width][at(c)] == top);
                let wanted = panels[target / width][at(target)];
                tell(verdicts, row, f64::from(top) - f64::from(wanted), said.unwrap_or(0));
            }
            let mut total = 0.0_f64;
            for (p, z) in panels.iter_mut().enumerate() {
                let z = &mut z[here(p)];
                z.iter_mut().for_each(|z| *z = math::exp(*z - top));
                total += f64::from(z.iter().sum::<f32>());
            }
            #[expect(clippy::cast_possible_truncation, reason = "a factor of f32 values")]
            let factor = (1.0 / total) as f32;
            for (p, z) in panels.iter_mut().enumerate() {
                z[here(p)].iter_mut().for_each(|z| *z *= factor);
                z[here(p).end..(row + 1) * width].fill(0.0);
            }
            panels[target / width][at(target)] -= 1.0;
            if let Some(verdicts) = verdicts {
                verdicts.losses[row] += total.ln();
            }
        }
    }

    /// `1 / (1 + e^-z) - target`; the loss is `log(1 + e^z) - target z`.
    fn logistic(
        places: &[Place],
        logits: (&mut [f32], usize),
        targets: &[f32],
        verdicts: &mut Option<Verdicts<'_>>,
    ) {
        let (logits, width) = logits;
        for (row, (z, target)) in logits.chunks_exact_mut(width).zip(targets).enumerate() {
            if verdicts.is_some() {
                for (h, z) in z[..places.len()].iter().enumerate() {
                    let z64 = f64::from(*z);
                    let loss = z64.max(0.0) + (-z64.abs()).exp().ln_1p() - f64::from(*target) * z64;
                    tell(verdicts, row * places.len() + h, loss, usize::from(*z > 0.0));
                }
            }
            for z in z.iter_mut() {
                let e = math::exp(-z.abs());
                let above = if *z < 0.0 { e } else { 1.0 };
                *z = above / (1.0 + e) - target;
            }
            z[places.len()..].fill(0.0);
        }
    }

    /// `2 (z - target)`.
    fn squared(
        places: &[Place],
        logits: (&mut [f32], usize),
        targets: &[f32],
        verdicts: &mut Option<Verdicts<'_>>,
    ) {
        let (logits, width) = logits;
        for (row, (z, target)) in logits.chunks_exact_mut(width).zip(targets).enumerate() {
            if verdicts.is_some() {
                for (h, z) in z[..places.len()].iter().enumerate() {
                    let off = f64::from(*z) - f64::from(*target);
                    tell(verdicts, row * places.len() + h, off * off, 0);
                }
            }
            z.iter_mut().for_each(|z| *z = 2.0 * (*z - target));
            z[places.len()..].fill(0.0);
        }
    }
}
