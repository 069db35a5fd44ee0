//! Texts relaxed to numbers that a gradient can move: free vectors, or weights over the vocabulary.

use rayon::prelude::*;

use super::vocabulary::Vocabulary;
use crate::device::gradient_ops::GradientOps;
use crate::error::Result;
use crate::hash::{GAMMA, mix};

/// What is moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// A free vector at each position; snapped to the nearest token by cosine.
    #[default]
    Embed,
    /// Weights theta: the vector is `softmax(theta / T) E`; snapped to the largest.
    Softmax,
    /// The same with noise: `softmax((theta + g) / T) E`, g of the Gumbel distribution, drawn anew
    /// at each step (Jang et al. 2017, Maddison et al. 2017); the relaxed value is that without
    /// noise at the last temperature.
    Gumbel,
}

impl Variant {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Softmax => "softmax",
            Self::Gumbel => "gumbel",
        }
    }
}

/// Adam (Kingma and Ba 2015) uphill, with its usual constants.
pub struct Adam {
    rate: f32,
    steps: i32,
    mean: Vec<f32>,
    square: Vec<f32>,
}

impl Adam {
    /// For so many numbers.
    pub fn new(count: usize, rate: f32) -> Self {
        Self { rate, steps: 0, mean: vec![0.0; count], square: vec![0.0; count] }
    }

    /// One step of `x` along `g`. What is not finite does not move.
    pub fn ascend(&mut self, x: &mut [f32], g: &[f32]) {
        const BETA: [f32; 2] = [0.9, 0.999];
        const EPSILON: f32 = 1e-8;
        self.steps += 1;
        let [first, second] = BETA.map(|beta| 1.0 - beta.powi(self.steps));
        let rate = self.rate;
        let moments = self.mean.par_iter_mut().zip(&mut self.square);
        x.par_iter_mut().zip(g).zip(moments).with_min_len(4096).for_each(|((x, &g), (m, v))| {
            let g = if g.is_finite() { g } else { 0.0 };
            *m = BETA[0] * *m + (1.0 - BETA[0]) * g;
            *v = BETA[1] * *v + (1.0 - BETA[1]) * g * g;
            *x += rate * (*m / first) / ((*v / second).sqrt() + EPSILON);
        });
    }
}

/// Relaxed texts under way.
pub enum Relaxed {
    /// `[R, L, E]`.
    Vectors(Vec<f32>),
    /// Weights over the allowed tokens, others never: `[R, L, A]`.
    Weights(Weights),
}

/// See [`Relaxed::Weights`].
pub struct Weights {
    theta: Vec<f32>,
    /// A stream of random numbers for each position of each text.
    streams: Vec<u64>,
    noise: bool,
    /// The mixture that was run last, `[R, L, V]`.
    mixture: Vec<f32>,
    temperature: f32,
}

impl Relaxed {
    /// At random texts: free vectors begin at the vectors of `tokens`, weights near 0, a little
    /// apart by the stream of each position.
    pub fn new<O: GradientOps>(
        variant: Variant,
        vocabulary: &Vocabulary<O>,
        tokens: &[u32],
        streams: Vec<u64>,
    ) -> Self {
        if variant == Variant::Embed {
            return Self::Vectors(vocabulary.vectors(tokens));
        }
        let allowed = vocabulary.allowed().len() as u64;
        let of = |&stream: &u64| (0..allowed).into_par_iter().map(move |i| unit(stream, i) - 0.5);
        let theta = streams.iter().flat_map(|stream| of(stream).collect::<Vec<f32>>()).collect();
        let noise = variant == Variant::Gumbel;
        Self::Weights(Weights { theta, streams, noise, mixture: Vec::new(), temperature: 1.0 })
    }

