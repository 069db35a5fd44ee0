//! DiffMask for neurons (De Cao et al. 2020, arXiv 2004.14992; 2022, arXiv 2104.08646): the fewest gates
//! that are needed, by gradient descent on their logits and ascent on the multiplier of a constraint on
//! the answers. `keep` finds the smallest set with which alone the model answers as before, `flip` the
//! smallest set whose removal makes it answer wrongly.

use super::hard_concrete::{gate, middle, open};
use super::masks::{Gates, Holds, Slopes};
use super::neurons::Neurons;
use super::question::Where;
use crate::hash::{GAMMA, mix};

/// Where the logits begin: nearly every gate is open.
const START: f64 = 5.0;
/// Steps of the logarithm of the multiplier, and its ends.
const ASCENT: f64 = 0.1;
const ENDS: (f64, f64) = (-14.0, 14.0);
/// Rate of the values behind the gates.
const VALUE_RATE: f64 = 0.01;
/// Adam (Kingma & Ba 2015).
const DECAY: (f64, f64) = (0.9, 0.999);
const TINY: f64 = 1e-8;
/// A gate that is hardly open in the middle of its distribution is shut.
const SHUT: f64 = 0.05;

/// What is searched, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What the answers are held to; it also says what a gate is: of a neuron that is kept, or of one
    /// that is taken away.
    pub holds: Holds,
    /// How far the mean over questions may miss that.
    pub tolerance: f64,
    /// Steps.
    pub steps: u32,
    /// Adam's rate for the logits.
    pub rate: f64,
    /// Whether the values behind the gates are learned too.
    pub learn: bool,
    /// At which tokens neurons are gated.
    pub place: Where,
    /// Of the draws.
    pub seed: u64,
}

/// Numbers under way, one for each neuron, with Adam's moments.
#[derive(Clone, Debug, PartialEq)]
struct Moving {
    now: Vec<f64>,
    mean: Vec<f64>,
    square: Vec<f64>,
}

impl Moving {
    fn new(now: Vec<f64>) -> Self {
        let zeros = vec![0.0; now.len()];
        Self { now, mean: zeros.clone(), square: zeros }
    }

    fn descend(&mut self, slopes: impl Iterator<Item = f64>, (step, rate): (u32, f64)) {
        let correction = |decay: f64| 1.0 - decay.powi(step.cast_signed() + 1);
        let (first, second) = (correction(DECAY.0), correction(DECAY.1));
        let moments = self.mean.iter_mut().zip(&mut self.square);
        for ((now, (mean, square)), slope) in self.now.iter_mut().zip(moments).zip(slopes) {
            *mean = DECAY.0 * *mean + (1.0 - DECAY.0) * slope;
            *square = DECAY.1 * *square + (1.0 - DECAY.1) * slope * slope;
            *now -= rate * (*mean / first) / ((*square / second).sqrt() + TINY);
        }
    }

    fn vectors(&mut self) -> [&mut Vec<f64>; 3] {
        [&mut self.now, &mut self.mean, &mut self.square]
    }
}

/// A search after so many steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    settings: Settings,
    /// Neurons of a layer.
    width: usize,
    step: u32,
    log_multiplier: f64,
    /// Mean that the answers missed at the last step.
    missed: f64,
    logits: Moving,
    values: Moving,
}

impl Search {
    /// Nearly every gate open; `towards` are the values behind them, by layer of the experiment.
    pub fn new(settings: Settings, neurons: &Neurons, towards: &[Vec<f32>]) -> Self {
        let values = towards.iter().flatten().map(|b| f64::from(*b)).collect();
        Self {
            settings,
            width: neurons.width,
            step: 0,
            log_multiplier: 0.0,
            missed: 0.0,
            logits: Moving::new(vec![START; neurons.count()]),
            values: Moving::new(values),
        }
    }

    /// Steps that are done.
    pub fn steps(&self) -> u32 {
        self.step
    }

    /// Whether all steps are done.
    pub fn is_done(&self) -> bool {
        self.step >= self.settings.steps
    }

