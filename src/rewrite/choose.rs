//! Which neurons of a ranking are meant: so many, from which end, of each layer or of all.

use std::collections::BTreeMap;

use super::neurons::Neurons;
use crate::artifact::ranked::RankedRow;
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};

/// How many neurons.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// A number.
    Count(usize),
    /// A share, above 0 and below 1; rounded down.
    Share(f64),
}

/// What is asked of a ranking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// How many: of each layer, or of the model.
    pub amount: Amount,
    /// The highest scores, not the lowest.
    pub highest: bool,
    /// As many in each layer.
    pub per_layer: bool,
}

/// The ranking of a table that is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The method; may be left out where the table has one.
    pub method: Option<String>,
    /// The label column.
    pub label: Option<String>,
    /// The concept.
    pub concept: Option<String>,
}

/// The scores of neurons by (layer, neuron).
pub type Scores = BTreeMap<(usize, usize), f64>;

impl Amount {
    /// `50`, `0.1` or `10%`.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let share = |number: &str, unit: f64| match number.parse::<f64>() {
            Ok(share) if share > 0.0 && share < unit => Ok(Self::Share(share / unit)),
            _ => Err(format!("'{text}' is no share: above 0 and below 1, or below 100%")),
        };
        if let Some(percent) = text.strip_suffix('%') {
            return share(percent, 100.0);
        }
        match text.parse::<usize>() {
            Ok(0) => Err("0 neurons are none".to_owned()),
            Ok(count) => Ok(Self::Count(count)),
            Err(_) => share(text, 1.0),
        }
    }

    fn of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => count,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a share of a number of neurons is no larger than that"
            )]
            // What is meant by 0.3 of 10 is 3, whatever binary fractions make of it.
            Self::Share(share) => (share * all as f64 + 1e-9) as usize,
        }
    }
}

/// The MLP neurons of one ranking of a table, with their scores. `place` names the table.
pub fn scores(place: &str, rows: Vec<RankedRow>, wanted: &Wanted) -> Result<Scores> {
    let meant =
        |asked: &Option<String>, found: &str| asked.as_deref().is_none_or(|asked| asked == found);
    let mut rankings: BTreeMap<(String, String, String), Scores> = BTreeMap::new();
    for row in rows {
        let ranking = (row.method, row.label, row.concept);
        let scores = rankings.entry(ranking).or_default();
        let site: Site = row.site.parse()?;
        let (Some(layer), Ok(neuron)) = (site.layer, usize::try_from(row.neuron)) else { continue };
        match site.kind {
            SiteKind::MlpAct => {
                scores.insert((layer as usize, neuron), row.score);
            }
            // Where a table has both, what the down projection reads counts.
            SiteKind::MlpGate => {
                scores.entry((layer as usize, neuron)).or_insert(row.score);
            }
            _ => {}
        }
    }
    let all: Vec<String> = rankings.keys().map(name).collect();
    rankings.retain(|(method, label, concept), _| {
        meant(&wanted.method, method)
            && meant(&wanted.label, label)
            && meant(&wanted.concept, concept)
    });
    // Without a word about the concept, the ranking for all of them.
    if rankings.len() > 1 && wanted.concept.is_none() {
        rankings.retain(|(_, _, concept), _| concept == "*");
    }
    let listed = |names: &[String]| {
        let more = if names.len() > 12 { ", …" } else { "" };
        format!("{}{more}", names[..names.len().min(12)].join(", "))
    };
    match rankings.len() {
        1 => {
            let ((method, ..), scores) = rankings.pop_first().expect("there is one");
            if scores.is_empty() {
                let what = format!("'{method}' ranks no neuron of a site layers.*.mlp_act");
                return Err(Error::config(place, what, "rank layers.*.mlp_act"));
            }
            Ok(scores)
        }
        0 => {
            let what = "no such ranking in the table";
            Err(Error::config(place, what, format!("it has {}", listed(&all))))
        }
        _ => {
            let names: Vec<String> = rankings.keys().map(name).collect();
            let remedy = format!("name one with --method, --label, --concept: {}", listed(&names));
            Err(Error::config(place, "several rankings fit", remedy))
        }
    }
}

fn name((method, label, concept): &(String, String, String)) -> String {
    format!("{method} [{label}={concept}]")
}

/// The neurons that a choice means, of a model of `layers` layers of `width` neurons. One neuron of
/// each layer is never chosen: the one at the other end of the ranking.
pub fn choose(
    scores: &Scores,
    (layers, width): (usize, usize),
    choice: &Choice,
) -> Result<Neurons> {
    let place = "--remove";
    let by_layer = |layer| scores.range((layer, 0)..(layer + 1, 0)).count();
    if let Some(layer) = (0..layers).find(|&layer| by_layer(layer) < width)
        && !choice.highest
    {
        let what = format!(
            "the table ranks {} of the {width} neurons of layer {layer}: the lowest are not in it",
            by_layer(layer)
        );
        let remedy = "use a table of all neurons, or --highest";
        return Err(Error::config("--ranking", what, remedy));
    }
    let mut order: Vec<(&(usize, usize), &f64)> = scores.iter().collect();
    // The order of rankings: best first, ties by layer and neuron. The lowest are its end.
    order.sort_by(|a, b| b.1.total_cmp(a.1).then(a.0.cmp(b.0)));
    if !choice.highest {
        order.reverse();
    }
    let (all, room) = match choice.per_layer {
        true => (width, width - 1),
        false => (layers * width, layers * (width - 1)),
    };
    let count = choice.amount.of(all);
    if count == 0 || count > room {
        let what = format!("{count} of {all} neurons");
        let remedy = format!("from 1 to {room}: one neuron of each layer is kept");
        return Err(Error::config(place, what, remedy));
    }
    let mut chosen = Neurons::new();
    let mut left = if choice.per_layer { count * layers } else { count };
    for (&(layer, neuron), _) in order {
        let set = chosen.entry(layer).or_default();
        let full = set.len() == if choice.per_layer { count } else { width - 1 };
        if left > 0 && !full {
            set.insert(neuron);
            left -= 1;
        }
    }
    if left > 0 {
        let what = format!("the table ranks {left} neurons too few");
        return Err(Error::config(place, what, "remove fewer, or rank more neurons"));
    }
    chosen.retain(|_, set| !set.is_empty());
    Ok(chosen)
}