    /// Numbers that are moved.
    pub fn len(&self) -> usize {
        match self {
            Self::Vectors(vectors) => vectors.len(),
            Self::Weights(weights) => weights.theta.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The vectors at a temperature, `[R, L, E]`; `step` chooses the noise, none for none.
    pub fn vectors<O: GradientOps>(
        &mut self,
        (ops, vocabulary): (&O, &mut Vocabulary<O>),
        temperature: f32,
        step: Option<u32>,
    ) -> Result<Vec<f32>> {
        match self {
            Self::Vectors(vectors) => Ok(vectors.clone()),
            Self::Weights(weights) => {
                weights.spread(vocabulary, temperature, step);
                vocabulary.mix(ops, &weights.mixture)
            }
        }
    }

    /// One step along the gradient `[R, L, E]` of the vectors that were asked for last.
    pub fn ascend<O: GradientOps>(
        &mut self,
        (ops, vocabulary): (&O, &mut Vocabulary<O>),
        adam: &mut Adam,
        g: &[f32],
    ) -> Result<()> {
        match self {
            Self::Vectors(vectors) => adam.ascend(vectors, g),
            Self::Weights(weights) => {
                let g = weights.gradient(ops, vocabulary, g)?;
                adam.ascend(&mut weights.theta, &g);
            }
        }
        Ok(())
    }

    /// The nearest token of each position, `[R, L]`.
    pub fn snap<O: GradientOps>(
        &self,
        ops: &O,
        vocabulary: &mut Vocabulary<O>,
    ) -> Result<Vec<u32>> {
        match self {
            Self::Vectors(vectors) => {
                let nearest = vocabulary.nearest(ops, vectors, 1)?;
                Ok(nearest.iter().map(|found| found[0].0).collect())
            }
            Self::Weights(weights) => {
                let allowed = vocabulary.allowed();
                let best = |theta: &[f32]| {
                    let better = |a: usize, b: usize| if theta[b] > theta[a] { b } else { a };
                    allowed[(0..theta.len()).reduce(better).expect("tokens to choose from")]
                };
                Ok(weights.theta.par_chunks_exact(allowed.len()).map(best).collect())
            }
        }
    }
}

impl Weights {
    /// The mixture at a temperature.
    fn spread<O: GradientOps>(
        &mut self,
        vocabulary: &Vocabulary<O>,
        temperature: f32,
        step: Option<u32>,
    ) {
        self.temperature = temperature;
        let (allowed, size) = (vocabulary.allowed(), vocabulary.size());
        self.mixture.resize(self.streams.len() * size, 0.0);
        let noise = step.filter(|_| self.noise);
        let rows = self.mixture.par_chunks_exact_mut(size);
        let rows = rows.zip(self.theta.par_chunks_exact(allowed.len())).zip(&self.streams);
        rows.for_each(|((out, theta), stream)| {
            let stream =
                noise.map(|step| mix(stream.wrapping_add(GAMMA.wrapping_mul(u64::from(step) + 1))));
            let energy = |(i, theta): (usize, &f32)| {
                let noise = stream.map_or(0.0, |stream| -(-unit(stream, i as u64).ln()).ln());
                (theta + noise) / temperature
            };
            let energies: Vec<f32> = theta.iter().enumerate().map(energy).collect();
            let top = energies.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f64 = energies.iter().map(|e| f64::from((e - top).exp())).sum();
            for (&token, energy) in allowed.iter().zip(&energies) {
                #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
                {
                    out[token as usize] = (f64::from((energy - top).exp()) / total) as f32;
                }
            }
        });
    }

    /// d theta = p (dp - sum p dp) / T, with dp = g E^T.
    fn gradient<O: GradientOps>(
        &self,
        ops: &O,
        vocabulary: &mut Vocabulary<O>,
        g: &[f32],
    ) -> Result<Vec<f32>> {
        let (allowed, size) = (vocabulary.allowed().to_vec(), vocabulary.size());
        let mut all = vec![0.0; self.theta.len()];
        vocabulary.products(ops, g, |first, products| {
            let out = &mut all[first * allowed.len()..];
            let rows = out.par_chunks_exact_mut(allowed.len()).zip(products.par_chunks_exact(size));
            rows.enumerate().for_each(|(r, (out, dp))| {
                let p = &self.mixture[(first + r) * size..][..size];
                let of = |token: &u32| {
                    let token = *token as usize;
                    (f64::from(p[token]), f64::from(dp[token]))
                };
                let mean: f64 = allowed.iter().map(of).map(|(p, dp)| p * dp).sum();
                for (out, token) in out.iter_mut().zip(&allowed) {
                    let (p, dp) = of(token);
                    #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
                    {
                        *out = (p * (dp - mean) / f64::from(self.temperature)) as f32;
                    }
                }
            });
        })?;
        Ok(all)
    }
}

/// Between 0 and 1, neither included: number `i` of a stream.
pub(super) fn unit(stream: u64, i: u64) -> f32 {
    let bits = mix(stream ^ mix(i.wrapping_add(GAMMA))) >> 41;
    #[expect(clippy::cast_precision_loss, reason = "23 bits and a half are exact in f32")]
    {
        (bits as f32 + 0.5) / (1_u64 << 23) as f32
    }
}
