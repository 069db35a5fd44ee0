//! What steering writes: the experts of a ranking at some strength, and random neurons in their
//! place.

use std::collections::{BTreeMap, BTreeSet};

use super::experts::{ByClass, Experts, Moments};
use crate::capture::plan::Edits;
use crate::device::edit::{Edit, Write};
use crate::error::{Error, Result};
use crate::hash::{GAMMA, mix};
use crate::id::{NeuronId, Site};

/// Least factor of spaced translations.
const LEAST: f64 = 0.001;

/// What is done to a neuron x at strength s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// x = s v: with v its median in the class, self-conditioned generation (Suau et al., ICML 2022).
    Set(Value),
    /// x = s x.
    Scale,
    /// x = x + s sd, sd being its standard deviation over all rows.
    Add,
    /// x = x + a (mean in the class - mean in the others); a is s, or spaced over the ranking.
    Translate(Spacing),
}

/// The value v of [`Act::Set`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A quantile of the neuron in the class, as a share.
    Quantile(f64),
    /// Its mean there.
    Mean,
    /// A number, the same for all.
    Number(f64),
}

/// The factor of [`Act::Translate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// The strength.
    Constant,
    /// From the strength at the first of all ranked neurons down to 0.001 at the last, geometrically
    /// (Antverg and Belinkov, ICLR 2022).
    Log,
}

impl Act {
    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Set(_) => "set",
            Self::Scale => "scale",
            Self::Add => "add",
            Self::Translate(_) => "translate",
        }
    }

    /// Whether it needs the distribution of neurons by class.
    pub(super) fn needs_classes(self) -> bool {
        matches!(self, Self::Set(Value::Quantile(_) | Value::Mean) | Self::Translate(_))
    }

    /// Refuses strengths that mean nothing.
    pub(super) fn check(self, strengths: &[f64]) -> Result<()> {
        let wrong = |what: &str, remedy: &str| Err(Error::config("strengths", what, remedy));
        if strengths.is_empty() || strengths.iter().any(|s| !s.is_finite()) {
            return wrong("a strength is no number, or there is none", "write --strengths 1,2,4");
        }
        if self == Self::Translate(Spacing::Log) && strengths.iter().any(|&s| s <= 0.0) {
            return wrong("a spaced translation begins above 0", "leave 0 and less out");
        }
        Ok(())
    }
}

/// What one expert becomes at strength 1, in words of its own scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) neuron: NeuronId,
    moments: Moments,
    /// Value of `set`, shift of `translate`, both before the strength.
    pub(super) number: f64,
}

/// Makes arms.
pub(super) struct Maker<'a> {
    pub(super) act: Act,
    pub(super) experts: &'a Experts,
    pub(super) targets: Vec<Target>,
}

impl<'a> Maker<'a> {
    pub(super) fn new(act: Act, experts: &'a Experts, classes: Option<&[ByClass]>) -> Result<Self> {
        let target = |(at, &neuron): (usize, &NeuronId)| {
            let moments = experts.moments[&neuron];
            let number = match (act, classes.map(|classes| &classes[at])) {
                (Act::Set(Value::Quantile(share)), Some(class)) => class.quantile(share),
                (Act::Set(Value::Mean), Some(class)) => class.mean(0),
                (Act::Set(Value::Number(number)), _) => Some(number),
                (Act::Translate(_), Some(class)) => {
                    class.mean(0).zip(class.mean(1)).map(|(target, rest)| target - rest)
                }
                _ => Some(0.0),
            };
            let missing = || {
                let what = format!("no row outside the class for {}", neuron.site);
                Error::config("act", what, "choose a label column with another class")
            };
            Ok(Target { neuron, moments, number: number.ok_or_else(missing)? })
        };
        let targets = experts.top.iter().enumerate().map(target).collect::<Result<_>>()?;
        Ok(Self { act, experts, targets })
    }

