//! Two sites over the same rows: how alike they are, and each neuron's partner on the other side.

use super::config::Pairs;
use super::known::Known;
use super::side::Side;
use crate::artifact::similarity::SimilarityRow;
use crate::error::Result;
use crate::id::Site;
use crate::methods::algebra::Dense;
use crate::methods::similarity::moments::cross_correlations;
use crate::methods::similarity::{
    Canonical, Partner, best_partners, canonical, debiased_cka, explained, linear_cka,
};

/// What one side has of the other.
pub(super) struct Seen {
    /// The best partner of each neuron.
    pub(super) partners: Vec<Partner>,
    /// R^2 of each neuron; none within a model, or with no more rows than directions.
    pub(super) explained: Option<Vec<f64>>,
    pwcca: Option<f64>,
}

/// Two sites by their places in the list of all.
pub(super) struct Pair {
    /// The first site.
    pub(super) left: usize,
    /// The second site.
    pub(super) right: usize,
    /// Linear CKA.
    pub(super) cka: f64,
    debiased: Option<f64>,
    rbf: Option<f64>,
    svcca: Option<f64>,
    /// What the first has of the second, and the second of the first.
    pub(super) seen: [Seen; 2],
}

impl Pair {
    /// Compares the sites at these places.
    pub(super) fn new(
        (sides, known): (&[Side], &Known),
        (left, right): (usize, usize),
    ) -> Result<Self> {
        let (a, b) = (&sides[left], &sides[right]);
        let cross = known.cross(sides, (left, right));
        let r = cross_correlations(&a.moments, &b.moments, &cross);
        // Centred rows have one direction less than there are of them, and those explain anything.
        let enough = |directions: usize| a.count() > directions as u64 + 1;
        let directions = a.leading.dimensions().max(b.leading.dimensions());
        let found = match enough(directions) {
            true => Some(canonical(&a.leading, &b.leading, &r, a.count())?),
            false => None,
        };
        let back = found.clone().map(|Canonical { correlations, left, right }| Canonical {
            correlations,
            left: right,
            right: left,
        });
        let one =
            |(own, other): (&Side, &Side), r: &Dense, cross: &Dense, found: &Option<_>| Seen {
                partners: best_partners(r),
                explained: (own.model != other.model && enough(other.all.dimensions()))
                    .then(|| explained(&own.moments, &other.all, cross)),
                pwcca: found
                    .as_ref()
                    .map(|found: &Canonical| found.projection_weighted(&own.standard.covariance)),
            };
        let norms = [
            known.norms(sides, (left, right), &cross),
            known.norms(sides, (left, left), &a.moments.covariance),
            known.norms(sides, (right, right), &b.moments.covariance),
        ];
        Ok(Self {
            left,
            right,
            cka: linear_cka(&a.moments.covariance, &b.moments.covariance, &cross),
            debiased: debiased_cka(&a.moments, &b.moments, &cross, norms),
            rbf: known.rbf_cka((left, right)),
            svcca: found.as_ref().map(Canonical::mean),
            seen: [
                one((a, b), &r, &cross, &found),
                one((b, a), &r.transposed(), &cross.transposed(), &back),
            ],
        })
    }

    /// Both ways round: the second row is as the second site sees the first.
    pub(super) fn rows(&self, sides: &[Side], names: &[String]) -> [SimilarityRow; 2] {
        let row = |a: &Side, b: &Side, seen: &Seen| SimilarityRow {
            model_a: names[a.model].clone(),
            site_a: a.site.to_string(),
            layer_a: a.layer(),
            model_b: names[b.model].clone(),
            site_b: b.site.to_string(),
            layer_b: b.layer(),
            n: i64::try_from(a.count()).expect("rows are below 2^63"),
            cka: self.cka,
            cka_debiased: self.debiased,
            cka_rbf: self.rbf,
            svcca: self.svcca,
            pwcca: seen.pwcca,
            max_corr: mean(seen.partners.iter().map(|partner| partner.r.abs())),
            linreg: seen.explained.as_ref().map(|all| mean(all.iter().map(|r2| r2.sqrt()))),
        };
        let (a, b) = (&sides[self.left], &sides[self.right]);
        [row(a, b, &self.seen[0]), row(b, a, &self.seen[1])]
    }

    /// What the site at this place has of the other, with that one's place.
    pub(super) fn seen_from(&self, place: usize) -> Option<(usize, &Seen)> {
        match place {
            _ if place == self.left => Some((self.right, &self.seen[0])),
            _ if place == self.right => Some((self.left, &self.seen[1])),
            _ => None,
        }
    }
}

/// The mean; 0 of nothing.
pub(super) fn mean(all: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = all.len().max(1) as f64;
    all.sum::<f64>() / count
}

/// The site of the same kind in the next layer of the same model that is there, by place. `places` are model
/// and site of each.
pub(super) fn next_layer(places: &[(usize, Site)], at: usize) -> Option<usize> {
    let (model, Site { kind, layer: Some(layer) }) = places[at] else { return None };
    let after = |place: &(usize, Site)| match *place {
        (own, Site { kind: other, layer: Some(deeper) }) => {
            (own == model && other == kind && deeper > layer).then_some(deeper)
        }
        (_, Site { layer: None, .. }) => None,
    };
    let found = (0..places.len()).filter_map(|place| Some((after(&places[place])?, place)));
    found.min().map(|(_, place)| place)
}

/// The pairs of places that a file asks for, the earlier one first.
pub(super) fn asked_pairs(places: &[(usize, Site)], asked: Pairs) -> Vec<(usize, usize)> {
    let all = (0..places.len()).flat_map(|a| (a + 1..places.len()).map(move |b| (a, b)));
    let same = |&(a, b): &(usize, usize)| match asked {
        Pairs::All => true,
        Pairs::Same if places[a].0 == places[b].0 => {
            next_layer(places, a) == Some(b) || next_layer(places, b) == Some(a)
        }
        Pairs::Same => places[a].1 == places[b].1,
    };
    all.filter(same).collect()
}
