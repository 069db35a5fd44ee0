//! O-ap and its kin: answers from histograms against exact ones.
//! Oracle: the same method on the matrix itself. Bound: with B bins of equal mass a statistic of
//! the order can be wrong by the pairs that share a bin, so errors must fall as 1/B.

use electrode::accumulate::summary::SiteSummary;
use electrode::corpus::block::{Column, Labels};
use electrode::device::statistics::{RowSample, TopTokens};
use electrode::id::{NeuronId, RowId, Site, SiteKind};
use electrode::methods::matrix::Values;
use electrode::methods::{Explanation, MethodCall, SummarySource, rank};

use super::support::{Random, by_neuron, largest_error, run, source};

const ROWS: usize = 4000;
const NEURONS: usize = 23;
const CLASSES: usize = 3;

struct Data {
    x: Vec<f32>,
    labels: Vec<Option<u32>>,
}

/// Neurons between pure noise and strong concepts; some with ties. A fifth of rows unlabelled.
fn data() -> Data {
    let mut random = Random(5);
    let label = |random: &mut Random| match random.below(10) {
        0..2 => None,
        2..7 => Some(0),
        7..9 => Some(1),
        _ => Some(2),
    };
    let labels: Vec<Option<u32>> = (0..ROWS).map(|_| label(&mut random)).collect();
    let mut x = Vec::with_capacity(ROWS * NEURONS);
    for label in &labels {
        for neuron in 0..NEURONS {
            let shift =
                if *label == Some((neuron % 3) as u32) { neuron as f64 / 10.0 } else { 0.0 };
            let value = random.normal() + shift;
            x.push(if neuron % 5 == 4 { (value * 3.0).round() as f32 } else { value as f32 });
        }
    }
    Data { x, labels }
}

impl Data {
    fn column(&self, neuron: usize) -> impl Iterator<Item = (f32, Option<u32>)> {
        let values = self.x[neuron..].iter().step_by(NEURONS).copied();
        values.zip(self.labels.iter().copied())
    }

    /// What a run would keep with `bins` bins: edges at equal mass, every row in the sample.
    fn summary(&self, bins: usize) -> SiteSummary {
        let groups = CLASSES + 1;
        let mut out = SiteSummary {
            site: Site::of_layer(0, SiteKind::MlpAct),
            neurons: NEURONS,
            groups: CLASSES,
            rows: vec![0; groups],
            count: vec![0; groups * NEURONS],
            mean: vec![0.0; groups * NEURONS],
            variance: vec![0.0; groups * NEURONS],
            min: vec![f32::INFINITY; groups * NEURONS],
            max: vec![f32::NEG_INFINITY; groups * NEURONS],
            firing: vec![0; groups * NEURONS],
            bins,
            edges: Vec::new(),
            histogram: vec![0; NEURONS * groups * bins],
            top: self.ends(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))),
            bottom: self.ends(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))),
            sample: self.sample(),
        };
        for (group, rows) in out.rows.iter_mut().enumerate() {
            *rows = self.labels.iter().filter(|label| in_group(**label, group)).count() as u64;
        }
        for neuron in 0..NEURONS {
            self.fill(&mut out, neuron);
        }
        out
    }

    fn fill(&self, out: &mut SiteSummary, neuron: usize) {
        let bins = out.bins;
        let mut sorted: Vec<f32> = self.column(neuron).map(|row| row.0).collect();
        sorted.sort_by(f32::total_cmp);
        let edges: Vec<f32> = (1..bins).map(|i| sorted[i * ROWS / bins - 1]).collect();
        for group in 0..=CLASSES {
            let rows = || self.column(neuron).filter(|row| in_group(row.1, group));
            let (at, n) = (group * NEURONS + neuron, rows().count() as f64);
            let mean = rows().map(|row| f64::from(row.0)).sum::<f64>() / n;
            out.count[at] = n as u64;
            out.mean[at] = mean;
            out.variance[at] = rows().map(|row| (f64::from(row.0) - mean).powi(2)).sum::<f64>() / n;
            for (x, _) in rows() {
                out.min[at] = out.min[at].min(x);
                out.max[at] = out.max[at].max(x);
                out.firing[at] += u64::from(x > 0.0);
                let bin = edges.iter().filter(|edge| x > **edge).count();
                out.histogram[(neuron * (CLASSES + 1) + group) * bins + bin] += 1;
            }
        }
        out.edges.extend(edges);
    }

    fn ends(&self, order: impl Fn(&(f32, u64), &(f32, u64)) -> std::cmp::Ordering) -> TopTokens {
        let mut top = TopTokens { k: 10, len: vec![10; NEURONS], ..TopTokens::default() };
        for neuron in 0..NEURONS {
            let mut rows: Vec<(f32, u64)> =
                self.column(neuron).zip(0..).map(|((x, _), row)| (x, row)).collect();
            rows.sort_by(&order);
            top.values.extend(rows[..10].iter().map(|row| row.0));
            top.rows.extend(rows[..10].iter().map(|row| RowId(row.1)));
        }
        top
    }

    fn sample(&self) -> RowSample {
        let mut sample = RowSample {
            capacity: ROWS,
            hashes: (0..ROWS as u64).collect(),
            rows: (0..ROWS as u64).map(RowId).collect(),
            group_starts: vec![0],
            values: self.x.clone(),
            ..RowSample::default()
        };
        for label in &self.labels {
            sample.groups.extend(label.iter());
            sample.group_starts.push(sample.groups.len() as u32);
        }
        sample
    }
}

