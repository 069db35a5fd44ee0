//! `ccs`: rows that are the two forms of a statement, by a label column that is the same for both.

use std::collections::BTreeMap;

use super::each_class::{labelled, means_and_spreads};
use super::parts::{PartRows, Parts};
use super::tried::{CALIBRATED, CHOSEN, TRIED, Tried};
use crate::error::Result;
use crate::methods::MethodCall;
use crate::methods::probing::Rows;
use crate::methods::probing::calibration::{calibration_error, platt, temperature};
use crate::methods::probing::ccs::{CcsSettings, Pairs};
use crate::methods::probing::draw::Draws;
use crate::methods::probing::massmean::direction_neurons;
use crate::methods::ranking::GroupRanking;
use crate::probe::rows::NONE;
use crate::probe::split::Part;
use crate::probe::tasks::{Labelled, Task};

/// The two forms of a statement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pair {
    /// The first to come, and the other.
    forms: [u32; 2],
    /// Whether the first is of class 1.
    label: bool,
}

impl Pair {
    /// Whether the first form is of class 1.
    pub(super) fn label(self) -> bool {
        self.label
    }
}

/// Rows of a part that come two by two, one of each class, in the order of their first.
pub(super) fn pairs(labelled: &Labelled, ids: &[u32]) -> Vec<Pair> {
    let mut found: BTreeMap<u32, Vec<(u32, bool)>> = BTreeMap::new();
    for (row, target) in labelled.rows.iter().zip(&labelled.targets) {
        if ids[*row as usize] != NONE {
            found.entry(ids[*row as usize]).or_default().push((*row, *target > 0.5));
        }
    }
    let pair = |rows: Vec<(u32, bool)>| match rows[..] {
        [(first, a), (second, b)] if a != b => Some(Pair { forms: [first, second], label: a }),
        _ => None,
    };
    let mut pairs: Vec<Pair> = found.into_values().filter_map(pair).collect();
    pairs.sort_by_key(|pair| pair.forms[0]);
    pairs
}

/// The pairs of each part, at most `most` rows, drawn by a seed.
pub(super) fn sample(task: &Task, ids: &[u32], (most, seed): (usize, u64)) -> [Vec<Pair>; 3] {
    Part::ALL.map(|part| {
        let all = pairs(task.part(part), ids);
        let most = (most / 2).max(1);
        if all.len() <= most {
            return all;
        }
        let mut drawn = Draws::new(seed, 0).shuffled(all.len());
        drawn.truncate(most);
        drawn.sort_unstable();
        drawn.into_iter().map(|at| all[at]).collect()
    })
}

/// The rows of pairs, in the order of the corpus.
pub(super) fn rows_of(pairs: &[Pair]) -> Labelled {
    let row = |pair: &Pair| {
        let of = |form: usize| f32::from(u8::from(pair.label == (form == 0)));
        [(pair.forms[0], of(0)), (pair.forms[1], of(1))]
    };
    let (rows, targets) = pairs.iter().flat_map(row).unzip();
    Labelled { rows, targets }.in_order()
}

/// One form of pairs, row-major.
fn form(rows: &PartRows, pairs: &[Pair], form: usize) -> Vec<f32> {
    let of = |pair: &Pair| {
        let at = rows.numbers.binary_search(&pair.forms[form]).expect("rows of pairs were read");
        rows.row(at).to_vec()
    };
    pairs.iter().flat_map(of).collect()
}

/// Both forms, and their labels.
struct Forms {
    sides: [Vec<f32>; 2],
    labels: Vec<bool>,
    width: usize,
}

impl Forms {
    fn new(rows: &PartRows, pairs: &[Pair], width: usize) -> Self {
        let sides = [0, 1].map(|side| form(rows, pairs, side));
        Self { sides, labels: pairs.iter().map(|pair| pair.label).collect(), width }
    }

    fn pairs(&self) -> Pairs<'_> {
        let [yes, no] = &self.sides;
        Pairs { yes: Rows::new(yes, self.width), no: Rows::new(no, self.width) }
    }
}

/// Searches a direction and says which neurons it reads.
pub(super) fn ccs(
    call: &MethodCall,
    parts: &Parts,
    sampled: &[Vec<Pair>; 3],
) -> Result<(GroupRanking, Vec<Tried>)> {
    let forms = |part: Part| Forms::new(parts.of(part), &sampled[part as usize], parts.width);
    let settings = CcsSettings {
        rate: call.number("rate"),
        decay: call.number("decay"),
        epochs: call.whole("epochs"),
        restarts: call.whole("restarts"),
        bias: call.flag("bias"),
        seed: call.whole("seed") as u64,
    };
    let train = forms(Part::Train);
    let mut probe = settings.fit(train.pairs())?;
    let dev = forms(Part::Dev);
    probe.orient(dev.pairs(), &dev.labels);
    let scores = probe.scores(dev.pairs());
    let calibration = match call.text("calibrate").as_str() {
        "temperature" => Some(temperature(&scores, &dev.labels)?),
        "platt" => Some(platt(&scores, &dev.labels)?),
        _ => None,
    };
    let tried = TRIED.map(|part| {
        let own = forms(part);
        let scale = |score: f64| calibration.map_or(score, |own| own.apply(score));
        let answers: Vec<f64> = probe.scores(own.pairs()).into_iter().map(scale).collect();
        let above: Vec<f64> = answers.iter().map(|p| p - 0.5).collect();
        let mut tried = Tried::of_scores((part, &[], parts.width), &above, &own.labels);
        tried.ece = Some(calibration_error(&answers, &own.labels));
        tried.either_way = Some(tried.accuracy.max(1.0 - tried.accuracy));
        tried.flags.push(CHOSEN);
        tried.flags.extend(calibration.map(|_| CALIBRATED));
        tried
    });
    let both = train.sides.concat();
    let first: Vec<bool> =
        (0..2 * train.labels.len()).map(|row| row < train.labels.len()).collect();
    let (_, spreads) = means_and_spreads(labelled(&both, parts.width, &first))?;
    Ok((direction_neurons(&probe.weights, &spreads), tried.into()))
}
