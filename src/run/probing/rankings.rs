//! Rankings of the neurons of a site: by the weights of its probes, one ranking for each penalty, and by
//! the methods that read its training rows.

use super::measured::{Place, SiteResults, signed};
use super::probes::Which;
use super::tasks::Label;
use crate::artifact::rows::RankingRow;
use crate::id::Site;
use crate::methods::probing::rows::Block;
use crate::methods::probing::salience::{
    class_ranking, exact_order, granular, mean_abs, percent_order, threshold_set,
};
use crate::methods::ranking::GroupRanking;
use crate::run::probing::config::{Order, PenaltyConfig};

/// Steps of NeuroX's order, and neurons of its larger groups.
const STEPS: usize = 100;
const GROUP: usize = 50;
/// Share of a class's largest weight above which a neuron is in the set (NeuroX's `fraction` of 2).
const THRESHOLD: f64 = 0.5;

/// Neurons of a site in order of importance.
#[derive(Clone, Debug)]
pub(super) struct Ranked {
    /// Method with its settings.
    pub(super) method: String,
    /// Which of these vote as one: four linear probes outvote one of another kind.
    pub(super) family: &'static str,
    /// Number of the label.
    pub(super) label: usize,
    /// Class; `*` for the label as a whole.
    pub(super) concept: String,
    /// Best first, with scores.
    pub(super) ranking: GroupRanking,
    /// Scores are sizes, and not places of an order.
    pub(super) mass: bool,
    /// The penalty that did best on dev, or no probe at all: what is put to the test.
    pub(super) judged: bool,
}

/// Name of the ranking that a penalty gives, as the literature has it.
fn method_name(penalty: PenaltyConfig) -> String {
    match (penalty.l1 > 0.0, penalty.l2 > 0.0) {
        (false, false) => "noreg".to_owned(),
        (true, false) => format!("lasso:l1={}", penalty.l1),
        (false, true) => format!("ridge:l2={}", penalty.l2),
        (true, true) => format!("lca:l1={},l2={}", penalty.l1, penalty.l2),
    }
}

/// The rankings of a site's probes: each class by the mean over seeds of |w|, and all classes together
/// in the order in which neurons enter as more of each class's mass is asked for (Dalvi et al. 2019).
pub(super) fn of_probes(site: &SiteResults<'_>) -> Vec<Ranked> {
    let mut list = Vec::new();
    for (number, label) in site.tasks.labels.iter().enumerate() {
        for (at, penalty) in site.config.penalties.iter().enumerate() {
            let seeds = 0..site.config.probes.seeds.len();
            let all: Vec<&[f32]> = seeds
                .filter_map(|seed| {
                    let which = Which { label: number, control: false, penalty: at, seed };
                    Some(&site.get(which)?.weights.weights[..])
                })
                .collect();
            let weights = mean_weights(&all, site.place.width);
            let named = |method: String, concept: &str, ranking| Ranked {
                method,
                family: "linear",
                label: number,
                concept: concept.to_owned(),
                ranking,
                // A score of the joint order says when a neuron enters.
                mass: concept != "*",
                judged: site.chosen[number] == at,
            };
            let one = |concept: &str, ranking| named(method_name(*penalty), concept, ranking);
            for order in &site.config.probes.orders {
                let method = in_order(method_name(*penalty), *order);
                list.push(named(method, "*", joint(&weights, *order)));
            }
            if weights.len() > 1 {
                for (class, row) in label.classes.iter().zip(weights.rows()) {
                    list.push(one(class, class_ranking(row)));
                }
            }
        }
    }
    list
}

/// All classes together.
fn joint(weights: &Block, order: Order) -> GroupRanking {
    match order {
        Order::Mass => exact_order(weights),
        Order::Percent => percent_order(weights, STEPS).ranking(),
        Order::Granular => granular(&percent_order(weights, STEPS), GROUP).ranking(),
        Order::MeanAbs => mean_abs(weights),
        Order::Threshold => threshold_set(weights, THRESHOLD),
    }
}