fn in_group(label: Option<u32>, group: usize) -> bool {
    group == 0 || label.is_some_and(|class| class as usize + 1 == group)
}

fn labels() -> Labels {
    let column = Column {
        name: "tag".to_owned(),
        classes: (0..CLASSES).map(|class| class.to_string()).collect(),
        first_group: 0,
        min_count: 1,
        numeric: true,
    };
    Labels { columns: vec![column] }
}

fn neurons() -> Vec<NeuronId> {
    let site = Site::of_layer(0, SiteKind::MlpAct);
    (0..NEURONS as u32).map(|index| NeuronId { site, index }).collect()
}

/// Every fifth neuron takes few values. Inside a bin nobody knows where they lie.
fn tied(neuron: usize) -> bool {
    neuron % 5 == 4
}

/// Largest difference of any value between histogram and matrix, over the neurons of `which`.
fn error_over(data: &Data, method: &str, bins: usize, which: fn(usize) -> bool) -> f64 {
    let summaries = [data.summary(bins)];
    let streamed = SummarySource::new(&summaries, &neurons(), &labels(), 0).expect("all are there");
    let exact = run(method, &source(ROWS, Values::F32(data.x.clone()), &data.labels));
    let streamed = run(method, &streamed);
    assert_eq!(exact.n, streamed.n);
    let pairs = exact.groups.iter().zip(&streamed.groups);
    let kept = |list: Vec<f64>| -> Vec<f64> {
        (0..NEURONS).filter(|&neuron| which(neuron)).map(|neuron| list[neuron]).collect()
    };
    pairs
        .map(|(a, b)| {
            assert_eq!((&a.name, a.n), (&b.name, b.n));
            largest_error(&kept(by_neuron(a, &a.values)), &kept(by_neuron(b, &b.values)))
        })
        .fold(0.0, |worst, error| if error <= worst { worst } else { error })
}

fn error(data: &Data, method: &str, bins: usize) -> f64 {
    error_over(data, method, bins, |_| true)
}

/// AUC counts pairs, and only pairs inside a bin can be counted wrongly, by 1/2 each. With
/// `outside` rows outside the class a bin holds at most `ROWS / bins` of them, so the error is at
/// most `ROWS / (2 * bins * outside)`. Spearman's r is at most twice (AUC - 1/2).
#[test]
fn rank_statistics_are_within_the_pairs_of_a_bin() {
    let data = data();
    let labelled = data.labels.iter().flatten();
    let outside = |class| labelled.clone().filter(|label| **label != class).count() as f64;
    let fewest = (0..CLASSES as u32).map(outside).fold(f64::INFINITY, f64::min);
    for bins in [16, 64, 256, 1024] {
        let bound = ROWS as f64 / (2.0 * bins as f64 * fewest);
        for (method, bound) in [("auroc", bound), ("corr:spearman", 2.0 * bound)] {
            let error = error(&data, method, bins);
            assert!(error <= bound, "{method} with {bins} bins: {error:.1e} > {bound:.1e}");
        }
    }
}

