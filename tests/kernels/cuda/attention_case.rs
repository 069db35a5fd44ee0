//! What the tests of attention and of its gradient share: their cases, the probabilities by the
//! definition in f64, and the bound.

use electrode::device::cuda::Element;
use electrode::device::ops::{AttentionArgs, ScoreBias};

use super::rows::random;

/// A sequence of one token, of two, around a tile of keys and of queries, and of several tiles.
pub(super) const LENGTHS: [usize; 7] = [1, 2, 63, 64, 65, 130, 200];
/// Half a unit in the last place of bf16, relative.
pub(super) const HALF_UNIT: f64 = 1.0 / 256.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bias {
    None,
    Slopes,
    Distance,
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) lengths: Vec<usize>,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) width: usize,
    pub(super) scale: f32,
    pub(super) softcap: Option<f32>,
    pub(super) causal: bool,
    pub(super) window: Option<usize>,
    pub(super) bias: Bias,
}

/// Causal, all else off.
pub(super) fn plain(lengths: &[usize], (heads, kv_heads, width): (usize, usize, usize)) -> Case {
    Case {
        lengths: lengths.to_vec(),
        heads,
        kv_heads,
        width,
        scale: 1.0 / (width as f32).sqrt(),
        softcap: None,
        causal: true,
        window: None,
        bias: Bias::None,
    }
}

impl Case {
    pub(super) fn starts(&self) -> Vec<u32> {
        let mut end = 0;
        let ends = self.lengths.iter().map(|length| {
            end += *length as u32;
            end
        });
        std::iter::once(0).chain(ends.collect::<Vec<_>>()).collect()
    }

    pub(super) fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    pub(super) fn cols(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.width
    }

    pub(super) fn cells(&self) -> usize {
        self.lengths.iter().map(|length| self.heads * length * length).sum()
    }

    pub(super) fn reach(&self) -> usize {
        self.lengths.iter().max().map_or(0, |length| length - 1)
    }

    /// The vector behind the bias.
    pub(super) fn bias_values(&self) -> Vec<f32> {
        match self.bias {
            Bias::None => vec![0.0],
            Bias::Slopes => (0..self.heads).map(|h| 0.5_f32.powi(h as i32 + 1)).collect(),
            Bias::Distance => random(5, self.heads * (2 * self.reach() + 1), Element::F32),
        }
    }

    pub(super) fn sees(&self, query: usize, key: usize) -> bool {
        (!self.causal || key <= query) && self.window.is_none_or(|window| key + window > query)
    }

    /// What the operation is told.
    pub(super) fn args<'a, V>(&self, starts: &'a [u32], bias: &'a V) -> AttentionArgs<'a, V> {
        AttentionArgs {
            starts,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_width: self.width,
            scale: self.scale,
            softcap: self.softcap,
            causal: self.causal,
            window: self.window,
            bias: match self.bias {
                Bias::None => ScoreBias::None,
                Bias::Slopes => ScoreBias::Slopes(bias),
                Bias::Distance => ScoreBias::Distance { table: bias, reach: self.reach() },
            },
        }
    }

    /// The columns of one head of one token of `qkv`; heads count through queries, keys and values.
    pub(super) fn row<'a>(
        &self,
        qkv: &'a [f32],
        (token, head): (usize, usize),
    ) -> impl Iterator<Item = f64> + Clone + use<'a> {
        let at = token * self.cols() + head * self.width;
        qkv[at..at + self.width].iter().map(|x| f64::from(*x))
    }

    /// The definition: for each key of a sequence of `n` tokens from `start` on, its probability, and
    /// the derivative of its score by the scaled product; `round` is what becomes of every
    /// intermediate result.
    pub(super) fn probabilities(
        &self,
        qkv: &[f32],
        (start, n): (usize, usize),
        (head, query): (usize, usize),
        round: fn(f64) -> f64,
    ) -> Vec<(f64, f64)> {
        let (kv, bias) = (head * self.kv_heads / self.heads, self.bias_values());
        let mut scores = vec![(f64::NEG_INFINITY, 1.0); n];
        for key in (0..n).filter(|key| self.sees(query, *key)) {
            let key_row = self.row(qkv, (start + key, self.heads + kv));
            let terms = self.row(qkv, (start + query, head)).zip(key_row);
            let dot = terms.fold(0.0, |sum, (q, k)| round(sum + round(q * k)));
            let (mut score, mut slope) = (round(dot * f64::from(self.scale)), 1.0);
            if let Some(cap) = self.softcap.map(f64::from) {
                let t = round(round(score / cap).tanh());
                (score, slope) = (round(cap * t), round(1.0 - round(t * t)));
            }
            score += match self.bias {
                Bias::None => 0.0,
                Bias::Slopes => round(f64::from(bias[head]) * key as f64),
                Bias::Distance => {
                    let reach = self.reach();
                    f64::from(bias[head * (2 * reach + 1) + key + reach - query])
                }
            };
            scores[key] = (round(score), slope);
        }
        let largest = scores.iter().fold(f64::NEG_INFINITY, |most, (score, _)| most.max(*score));
        for (score, _) in &mut scores {
            *score = round(round(*score - largest).exp());
        }
        let total = scores.iter().fold(0.0, |sum, (weight, _)| round(sum + weight));
        scores.into_iter().map(|(weight, slope)| (round(weight / total), slope)).collect()
    }
}

/// Twice the largest error of f32, or of four roundings.
pub(super) fn bound(single: &[f64], exact: &[f64]) -> f64 {
    let errors = single.iter().zip(exact).map(|(single, exact)| (single - exact).abs());
    let largest = exact.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    2.0 * errors.fold(4.0 * f64::from(f32::EPSILON) * largest, f64::max)
}
