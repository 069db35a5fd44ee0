//! Methods that tell one class from all others: `massmean`, `sparse`, `osp`.

use super::parts::OneClass;
use super::tried::{ALONE, CHOSEN, HEURISTIC, PRUNED, TRIED, Tried, choose, f1, of_places};
use crate::error::Result;
use crate::methods::MethodCall;
use crate::methods::algebra::dense::Dense;
use crate::methods::algebra::eigen::eigen;
use crate::methods::probing::massmean::{
    Direction, direction_neurons, mass_mean, spreads, whitened_mass_mean,
};
use crate::methods::probing::osp::{optimal_support, prune};
use crate::methods::probing::sparse::{
    Heuristic, Labelled, SIZES, mono, nested, probe_supports, rank_neurons, telescope,
};
use crate::methods::probing::{Block, ClassMoments, Rows, class_moments};
use crate::methods::ranking::{GroupRanking, Score};
use crate::probe::split::Part;

/// Columns whose moments are taken together, so that few of their products are.
const COLUMNS: usize = 8;

/// Neurons that are tried alone.
const MONO: usize = 30;

/// A ranking of neurons for one class, and what probes of some of them did.
pub(super) struct ForClass {
    pub(super) ranking: GroupRanking,
    /// Scores are sizes, not places.
    pub(super) mass: bool,
    pub(super) tried: Vec<Tried>,
}

/// The columns that a method looks at: all, or the first by difference of means, in increasing order.
pub(super) fn candidates(data: Labelled<'_>, most: usize) -> Result<Vec<u32>> {
    let width = data.rows.cols();
    if most == 0 || most >= width {
        return Ok((0..).take(width).collect());
    }
    let mut order = rank_neurons(data, Heuristic::MeanDifference)?.order;
    order.truncate(most);
    order.sort_unstable();
    Ok(order)
}

/// Moments of some columns, without the class and with it.
fn moments(data: Labelled<'_>, columns: &[u32]) -> Result<[ClassMoments; 2]> {
    let pick = |row: usize| columns.iter().map(move |&n| data.rows.row(row)[n as usize]);
    let values: Vec<f32> = (0..data.rows.len()).flat_map(pick).collect();
    let labels: Vec<Option<u32>> = data.labels.iter().map(|&own| Some(u32::from(own))).collect();
    let all = class_moments(Rows::new(&values, columns.len()), &labels, 2)?;
    Ok(all.try_into().expect("two classes were asked for"))
}

/// The direction between the means of two kinds of rows, and the spread of each neuron over both.
pub(super) fn means_and_spreads(data: Labelled<'_>) -> Result<(Direction, Vec<f64>)> {
    let columns: Vec<u32> = (0..).take(data.rows.cols()).collect();
    let (mut direction, mut spread) = (Direction::default(), Vec::new());
    for some in columns.chunks(COLUMNS) {
        let moments = moments(data, some)?;
        let own = mass_mean(&moments)?;
        direction.weights.extend(own.weights);
        direction.centre.extend(own.centre);
        spread.extend(spreads(&moments));
    }
    Ok((direction, spread))
}

/// Eigenvalues and eigenvectors, one a row, of a symmetric matrix.
pub(super) fn eigen_of(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let found = eigen(&Dense::new(n, n, matrix.to_vec())).expect("moments are numbers");
    (found.values, found.vectors.values().to_vec())
}