/// Whatever the order inside the bins, AP lies between negatives-first and all-positives-first.
fn bracket(counts: &[(f64, f64)]) -> (f64, f64) {
    let positives: f64 = counts.iter().map(|c| c.0).sum();
    let (mut low, mut high, mut found, mut seen) = (0.0, 0.0, 0.0, 0.0);
    for &(k, rest) in counts.iter().rev() {
        for i in 1..=k as u32 {
            low += (found + f64::from(i)) / (seen + rest + f64::from(i));
        }
        if k > 0.0 {
            high += k * (found + k) / (seen + k);
        }
        found += k;
        seen += k + rest;
    }
    (low / positives, high / positives)
}

#[test]
fn average_precision_is_inside_its_bracket() {
    let data = data();
    let exact = run("ap", &source(ROWS, Values::F32(data.x.clone()), &data.labels));
    for bins in [16, 64, 256, 1024] {
        let summaries = [data.summary(bins)];
        let streamed = SummarySource::new(&summaries, &neurons(), &labels(), 0).expect("there");
        let streamed = run("ap", &streamed);
        let histogram = &summaries[0].histogram;
        let at = |neuron: usize, group: usize, bin: usize| {
            f64::from(histogram[(neuron * (CLASSES + 1) + group) * bins + bin])
        };
        for class in 0..CLASSES {
            let exact = by_neuron(&exact.groups[class], &exact.groups[class].values);
            let binned = by_neuron(&streamed.groups[class], &streamed.groups[class].values);
            for neuron in 0..NEURONS {
                let count = |bin| {
                    let labelled: f64 = (1..=CLASSES).map(|group| at(neuron, group, bin)).sum();
                    let own = at(neuron, class + 1, bin);
                    (own, labelled - own)
                };
                let (low, high) = bracket(&(0..bins).map(count).collect::<Vec<_>>());
                let inside = low - 1e-12..=high + 1e-12;
                assert!(inside.contains(&exact[neuron]), "exact {neuron} of {class}");
                assert!(inside.contains(&binned[neuron]), "{bins} bins, {neuron} of {class}");
            }
        }
    }
}

/// The threshold moves by one bin at most: ROWS / bins rows of a union of at least one class.
#[test]
fn overlaps_are_within_one_bin() {
    let data = data();
    let rows = |class| data.labels.iter().flatten().filter(|label| **label == class).count();
    let smallest = (0..CLASSES as u32).map(rows).min().expect("three classes") as f64;
    for method in ["iou:alpha=0.1", "iou:tau=0.7", "iou:alpha=0.07,two-sided"] {
        for bins in [16, 64, 256, 1024] {
            let bound = ROWS as f64 / bins as f64 / smallest;
            let error = error_over(&data, method, bins, |neuron| !tied(neuron));
            assert!(error <= bound, "{method} with {bins} bins: {error:.1e} > {bound:.1e}");
        }
    }
}

#[test]
fn more_bins_come_closer() {
    let data = data();
    for method in ["ap", "ap2", "auroc", "corr:spearman", "iou", "selectivity:robust"] {
        let errors = [16, 1024].map(|bins| error_over(&data, method, bins, |neuron| !tied(neuron)));
        // 64 times as many bins; slowest are percentiles, which lie inside the outermost bins.
        assert!(errors[1] <= errors[0] / 4.0, "{method}: {errors:?}");
    }
}

