//! Solvers of a unit: Adam, a step for each batch, and FISTA, a step for each pass (`proximal.rs`). Both read
//! the sums of gradients piece by piece.

use super::super::dispatch::multiversion;
use super::penalties::Penalties;
use super::proximal::Fista;
use super::unit::{PIECE, Shape};
use crate::device::probe_ops::{Feed, Progress};

/// Decay of Adam's means of gradients and of their squares.
const BETAS: (f64, f64) = (0.9, 0.999);
/// Keeps Adam's denominator from 0.
const EPSILON: f32 = 1e-8;

/// What a unit's solver keeps, shaped as its weights.
#[derive(Debug)]
pub(super) enum Solver {
    /// Nothing has been learned yet.
    None,
    /// See [`Adam`].
    Adam(Adam),
    /// See [`Fista`].
    Fista(Fista),
}

/// Kingma & Ba 2015, algorithm 1; epsilon is added after the square root, as PyTorch does.
#[derive(Debug)]
pub(super) struct Adam {
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

/// Some neighbouring inputs of a panel, with all that belongs to them.
pub(super) struct Piece<'a> {
    pub(super) panel: usize,
    /// First input.
    pub(super) first: usize,
    pub(super) sums: &'a mut [f32],
    weights: &'a mut [f32],
    masks: Option<&'a [f32]>,
    state: State<'a>,
}

enum State<'a> {
    Adam { first: &'a mut [f32], second: &'a mut [f32] },
    Fista { totals: &'a mut [f64] },
}

/// What is done with a piece whose sums are complete.
pub(super) enum End {
    /// A step of Adam.
    Step(Step),
    /// The sums of a run are added to those of the pass.
    Run,
}

/// A step of Adam: numbers by column of the unit.
#[derive(Debug)]
pub(super) struct Step {
    /// 1 / rows.
    mean: f32,
    l1: Vec<f32>,
    shrinking: Vec<f32>,
    /// Rates over the correction of the mean's bias.
    rates: Vec<f32>,
    /// The root of the correction of the squares' bias.
    root: f32,
    /// The input without penalties.
    bias: usize,
}

/// The weights of a unit, its sums, and its masks.
pub(super) type Arrays<'a> = (&'a mut [f32], &'a mut [f32], Option<&'a [f32]>);

impl Solver {
    /// Makes sure that it is the solver of this kind of pass.
    pub(super) fn begin(&mut self, what: Feed, weights: &[f32], heads: usize) {
        match (&self, what) {
            (Self::Adam(_), Feed::Train { .. }) | (Self::Fista(_), Feed::Gradient) => {}
            (_, Feed::Train { .. }) => {
                let none = vec![0.0; weights.len()];
                *self = Self::Adam(Adam { first: none.clone(), second: none, steps: 0 });
            }
            (_, Feed::Gradient) => *self = Self::Fista(Fista::new(weights, heads)),
            (_, Feed::Measure) => {}
        }
    }

    /// Where gradients of a whole pass are taken.
    pub(super) fn point(&self) -> &[f32] {
        match self {
            Self::Fista(fista) => &fista.point,
            _ => panic!("a pass for gradients has not begun"),
        }
    }

    /// Appends what it keeps between two passes: which it is and its counts, and its arrays.
    pub(super) fn save(&self, arrays: &mut Vec<f32>, numbers: &mut Vec<f64>) {
        match self {
            Self::None => numbers.push(0.0),
            Self::Adam(adam) => {
                numbers.extend([1.0, f64::from(adam.steps)]);
                arrays.extend_from_slice(&adam.first);
                arrays.extend_from_slice(&adam.second);
            }
            Self::Fista(fista) => {
                numbers.push(2.0);
                numbers.extend_from_slice(fista.momenta());
                arrays.extend_from_slice(&fista.point);
            }
        }
    }

    /// Reads what [`Self::save`] wrote for so many weights and heads; none where it did not.
    #[expect(clippy::cast_possible_truncation, reason = "it was a count")]
    pub(super) fn restored(
        (weights, heads): (&[f32], usize),
        arrays: &mut &[f32],
        numbers: &mut &[f64],
    ) -> Option<Self> {
        let (kind, rest) = numbers.split_first()?;
        *numbers = rest;
        let mut array = || {
            let (own, rest) = arrays.split_at_checked(weights.len())?;
            *arrays = rest;
            Some(own.to_vec())
        };
        Some(match kind {
            0.0 => Self::None,
            1.0 => {
                let (steps, rest) = numbers.split_first()?;
                *numbers = rest;
                Self::Adam(Adam { first: array()?, second: array()?, steps: *steps as i32 })
            }
            2.0 => {
                let (momenta, rest) = numbers.split_at_checked(heads)?;
                *numbers = rest;
                Self::Fista(Fista::at(array()?, momenta))
            }
            _ => return None,
        })
    }

    /// Adds losses `[rows, heads]`.
    pub(super) fn add_losses(&mut self, losses: &[f64], rows: usize) {
        if let Self::Fista(fista) = self {
            fista.add_losses(losses, rows);
        }
    }

    /// What is to be done with sums over `rows` rows.
    pub(super) fn ending(&mut self, rows: usize, weights: &[f32], penalties: &Penalties) -> End {
        match self {
            Self::Adam(adam) => End::Step(adam.step(rows, weights, penalties)),
            _ => End::Run,
        }
    }

