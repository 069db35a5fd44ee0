//! Distributions over sets of neurons (`latent-probe`; Stańczak et al., AAAI 2023): Poisson sampling, where
//! neurons are drawn one by one, and conditional Poisson sampling, where the size is drawn first (Hájek
//! 1964).

use super::draw::Draws;
use super::rows::{sigmoid, softplus};

/// How sets are drawn from logits of neurons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// Each neuron by itself with probability sigmoid(logit).
    #[default]
    Poisson,
    /// A size uniform in 1..=N, then a set of this size with probability proportional to the product of
    /// exp(logit) of its neurons.
    ConditionalPoisson,
}

/// A set that was drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    /// Its neurons, in increasing order.
    pub neurons: Vec<u32>,
    /// ln of its probability (given its size, for conditional Poisson).
    pub log_probability: f64,
    /// Derivative of that by each logit: in the set or not, minus the probability of being in it.
    pub score: Vec<f64>,
}

/// A distribution at some logits.
pub struct Masks<'a> {
    logits: &'a [f64],
    sampling: Sampling,
    /// ln of the sum over sets of j of the neurons from n on, `[N + 1, N + 1]`; for conditional Poisson.
    sums: Vec<f64>,
}

fn add_logs(a: f64, b: f64) -> f64 {
    let (top, low) = if a >= b { (a, b) } else { (b, a) };
    if top.is_infinite() { top } else { top + (low - top).exp().ln_1p() }
}

impl<'a> Masks<'a> {
    /// The distribution; O(N²) for conditional Poisson.
    pub fn new(logits: &'a [f64], sampling: Sampling) -> Self {
        let n = logits.len();
        let mut sums = Vec::new();
        if sampling == Sampling::ConditionalPoisson {
            let width = n + 1;
            sums = vec![f64::NEG_INFINITY; width * width];
            sums[n * width] = 0.0;
            for i in (0..n).rev() {
                sums[i * width] = 0.0;
                for j in 1..=n - i {
                    let without = sums[(i + 1) * width + j];
                    let with = logits[i] + sums[(i + 1) * width + j - 1];
                    sums[i * width + j] = add_logs(without, with);
                }
            }
        }
        Self { logits, sampling, sums }
    }

    fn neurons(&self) -> usize {
        self.logits.len()
    }

    /// Draws a set.
    pub fn draw(&self, draws: &mut Draws) -> Mask {
        match self.sampling {
            Sampling::Poisson => self.independent(draws),
            Sampling::ConditionalPoisson => {
                let size = 1 + draws.below(self.neurons());
                self.of_size(size, draws)
            }
        }
    }

    fn independent(&self, draws: &mut Draws) -> Mask {
        let mut mask = Mask { neurons: Vec::new(), log_probability: 0.0, score: Vec::new() };
        for (n, &logit) in self.logits.iter().enumerate() {
            let p = sigmoid(logit);
            let inside = draws.uniform() < p;
            if inside {
                mask.neurons.push(n as u32);
            }
            mask.log_probability -= if inside { softplus(-logit) } else { softplus(logit) };
            mask.score.push(f64::from(u8::from(inside)) - p);
        }
        mask
    }

    /// The probability of neuron n when j more are wanted from it on.
    fn take(&self, n: usize, j: usize) -> f64 {
        let width = self.neurons() + 1;
        if j == 0 || j > self.neurons() - n {
            return 0.0;
        }
        let with = self.logits[n] + self.sums[(n + 1) * width + j - 1];
        (with - self.sums[n * width + j]).exp().min(1.0)
    }

    fn of_size(&self, size: usize, draws: &mut Draws) -> Mask {
        let mut left = size;
        let mut neurons = Vec::with_capacity(size);
        for n in 0..self.neurons() {
            // What is left to take may be all there is: the probability is then 1 but for rounding.
            if left == self.neurons() - n || draws.uniform() < self.take(n, left) {
                neurons.push(n as u32);
                left -= 1;
            }
            if left == 0 {
                break;
            }
        }
        let sum: f64 = neurons.iter().map(|&n| self.logits[n as usize]).sum();
        let mut score: Vec<f64> = self.inclusion(size).into_iter().map(|p| -p).collect();
        neurons.iter().for_each(|&n| score[n as usize] += 1.0);
        Mask { neurons, log_probability: sum - self.sums[size], score }
    }

    /// The probability of each neuron in a set of `size` (conditional Poisson): how many are still wanted
    /// at each neuron is followed from the first to the last. O(N size).
    pub fn inclusion(&self, size: usize) -> Vec<f64> {
        let mut wanted = vec![0.0; size + 2];
        wanted[size] = 1.0;
        let one = |n: usize| {
            let mut inside = 0.0;
            for j in 0..=size {
                let taken = wanted[j] * self.take(n, j);
                let next = wanted[j + 1] * self.take(n, j + 1);
                inside += taken;
                wanted[j] += next - taken;
            }
            inside
        };
        (0..self.neurons()).map(one).collect()
    }

    /// Entropy of Poisson sampling in nats and its derivative by each logit.
    pub fn poisson_entropy(&self) -> (f64, Vec<f64>) {
        let own = |&x: &f64| {
            let p = sigmoid(x);
            p * softplus(-x) + (1.0 - p) * softplus(x)
        };
        let slope = |&x: &f64| -x * sigmoid(x) * (1.0 - sigmoid(x));
        (self.logits.iter().map(own).sum(), self.logits.iter().map(slope).collect())
    }
}