/// `lca:l1=0.1,l2=0.1,order=percent`; the exact order has no name.
fn in_order(method: String, order: Order) -> String {
    match order {
        Order::Mass => method,
        _ => with_setting(&method, &format!("order={}", order.name())),
    }
}

/// Mean over seeds: the sign is that of the mean weight, the size the mean size, so that seeds that
/// disagree do not cancel.
fn mean_weights(seeds: &[&[f32]], width: usize) -> Block {
    let columns = seeds.first().map_or(0, |one| one.len());
    let count = seeds.len().max(1) as f64;
    let mean = |at: usize| {
        let size: f64 = seeds.iter().map(|one| f64::from(one[at]).abs()).sum();
        let sum: f64 = seeds.iter().map(|one| f64::from(one[at])).sum();
        size.copysign(sum) / count
    };
    Block::new((0..columns).map(mean).collect(), width)
}

/// Each seed's own order, all classes together, of the chosen penalty: how far they agree is how far
/// the ranking can be trusted.
pub(super) fn by_seed(site: &SiteResults<'_>, label: usize) -> Vec<Vec<u32>> {
    let orders = site.chosen_of(label, false).map(|(_, trained)| {
        exact_order(&Block::from_f32(&trained.weights.weights, site.place.width)).order
    });
    orders.collect()
}

/// The neurons of a place: which site, and which column of it.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// Site and first column of each, in order.
    sites: Vec<(Site, u32)>,
}

impl Columns {
    /// Of one site, or of several side by side.
    pub(super) fn new(sites: &[(Site, usize)]) -> Self {
        let mut first = 0;
        let mut own = Vec::new();
        for (site, width) in sites {
            own.push((*site, first));
            first += u32::try_from(*width).expect("columns are counted in u32");
        }
        Self { sites: own }
    }

    /// Site and column of a neuron.
    pub(super) fn neuron(&self, column: u32) -> (Site, u32) {
        let at = self.sites.partition_point(|(_, first)| *first <= column) - 1;
        let (site, first) = self.sites[at];
        (site, column - first)
    }
}

/// Rows of `rankings.parquet`, of which `keep` are kept (0: all). The method says of which site the
/// probes are, for each site has rankings of its own.
pub(super) fn rows<'a>(
    (place, columns): (&'a Place, &'a Columns),
    labels: &'a [Label],
    (list, rows_of): (&'a [Ranked], impl Fn(usize) -> u64 + Copy + 'a),
    keep: usize,
) -> impl Iterator<Item = RankingRow> + 'a {
    list.iter().flat_map(move |ranked| {
        let ranking = &ranked.ranking;
        let length = ranking.selected.as_ref().map_or(ranking.order.len(), Vec::len);
        let kept = if keep == 0 { length } else { keep.min(length) };
        (0..kept).map(move |at| {
            let (site, neuron) = columns.neuron(ranking.order[at]);
            RankingRow {
                method: in_place(&ranked.method, place),
                label: labels[ranked.label].title(),
                concept: ranked.concept.clone(),
                site: site.to_string(),
                layer: site.layer.map(|layer| i32::try_from(layer).expect("layers are few")),
                neuron: i32::try_from(neuron).expect("columns are few"),
                rank: i32::try_from(at + 1).expect("neurons are few"),
                score: ranking.scores[at],
                sign: ranking.signs[at],
                n: signed(rows_of(ranked.label)),
                n_concept: signed(if ranked.concept == "*" {
                    rows_of(ranked.label)
                } else {
                    ranking.n
                }),
                p_value: ranking.p.get(at).copied(),
                q_value: ranking.q.get(at).copied(),
            }
        })
    })
}

/// `lca:l1=0.1,site=layers.3.resid_post`: which probes, and where.
fn in_place(method: &str, place: &Place) -> String {
    if place.is_all() {
        return method.to_owned();
    }
    with_setting(method, &format!("site={}", place.name))
}

fn with_setting(method: &str, setting: &str) -> String {
    let joint = if method.contains(':') { ',' } else { ':' };
    format!("{method}{joint}{setting}")
}