/// `massmean`: the direction between means.
pub(super) fn mass_mean_of(call: &MethodCall, class: &OneClass<'_>) -> Result<ForClass> {
    let train = class.on(Part::Train);
    let (mut direction, spreads) = means_and_spreads(train)?;
    let size = if call.flag("whiten") {
        let columns = candidates(train, call.whole("candidates"))?;
        let own = whitened_mass_mean(&moments(train, &columns)?, &eigen_of)?;
        direction.weights.fill(0.0);
        for (column, weight) in columns.iter().zip(own.weights) {
            direction.weights[*column as usize] = weight;
        }
        columns.len()
    } else {
        direction.weights.len()
    };
    let tried = TRIED.map(|part| {
        let scores: Vec<f64> =
            class.on(part).rows.all().rows().map(|row| direction.score(row)).collect();
        let mut own = Tried::of_scores((part, &[], size), &scores, class.labels(part));
        own.flags.push(CHOSEN);
        own
    });
    let ranking = direction_neurons(&direction.weights, &spreads);
    Ok(ForClass { ranking, mass: true, tried: tried.into() })
}

/// `sparse`: logistic probes on the first neurons of a heuristic.
pub(super) fn sparse(call: &MethodCall, class: &OneClass<'_>) -> Result<ForClass> {
    let train = class.on(Part::Train);
    let width = class.parts.width;
    let largest = call.whole("k").min(width);
    let sizes: Vec<usize> = SIZES.into_iter().filter(|k| *k < largest).collect();
    let sizes = [&sizes[..], &[largest]].concat();
    let mut ranking = by_heuristic(call, class)?;
    let mut mass = call.text("heuristic") != "random";
    let supports = if call.flag("telescope") {
        let most = call.whole("candidates").max(call.whole("k"));
        let most = if call.whole("candidates") == 0 { width } else { most.min(width) };
        let shrinking: Vec<usize> = sizes.iter().rev().copied().collect();
        let mut supports = telescope(train, &ranking.order[..most], &shrinking)?;
        supports.reverse();
        ranking = of_supports(&supports, &ranking, width);
        mass = false;
        supports
    } else {
        nested(&ranking.order, &sizes)
    };
    let mut tried = on_supports(class, &supports)?;
    choose(&mut tried, f1);
    if call.flag("mono") {
        let mut alone = on_supports(class, &mono(&ranking.order, MONO))?;
        alone.iter_mut().for_each(|one| one.flags.push(ALONE));
        tried.append(&mut alone);
    }
    Ok(ForClass { ranking, mass, tried })
}

/// A logistic probe on each support, and what it does on the parts that are reported.
fn on_supports(class: &OneClass<'_>, supports: &[Vec<u32>]) -> Result<Vec<Tried>> {
    let train = class.on(Part::Train);
    let scales = train.scales();
    let mut tried = Vec::new();
    for own in probe_supports(train, class.on(Part::Dev), supports)? {
        for part in TRIED {
            let scores = own.probe.logits(&class.on(part).scaled(&own.support, &scales));
            let asked = (part, &own.support[..], own.support.len());
            tried.push(Tried::of_scores(asked, &scores, class.labels(part)));
        }
    }
    Ok(tried)
}

/// Neurons in the order of the heuristic. Those that train a probe on all neurons together do it on the
/// candidates, and the others follow with 0.
fn by_heuristic(call: &MethodCall, class: &OneClass<'_>) -> Result<GroupRanking> {
    let train = class.on(Part::Train);
    let seed = call.whole("seed") as u64;
    let how = match call.text("heuristic").as_str() {
        "f_stat" => Heuristic::FStatistic,
        "mi" => Heuristic::MutualInformation,
        "lr" => Heuristic::Logistic,
        "svm" => Heuristic::Svm,
        "random" => Heuristic::Random { seed },
        _ => Heuristic::MeanDifference,
    };
    if !matches!(how, Heuristic::Logistic | Heuristic::Svm) {
        return rank_neurons(train, how);
    }
    let columns = candidates(train, call.whole("candidates"))?;
    let values = class.parts.of(Part::Train).columns(&columns);
    let rows = Rows::new(&values, columns.len());
    let own = rank_neurons(Labelled { rows, labels: train.labels }, how)?;
    let mut scores = vec![Score::default(); class.parts.width];
    for (at, place) in own.order.iter().enumerate() {
        scores[columns[*place as usize] as usize] = Score::signed(own.values[at], None);
    }
    Ok(GroupRanking::from_scores(&scores, &vec![false; class.parts.width]))
}