#[test]
fn information_converges_when_bins_are_multiples() {
    let data = data();
    // 32 bins of equal mass over the labelled rows, cut at the borders of finer ones: a border
    // may move by one fine bin, which changes at most that share of each of the 32.
    let coarse = error(&data, "mi", 64);
    let fine = error(&data, "mi", 1024);
    assert!(fine <= 0.01 && fine < coarse, "{coarse:.1e} then {fine:.1e}");
}

#[test]
fn moments_need_no_histogram() {
    let data = data();
    for method in ["meandiff", "probeless", "selectivity", "fstat", "corr", "ccmas", "lape"] {
        let error = error(&data, method, 2);
        assert!(error <= 1e-9, "{method}: {error:.1e}");
    }
    assert!(error(&data, "iou:tau=0", 2) == 0.0, "firing is counted one by one");
    let bare = [SiteSummary { bins: 0, ..data.summary(2) }];
    let streamed = SummarySource::new(&bare, &neurons(), &labels(), 0).expect("all are there");
    let refused = rank(&MethodCall::parse("ap").expect("known"), &streamed).expect_err("no bins");
    assert!(refused.to_string().contains("statistics.bins"), "{refused}");
    let refused = MethodCall::parse("iou-neurox").expect("known");
    let whole = [data.summary(8)];
    let streamed = SummarySource::new(&whole, &neurons(), &labels(), 0).expect("all are there");
    assert!(rank(&refused, &streamed).is_err(), "parity needs the activations");
}

#[test]
fn explanations_from_a_run_are_those_of_the_matrix() {
    let data = data();
    let summaries = [data.summary(1024)];
    let streamed = SummarySource::unlabelled(&summaries, &neurons()).expect("all are there");
    let all = vec![Some(0); ROWS];
    let exact = source(ROWS, Values::F32(data.x.clone()), &all);
    for side in ["top", "bottom", "abs", "z"] {
        let method = format!("topctx:k=10,side={side}");
        let (a, b) = (run(&method, &exact).explanation, run(&method, &streamed).explanation);
        let (Explanation::Contexts(a), Explanation::Contexts(b)) = (a, b) else { panic!() };
        for (a, b) in a.iter().zip(&b) {
            assert_eq!((a.neuron, &a.rows), (b.neuron, &b.rows), "{method}");
            assert!(largest_error(&a.values, &b.values) <= 1e-9, "{method}");
        }
    }
    for method in ["viz:percentile=90", "viz:percentile=90,signed=false"] {
        let (a, b) = (run(method, &exact).explanation, run(method, &streamed).explanation);
        let (Explanation::Scales(a), Explanation::Scales(b)) = (a, b) else { panic!() };
        assert_eq!(a.len(), NEURONS);
        for (_, (a, b)) in a.iter().zip(&b).enumerate().filter(|(neuron, _)| !tied(*neuron)) {
            assert!((a.scale - b.scale).abs() <= 0.02 && (a.centre - b.centre).abs() <= 0.02);
        }
    }
    let tagged = SummarySource::new(&summaries, &neurons(), &labels(), 0).expect("all are there");
    let exact = source(ROWS, Values::F32(data.x.clone()), &data.labels);
    let (a, b) = (run("topword", &exact), run("topword", &tagged));
    assert!(b.notes.iter().any(|note| note.starts_with("approx")), "{:?}", b.notes);
    let (Explanation::Words(a), Explanation::Words(b)) = (a.explanation, b.explanation) else {
        panic!()
    };
    for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
        assert_eq!((a.class, a.n), (b.class, b.n));
        assert!((a.score - b.score).abs() <= 1e-9 && (a.signed - b.signed).abs() <= 1e-9);
    }
}

#[test]
fn numeric_columns_rank_overall() {
    let data = data();
    let summaries = [data.summary(2)];
    let streamed = SummarySource::new(&summaries, &neurons(), &labels(), 0).expect("all are there");
    let exact = source(ROWS, Values::F32(data.x.clone()), &data.labels);
    let a = run("corr:numeric", &exact).overall.expect("asked for");
    let b = run("corr", &streamed).overall.expect("the column is numeric");
    assert!(largest_error(&by_neuron(&a, &a.values), &by_neuron(&b, &b.values)) <= 1e-9);
}