    /// The experts at a strength.
    pub(super) fn top(&self, strength: f64) -> Edits {
        let each = (0..).zip(&self.targets).map(|(rank, target)| {
            (target.neuron, self.written((rank, target), (target.moments, strength)))
        });
        self.edits(each, strength)
    }

    /// In the place of each expert a random neuron of its site, moved by as many of its own standard
    /// deviations as the expert is of its.
    pub(super) fn random(&self, (seed, draw): (u64, u32), strength: f64) -> Result<Edits> {
        let chosen = self.draw(mix(seed.wrapping_add(GAMMA)) ^ u64::from(draw))?;
        let each = (0..).zip(&self.targets).zip(chosen).map(|((rank, target), neuron)| {
            let moments = self.experts.moments[&neuron];
            (neuron, self.written((rank, target), (moments, strength)))
        });
        Ok(self.edits(each, strength))
    }

    /// A neuron for each expert, of the same site, no expert itself and none twice.
    pub(super) fn draw(&self, state: u64) -> Result<Vec<NeuronId>> {
        let experts: BTreeSet<NeuronId> = self.experts.top.iter().copied().collect();
        let mut others: BTreeMap<Site, Vec<(u64, NeuronId)>> = BTreeMap::new();
        for &id in self.experts.moments.keys().filter(|id| !experts.contains(id)) {
            let layer = u64::from(id.site.layer.unwrap_or(u32::MAX));
            let place = layer << 40 | (id.site.kind as u64) << 32 | u64::from(id.index);
            let key = mix(mix(state.wrapping_add(GAMMA)) ^ place);
            others.entry(id.site).or_default().push((key, id));
        }
        others.values_mut().for_each(|list| list.sort_unstable_by(|a, b| b.cmp(a)));
        let next = |target: &Target| {
            let site = target.neuron.site;
            let drawn = others.get_mut(&site).and_then(Vec::pop);
            drawn.map(|(_, id)| id).ok_or_else(|| {
                let what = format!("{site} has fewer random neurons than experts");
                Error::config("random", what, "steer fewer by --top, or set --random 0")
            })
        };
        self.targets.iter().map(next).collect()
    }

    /// The number written for a target into a neuron with these moments.
    fn written(
        &self,
        (rank, target): (usize, &Target),
        (moments, strength): (Moments, f64),
    ) -> f64 {
        let own = target.moments;
        let ratio = if own.sd > 0.0 { moments.sd / own.sd } else { 0.0 };
        match self.act {
            Act::Set(Value::Number(number)) => strength * number,
            Act::Set(_) => strength * (moments.mean + ratio * (target.number - own.mean)),
            Act::Scale => strength,
            Act::Add => strength * moments.sd,
            Act::Translate(spacing) => {
                let factor = match spacing {
                    Spacing::Constant => strength,
                    Spacing::Log => spaced(strength, rank, self.experts.watched),
                };
                factor * ratio * target.number
            }
        }
    }

    fn edits(&self, each: impl Iterator<Item = (NeuronId, f64)>, strength: f64) -> Edits {
        let mut by_site: BTreeMap<Site, (Vec<u32>, Vec<f32>)> = BTreeMap::new();
        for (neuron, number) in each {
            let (columns, values) = by_site.entry(neuron.site).or_default();
            columns.push(neuron.index);
            #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
            values.push(number as f32);
        }
        let edit = |(site, (columns, values))| {
            let write = match self.act {
                Act::Set(_) => Write::Set(values),
                #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
                Act::Scale => Write::Scale(strength as f32),
                Act::Add | Act::Translate(_) => Write::Add(values),
            };
            (site, vec![Edit { columns: Some(columns), tokens: None, write }])
        };
        by_site.into_iter().map(edit).collect()
    }
}

/// Geometrically from `first` at rank 0 to [`LEAST`] at the last of `count`.
fn spaced(first: f64, rank: usize, count: usize) -> f64 {
    let last = count.saturating_sub(1).max(1);
    first * (LEAST / first).powf(rank as f64 / last as f64)
}