/// Neurons by how long shrinking supports kept them; signs are those of the heuristic.
fn of_supports(supports: &[Vec<u32>], heuristic: &GroupRanking, width: usize) -> GroupRanking {
    let mut signs = vec![0; width];
    for (neuron, sign) in heuristic.order.iter().zip(&heuristic.signs) {
        signs[*neuron as usize] = *sign;
    }
    let mut places: Vec<(u32, i8)> = Vec::new();
    for neuron in supports.iter().flatten() {
        if places.iter().all(|(own, _)| own != neuron) {
            places.push((*neuron, signs[*neuron as usize]));
        }
    }
    let most = places.len().max(1);
    of_places(&places, (most, width))
}

/// `osp`: the best sets of 1 to k candidates.
pub(super) fn optimal(call: &MethodCall, class: &OneClass<'_>) -> Result<ForClass> {
    let columns = candidates(class.on(Part::Train), call.whole("candidates"))?;
    let block = |part: Part| {
        let values = class.parts.of(part).columns(&columns);
        Rows::new(&values, columns.len()).all()
    };
    let x = block(Part::Train);
    let others = TRIED.map(|part| (part, block(part)));
    let mut scores = vec![Score::default(); class.parts.width];
    let mut tried = Vec::new();
    for k in 1..=call.whole("k").min(columns.len()) {
        let found = optimal_support(&x, class.labels(Part::Train), k)?;
        let mut own: Vec<(u32, f64)> = found
            .columns
            .iter()
            .zip(&found.probe.weights)
            .map(|(column, weight)| (columns[*column as usize], *weight))
            .collect();
        own.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        let support: Vec<u32> = own.iter().map(|(neuron, _)| *neuron).collect();
        for (part, block) in &others {
            let all: Vec<usize> = (0..block.len()).collect();
            let answers = found.probe.scores(&block.pick(&all, &found.columns));
            let asked = (*part, &support[..], support.len());
            let mut one = Tried::of_scores(asked, &answers, class.labels(*part));
            one.flags.extend((!found.exact).then_some(HEURISTIC));
            tried.push(one);
        }
        scores.fill(Score::default());
        own.iter().for_each(|(neuron, w)| scores[*neuron as usize] = Score::signed(*w, None));
    }
    choose(&mut tried, f1);
    tried.extend(taken_away(call, (&x, &columns, &others), class)?);
    let ranking = GroupRanking::from_scores(&scores, &vec![false; class.parts.width]);
    Ok(ForClass { ranking, mass: true, tried })
}

/// What the neurons that iterative pruning takes away do alone, in its order.
fn taken_away(
    call: &MethodCall,
    (x, columns, others): (&Block, &[u32], &[(Part, Block)]),
    class: &OneClass<'_>,
) -> Result<Vec<Tried>> {
    let labels = class.labels(Part::Train);
    let rows = |block: &Block| (0..block.len()).collect::<Vec<usize>>();
    let mut tried = Vec::new();
    for pruned in prune(x, labels, call.whole("k"), call.whole("prune"))? {
        let one = optimal_support(&x.pick(&rows(x), &[pruned.column]), labels, 1)?;
        for (part, block) in others {
            let answers = one.probe.scores(&block.pick(&rows(block), &[pruned.column]));
            let neuron = [columns[pruned.column as usize]];
            let mut own = Tried::of_scores((*part, &neuron, 1), &answers, class.labels(*part));
            own.flags.push(PRUNED);
            tried.push(own);
        }
    }
    Ok(tried)
}

/// Rows, row-major, with their labels.
pub(super) fn labelled<'a>(values: &'a [f32], width: usize, labels: &'a [bool]) -> Labelled<'a> {
    Labelled { rows: Rows::new(values, width), labels }
}
