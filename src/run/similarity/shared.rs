//! `xmodel-max`, `xmodel-min` and `xmodel-linreg`: what of a model's neurons the other models have,
//! read off the pairs of sites.

use super::pair::{Pair, mean};
use super::side::{Side, signed};
use crate::artifact::rows::RankingRow;
use crate::artifact::similarity::{PartnerRow, SharedRow};
use crate::methods::ranking::{GroupRanking, Score};
use crate::methods::similarity::{Across, Partner, across};

/// One model among the others.
pub(super) struct Shared<'a> {
    /// Names of all models.
    pub(super) names: &'a [String],
    /// Sites of all models.
    pub(super) sides: &'a [Side],
    /// Which model.
    pub(super) model: usize,
    /// Its sites, by place.
    own: Vec<usize>,
    others: Vec<Other>,
}

/// A model's neurons, site after site, as another model has them.
struct Other {
    model: usize,
    /// Place of the partner's site, and the partner.
    partners: Vec<(usize, Partner)>,
    /// The largest R^2 over the other's sites; none where no site could be regressed on.
    explained: Option<Vec<f64>>,
}

impl<'a> Shared<'a> {
    /// Reads the pairs of a model with all others.
    pub(super) fn new(
        names: &'a [String],
        (sides, pairs): (&'a [Side], &[Pair]),
        model: usize,
    ) -> Self {
        let own: Vec<usize> = (0..sides.len()).filter(|&at| sides[at].model == model).collect();
        let others = (0..names.len()).filter(|&other| other != model);
        let others = others.map(|other| Other::new((sides, pairs), &own, other)).collect();
        Self { names, sides, model, own, others }
    }

    /// Rows of `partners.parquet`.
    pub(super) fn partners(&self) -> Vec<PartnerRow> {
        let mut rows = Vec::new();
        for other in &self.others {
            for (at, (place, neuron)) in self.neurons().enumerate() {
                let (theirs, partner) = other.partners[at];
                let side = &self.sides[place];
                rows.push(PartnerRow {
                    model: self.names[self.model].clone(),
                    site: side.site.to_string(),
                    layer: side.layer(),
                    neuron: signed(neuron),
                    other: self.names[other.model].clone(),
                    partner_site: match partner.neuron {
                        Some(_) => self.sides[theirs].site.to_string(),
                        None => String::new(),
                    },
                    partner: partner.neuron.map(|neuron| signed(neuron as usize)),
                    r: partner.r,
                    linreg: other.explained.as_ref().map(|all| all[at].sqrt()),
                });
            }
        }
        rows
    }

    /// Rows of `rankings.parquet`: the concept is the model, whose neurons are ranked together.
    pub(super) fn rankings(&self) -> Vec<RankingRow> {
        let constant: Vec<bool> =
            self.own.iter().flat_map(|&at| self.sides[at].moments.constant()).collect();
        let neurons: Vec<(usize, usize)> = self.neurons().collect();
        let n = self.own.first().map_or(0, |&at| self.sides[at].count());
        let n = i64::try_from(n).expect("rows are below 2^63");
        let mut rows = Vec::new();
        for (method, scores) in self.scores() {
            let scores: Vec<Score> =
                scores.into_iter().map(|score| Score::unsigned(score, None)).collect();
            let ranking = GroupRanking::from_scores(&scores, &constant);
            for (rank, (&neuron, &score)) in ranking.order.iter().zip(&ranking.scores).enumerate() {
                let (place, column) = neurons[neuron as usize];
                rows.push(RankingRow {
                    method: method.to_owned(),
                    label: "model".to_owned(),
                    concept: self.names[self.model].clone(),
                    site: self.sides[place].site.to_string(),
                    layer: self.sides[place].layer(),
                    neuron: signed(column),
                    rank: signed(rank + 1),
                    score,
                    sign: 0,
                    n,
                    n_concept: n,
                    p_value: None,
                    q_value: None,
                });
            }
        }
        rows
    }

    /// Rows of `shared.parquet`.
    pub(super) fn means(&self) -> Vec<SharedRow> {
        let all = self.scores();
        let mut rows = Vec::new();
        let mut first = 0;
        for &place in &self.own {
            let side = &self.sides[place];
            let range = first..first + side.moments.neurons();
            first = range.end;
            let of = |name: &str| {
                let found = all.iter().find(|(method, _)| *method == name)?;
                Some(mean(found.1[range.clone()].iter().copied()))
            };
            let (Some(max), Some(min)) = (of(MAX), of(MIN)) else { continue };
            rows.push(SharedRow {
                model: self.names[self.model].clone(),
                site: side.site.to_string(),
                layer: side.layer(),
                neurons: signed(side.moments.neurons()),
                max,
                min,
                linreg: of(LINREG),
            });
        }
        rows
    }

    /// Place of the site, and column, of each neuron.
    fn neurons(&self) -> impl Iterator<Item = (usize, usize)> {
        let of =
            |&at: &usize| (0..self.sides[at].moments.neurons()).map(move |neuron| (at, neuron));
        self.own.iter().flat_map(of)
    }

    /// The scores of each method; none without another model.
    fn scores(&self) -> Vec<(&'static str, Vec<f64>)> {
        if self.others.is_empty() {
            return Vec::new();
        }
        let best = |other: &Other| other.partners.iter().map(|(_, own)| own.r.abs()).collect();
        let by_model: Vec<Vec<f64>> = self.others.iter().map(best).collect();
        let mut out =
            vec![(MAX, across(&by_model, Across::Any)), (MIN, across(&by_model, Across::All))];
        let root = |other: &Other| -> Option<Vec<f64>> {
            Some(other.explained.as_ref()?.iter().map(|r2| r2.sqrt()).collect())
        };
        if let Some(by_model) = self.others.iter().map(root).collect::<Option<Vec<Vec<f64>>>>() {
            out.push((LINREG, across(&by_model, Across::Any)));
            if by_model.len() > 1 {
                out.push((LINREG_ALL, across(&by_model, Across::All)));
            }
        }
        out
    }
}

const MAX: &str = "xmodel-max";
const MIN: &str = "xmodel-min";
const LINREG: &str = "xmodel-linreg";
const LINREG_ALL: &str = "xmodel-linreg:models=all";

impl Other {
    fn new((sides, pairs): (&[Side], &[Pair]), own: &[usize], model: usize) -> Self {
        let neurons: usize = own.iter().map(|&at| sides[at].moments.neurons()).sum();
        let mut out = Self {
            model,
            partners: vec![(0, Partner::default()); neurons],
            explained: Some(vec![0.0; neurons]),
        };
        let (mut first, mut any) = (0, false);
        for &place in own {
            let seen = pairs.iter().filter_map(|pair| pair.seen_from(place));
            for (theirs, seen) in seen.filter(|(theirs, _)| sides[*theirs].model == model) {
                for (at, partner) in (first..).zip(&seen.partners) {
                    if partner.r.abs() > out.partners[at].1.r.abs() {
                        out.partners[at] = (theirs, *partner);
                    }
                }
                if let (Some(most), Some(found)) = (&mut out.explained, &seen.explained) {
                    any = true;
                    let own = most[first..].iter_mut().zip(found);
                    own.for_each(|(most, r2)| *most = most.max(*r2));
                }
            }
            first += sides[place].moments.neurons();
        }
        out.explained = out.explained.filter(|_| any);
        out
    }
}