    /// All weights in pieces.
    pub(super) fn pieces<'a>(
        &'a mut self,
        shape: Shape,
        (weights, sums, masks): Arrays<'a>,
    ) -> Vec<Piece<'a>> {
        let (panel, piece) = (shape.steps * shape.width, PIECE * shape.width);
        let states: Vec<State<'a>> = match self {
            Self::None => Vec::new(),
            Self::Adam(adam) => cut(&mut adam.first, panel, piece)
                .zip(cut(&mut adam.second, panel, piece))
                .map(|(first, second)| State::Adam { first, second })
                .collect(),
            Self::Fista(fista) => {
                cut(&mut fista.totals, panel, piece).map(|totals| State::Fista { totals }).collect()
            }
        };
        let mut masks =
            masks.map(|masks| masks.chunks_exact(panel).flat_map(move |m| m.chunks(piece)));
        let each = shape.steps.div_ceil(PIECE);
        let pieces = cut(weights, panel, piece).zip(cut(sums, panel, piece)).zip(states);
        pieces
            .enumerate()
            .map(|(number, ((weights, sums), state))| Piece {
                panel: number / each,
                first: number % each * PIECE,
                masks: masks.as_mut().and_then(Iterator::next),
                sums,
                weights,
                state,
            })
            .collect()
    }

    /// See [`Fista::step`].
    pub(super) fn proximal(
        &mut self,
        (shape, penalties): (Shape, &Penalties),
        arrays: Arrays<'_>,
        steps: &[f32],
    ) -> Vec<Progress> {
        match self {
            Self::Fista(fista) => fista.step((shape, penalties), arrays, steps),
            _ => vec![Progress::default(); steps.len()],
        }
    }
}

/// Panels cut into pieces.
fn cut<T>(values: &mut [T], panel: usize, piece: usize) -> impl Iterator<Item = &mut [T]> {
    values.chunks_exact_mut(panel).flat_map(move |panel| panel.chunks_mut(piece))
}

impl Adam {
    #[expect(clippy::cast_possible_truncation, reason = "numbers of f32 arithmetic")]
    fn step(&mut self, rows: usize, weights: &[f32], penalties: &Penalties) -> Step {
        self.steps = self.steps.saturating_add(1);
        let correction = |beta: f64| 1.0 - beta.powi(self.steps);
        let rate = |rate: f32| (f64::from(rate) / correction(BETAS.0)) as f32;
        Step {
            mean: (1.0 / rows as f64) as f32,
            l1: penalties.by_column(|head| head.l1),
            shrinking: penalties.shrinking(weights),
            rates: penalties.by_column(|head| rate(head.rate)),
            root: correction(BETAS.1).sqrt() as f32,
            bias: penalties.shape.steps - 1,
        }
    }
}

impl End {
    /// Spends the sums of a piece.
    pub(super) fn run(&self, piece: &mut Piece<'_>) {
        match (self, &mut piece.state) {
            (Self::Step(step), State::Adam { first, second }) => {
                let moments = (&mut **first, &mut **second);
                let place = (piece.first, piece.panel);
                adam(step, place, (piece.weights, piece.sums, piece.masks), moments);
            }
            (_, State::Fista { totals }) => add_up(totals, piece.sums),
            (Self::Run, State::Adam { .. }) => panic!("a run ends in a pass for gradients"),
        }
    }
}

multiversion! {
    /// One step for the inputs of a piece; its sums are 0 afterwards.
    fn adam(
        step: &Step,
        place: (usize, usize),
        arrays: (&mut [f32], &mut [f32], Option<&[f32]>),
        moments: (&mut [f32], &mut [f32]),
    ) {
        let ((input, panel), (weights, sums, masks)) = (place, arrays);
        let width = penalised_width(step);
        let own = panel * width..(panel + 1) * width;
        let none = [0.0_f32; super::WIDEST];
        let rates = &step.rates[own.clone()];
        let (keep, keep_square) = ((1.0 - BETAS.0) as f32, BETAS.1 as f32);
        let add_square = (1.0 - BETAS.1) as f32;
        for row in 0..weights.len() / width {
            let at = row * width..(row + 1) * width;
            let (w, sums) = (&mut weights[at.clone()], &mut sums[at.clone()]);
            let (m, v) = (&mut moments.0[at.clone()], &mut moments.1[at.clone()]);
            let (l1, shrinking) = if input + row == step.bias {
                (&none[..width], &none[..width])
            } else {
                (&step.l1[own.clone()], &step.shrinking[own.clone()])
            };
            if let Some(masks) = masks {
                // Weights that stay 0 bear no penalty either.
                for (sum, mask) in sums.iter_mut().zip(&masks[at]) {
                    *sum = if *mask == 0.0 { 0.0 } else { *sum };
                }
            }
            for c in 0..width {
                let x = w[c];
                let sign = if x > 0.0 { l1[c] } else if x < 0.0 { -l1[c] } else { 0.0 };
                let g = sums[c] * step.mean + sign + shrinking[c] * x;
                m[c] += (g - m[c]) * keep;
                v[c] = v[c] * keep_square + add_square * g * g;
                w[c] = x - rates[c] * m[c] / (v[c].sqrt() / step.root + EPSILON);
                sums[c] = 0.0;
            }
        }
    }

    /// `totals += sums`, which are 0 afterwards.
    fn add_up(totals: &mut [f64], sums: &mut [f32]) {
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total += f64::from(*sum);
            *sum = 0.0;
        }
    }
}

/// Columns of a panel.
#[inline(always)]
fn penalised_width(step: &Step) -> usize {
    step.rates.len().min(super::WIDEST)
}