    /// What the answers missed at the last step, mean over questions.
    pub fn missed(&self) -> f64 {
        self.missed
    }

    /// Neurons are kept by open gates, or taken away by them.
    fn kept(&self, open: f64) -> f64 {
        if self.settings.holds == Holds::Same { open } else { 1.0 - open }
    }

    fn draw(&self, neuron: usize) -> f64 {
        let seed = mix(self.settings.seed.wrapping_add(GAMMA));
        let place = (u64::from(self.step) << 40) ^ neuron as u64;
        let bits = mix(seed ^ mix(place.wrapping_add(GAMMA))) >> 11;
        (bits as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// The gates of the next step, drawn.
    pub fn drawn(&self) -> Gates {
        self.gates(|neuron, a| gate(a, self.draw(neuron)).0)
    }

    /// The gates in the middle of their distributions, those that are hardly open shut.
    pub fn decided(&self) -> Gates {
        self.gates(|_, a| if middle(a) > SHUT { middle(a) } else { 0.0 })
    }

    #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
    fn gates(&self, open: impl Fn(usize, f64) -> f64) -> Gates {
        let logits = self.logits.now.iter().enumerate();
        let all: Vec<f32> = logits.map(|(n, a)| self.kept(open(n, *a)) as f32).collect();
        let values: Vec<f32> = self.values.now.iter().map(|b| *b as f32).collect();
        let layers = |all: &[f32]| all.chunks(self.width).map(<[f32]>::to_vec).collect();
        Gates { gates: layers(&all), towards: layers(&values) }
    }

    /// Probability that a neuron's gate is not shut, and whether it is open in the end.
    pub fn verdict(&self, layer: usize, column: usize) -> (f64, bool) {
        let a = self.logits.now[layer * self.width + column];
        (open(a).0, middle(a) > SHUT)
    }

    /// One step, from what so many questions missed under [`Self::drawn`].
    pub fn descend(&mut self, slopes: &Slopes, questions: usize) {
        let (count, settings) = (questions as f64, self.settings);
        self.missed = slopes.sum / count;
        let multiplier = self.log_multiplier.exp();
        let sign = if settings.holds == Holds::Same { 1.0 } else { -1.0 };
        let own = slopes.gates.iter().flatten().zip(self.logits.now.iter().enumerate());
        let steps: Vec<f64> = own
            .map(|(slope, (neuron, &a))| {
                let towards = sign * slope / count * gate(a, self.draw(neuron)).1;
                open(a).1 + multiplier * towards
            })
            .collect();
        self.logits.descend(steps.into_iter(), (self.step, settings.rate));
        if settings.learn {
            let steps = slopes.towards.iter().flatten().map(|slope| multiplier * slope / count);
            self.values.descend(steps, (self.step, VALUE_RATE));
        }
        let over = (self.missed - settings.tolerance) / settings.tolerance;
        self.log_multiplier =
            (self.log_multiplier + ASCENT * over.clamp(-1.0, 1.0)).clamp(ENDS.0, ENDS.1);
        self.step += 1;
    }

    /// The state as numbers.
    pub fn encode(&self) -> Vec<f64> {
        let mut copy = self.clone();
        let mut all = vec![f64::from(self.step), self.log_multiplier, self.missed];
        for vector in copy.logits.vectors().into_iter().chain(copy.values.vectors()) {
            all.append(vector);
        }
        all
    }

    /// Takes a state of the same search; false, and nothing taken, if it does not fit.
    pub fn restore(&mut self, numbers: &[f64]) -> bool {
        let count = self.logits.now.len();
        let [step, multiplier, missed, rest @ ..] = numbers else { return false };
        if rest.len() != 6 * count || !(0.0..=f64::from(self.settings.steps)).contains(step) {
            return false;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "just checked")]
        let step = *step as u32;
        (self.step, self.log_multiplier, self.missed) = (step, *multiplier, *missed);
        let vectors = self.logits.vectors().into_iter().chain(self.values.vectors());
        for (vector, from) in vectors.zip(rest.chunks(count)) {
            vector.copy_from_slice(from);
        }
        true
    }
}
