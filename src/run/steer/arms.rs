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
    /// x is clamped to its mean over all rows ± s sd: what is inside stays (purification, Yi et al. 2024).
    Clamp,
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
            Self::Clamp => "clamp",
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
        if self == Self::Clamp && strengths.iter().any(|&s| s < 0.0) {
            return wrong(
                "a clamp reaches some deviations to either side",
                "leave out what is below 0",
            );
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

    /// The number written for a target into a neuron with these moments; of a clamp, how far it reaches.
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
            Act::Add | Act::Clamp => strength * moments.sd,
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
        let edit = |(site, (columns, values)): (Site, (Vec<u32>, Vec<f32>))| {
            let write = match self.act {
                Act::Set(_) => Write::Set(values),
                #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
                Act::Scale => Write::Scale(strength as f32),
                Act::Add | Act::Translate(_) => Write::Add(values),
                Act::Clamp => self.clamp(site, (&columns, &values)),
            };
            (site, vec![Edit { columns: Some(columns), tokens: None, write }])
        };
        by_site.into_iter().map(edit).collect()
    }
}

impl Maker<'_> {
    /// So far around the means of these columns.
    fn clamp(&self, site: Site, (columns, reach): (&[u32], &[f32])) -> Write {
        let bounds = columns.iter().zip(reach).map(|(&index, reach)| {
            let mean = self.experts.moments[&NeuronId { site, index }].mean;
            #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
            let [low, high] = [-reach, *reach].map(|by| (mean + f64::from(by)) as f32);
            (low, high)
        });
        let (low, high) = bounds.unzip();
        Write::Clamp { low, high }
    }
}

/// Geometrically from `first` at rank 0 to [`LEAST`] at the last of `count`.
fn spaced(first: f64, rank: usize, count: usize) -> f64 {
    let last = count.saturating_sub(1).max(1);
    first * (LEAST / first).powf(rank as f64 / last as f64)
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand, over neurons of known moments.
    use super::*;
    use crate::id::SiteKind;

    fn neuron(layer: u32, index: u32) -> NeuronId {
        NeuronId { site: Site::of_layer(layer, SiteKind::MlpAct), index }
    }

    /// Ten neurons in each of two layers: neuron n has mean n and deviation n + 1. The experts are
    /// two of layer 0 and one of layer 1.
    fn experts() -> Experts {
        let all = (0..2).flat_map(|layer| (0..10).map(move |index| neuron(layer, index)));
        let moments = |id: NeuronId| Moments { mean: id.index.into(), sd: (id.index + 1).into() };
        Experts {
            method: "ap".into(),
            top: vec![neuron(0, 4), neuron(1, 0), neuron(0, 1)],
            moments: all.map(|id| (id, moments(id))).collect(),
            watched: 20,
        }
    }

    fn maker(act: Act, experts: &Experts) -> Maker<'_> {
        let target = |&neuron: &NeuronId| Target {
            neuron,
            moments: experts.moments[&neuron],
            number: f64::from(neuron.index) + 10.0,
        };
        Maker { act, experts, targets: experts.top.iter().map(target).collect() }
    }

    fn columns_and_write(edits: &Edits, layer: u32) -> (Vec<u32>, Write) {
        let edits = &edits[&Site::of_layer(layer, SiteKind::MlpAct)];
        assert!(edits.len() == 1 && edits[0].tokens.is_none());
        (edits[0].columns.clone().expect("columns"), edits[0].write.clone())
    }

    #[test]
    fn experts_become_what_the_act_says() {
        let experts = experts();
        let (constant, log) = (Act::Translate(Spacing::Constant), Act::Translate(Spacing::Log));
        for (act, strength, want) in [
            (Act::Set(Value::Mean), 2.0, Write::Set(vec![28.0, 22.0])),
            (Act::Set(Value::Number(3.0)), 0.0, Write::Set(vec![0.0, 0.0])),
            (Act::Scale, -1.5, Write::Scale(-1.5)),
            (Act::Add, 3.0, Write::Add(vec![15.0, 6.0])),
            (Act::Clamp, 2.0, Write::Clamp { low: vec![-6.0, -3.0], high: vec![14.0, 5.0] }),
            (constant, 0.5, Write::Add(vec![7.0, 5.5])),
        ] {
            let edits = maker(act, &experts).top(strength);
            assert_eq!(columns_and_write(&edits, 0), (vec![4, 1], want), "{act:?}");
        }
        // From 8 at the first of 20 to 0.001 at the last; the third is two of 19 steps down.
        let Write::Add(values) = columns_and_write(&maker(log, &experts).top(8.0), 0).1 else {
            panic!("a translation adds")
        };
        let third = 8.0 * (0.001_f64 / 8.0).powf(2.0 / 19.0) * 11.0;
        assert!((f64::from(values[0]) - 8.0 * 14.0).abs() <= 1e-4, "{values:?}");
        assert!((f64::from(values[1]) - third).abs() <= 1e-4, "{values:?}, not {third}");
        assert!((spaced(8.0, 19, 20) - LEAST).abs() <= 1e-12);
    }

    #[test]
    fn random_neurons_move_by_as_many_deviations() {
        let experts = experts();
        for (act, z) in [
            (Act::Set(Value::Mean), [10.0 / 5.0, 10.0 / 2.0]),
            (Act::Translate(Spacing::Constant), [14.0 / 5.0, 11.0 / 2.0]),
            (Act::Add, [1.0, 1.0]),
        ] {
            let maker = maker(act, &experts);
            let edits = maker.random((1, 0), 1.0).expect("there are enough");
            let (columns, write) = columns_and_write(&edits, 0);
            assert_eq!(columns_and_write(&edits, 1).0.len(), 1, "as many in each layer");
            assert!(columns.len() == 2 && columns[0] != columns[1]);
            assert!(!columns.iter().any(|column| [4, 1].contains(column)), "{columns:?}");
            let (Write::Set(values) | Write::Add(values)) = write else { panic!("{write:?}") };
            for ((column, value), z) in columns.iter().zip(values).zip(z) {
                let sd = f64::from(column + 1);
                let mean = if act == Act::Set(Value::Mean) { f64::from(*column) } else { 0.0 };
                assert!((f64::from(value) - (mean + z * sd)).abs() <= 1e-5, "{act:?}: {value}");
            }
        }
    }

    #[test]
    fn draws_differ_and_run_out() {
        let mut experts = experts();
        let draws: BTreeSet<Vec<NeuronId>> = {
            let maker = maker(Act::Scale, &experts);
            (0..6).map(|state| maker.draw(state).expect("there are enough")).collect()
        };
        assert!(draws.len() > 4, "{draws:?}");
        let experts = {
            experts
                .moments
                .retain(|id, _| id.site.layer == Some(1) || [1, 4, 5].contains(&id.index));
            experts
        };
        let error = maker(Act::Scale, &experts).random((1, 0), 1.0).expect_err("one is left");
        assert!(error.to_string().contains("fewer random neurons"), "{error}");
    }
}
