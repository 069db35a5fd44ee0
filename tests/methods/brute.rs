//! O-brute: every statistic against a naive double loop over rows or pairs of rows.
//! Oracle: the loops below, written from the definitions; bound 1e-6 relative, asserted at 1e-9.

use electrode::methods::matrix::Values;

use super::support::{Random, by_neuron, run, source, values};

const ROWS: usize = 60;
const NEURONS: usize = 7;
const CLASSES: u32 = 3;

/// Rounded so that ties are common; a quarter of the rows carries no label.
struct Data {
    x: Vec<f64>,
    labels: Vec<Option<u32>>,
}

impl Data {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let class = |random: &mut Random| Some(random.below(4) as u32).filter(|&c| c < CLASSES);
        let labels: Vec<_> = (0..ROWS).map(|_| class(&mut random)).collect();
        let x = (0..ROWS * NEURONS).map(|_| (random.normal() * 4.0).round() / 4.0).collect();
        Self { x, labels }
    }

    /// (value, in the class) of labelled rows.
    fn rows(&self, neuron: usize, class: u32) -> Vec<(f64, bool)> {
        let labelled = self.labels.iter().enumerate();
        labelled
            .filter_map(|(row, c)| Some((self.x[row * NEURONS + neuron], (*c)? == class)))
            .collect()
    }

    fn check(&self, method: &str, definition: impl Fn(&[(f64, bool)]) -> f64) {
        let ours = values(&run(method, &source(ROWS, Values::F64(self.x.clone()), &self.labels)));
        for class in 0..CLASSES {
            for neuron in 0..NEURONS {
                let want = definition(&self.rows(neuron, class));
                let ours = ours[class as usize][neuron];
                let error = (ours - want).abs() / want.abs().max(1e-3);
                assert!(error <= 1e-9, "{method}: {ours} instead of {want}");
            }
        }
    }
}

fn split(rows: &[(f64, bool)]) -> (Vec<f64>, Vec<f64>) {
    let part = |inside| rows.iter().filter(|r| r.1 == inside).map(|r| r.0).collect();
    (part(true), part(false))
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

fn squares(x: &[f64]) -> f64 {
    x.iter().map(|v| (v - mean(x)).powi(2)).sum()
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let joint: f64 = a.iter().zip(b).map(|(x, y)| (x - mean(a)) * (y - mean(b))).sum();
    joint / (squares(a) * squares(b)).sqrt()
}

/// Mid-ranks by counting, O(n^2).
fn ranks(x: &[f64]) -> Vec<f64> {
    let rank = |v: &f64| {
        let below = x.iter().filter(|w| *w < v).count() as f64;
        let equal = x.iter().filter(|w| *w == v).count() as f64;
        below + (equal + 1.0) / 2.0
    };
    x.iter().map(rank).collect()
}

fn column(rows: &[(f64, bool)]) -> (Vec<f64>, Vec<f64>) {
    rows.iter().map(|&(x, inside)| (x, f64::from(u8::from(inside)))).unzip()
}

/// Each positive row's precision at its own threshold, averaged over the positive rows.
fn average_precision(rows: &[(f64, bool)]) -> f64 {
    let at = |threshold: f64| {
        let (above, _) = split(rows);
        let hits = above.iter().filter(|x| **x >= threshold).count() as f64;
        hits / rows.iter().filter(|r| r.0 >= threshold).count() as f64
    };
    let (positives, _) = split(rows);
    positives.iter().map(|&x| at(x)).sum::<f64>() / positives.len() as f64
}

#[test]
fn means() {
    for seed in 0..4 {
        let data = Data::new(seed);
        let difference = |rows: &[(f64, bool)]| {
            let (a, b) = split(rows);
            mean(&a) - mean(&b)
        };
        data.check("meandiff", difference);
        data.check("meandiff:std", |rows| {
            let (a, b) = split(rows);
            let pooled = (squares(&a) + squares(&b)) / (rows.len() as f64 - 2.0);
            difference(rows) / pooled.sqrt()
        });
        data.check("selectivity", |rows| {
            let high = rows.iter().map(|r| r.0).fold(f64::MIN, f64::max);
            let low = rows.iter().map(|r| r.0).fold(f64::MAX, f64::min);
            difference(rows) / (high - low)
        });
        data.check("fstat", |rows| {
            let (a, b) = split(rows);
            let all: Vec<f64> = rows.iter().map(|r| r.0).collect();
            let within = squares(&a) + squares(&b);
            (squares(&all) - within) / (within / (rows.len() as f64 - 2.0))
        });
        data.check("corr", |rows| {
            let (x, y) = column(rows);
            pearson(&x, &y)
        });
        data.check("corr:spearman", |rows| {
            let (x, y) = column(rows);
            pearson(&ranks(&x), &ranks(&y))
        });
    }
}

#[test]
fn orders() {
    for seed in 10..14 {
        let data = Data::new(seed);
        let flip = |rows: &[(f64, bool)]| rows.iter().map(|&(x, y)| (-x, y)).collect::<Vec<_>>();
        let complement =
            |rows: &[(f64, bool)]| rows.iter().map(|&(x, y)| (x, !y)).collect::<Vec<_>>();
        data.check("ap", average_precision);
        data.check("ap2", |rows| average_precision(rows).max(average_precision(&flip(rows))));
        data.check("ap2:complement", |rows| {
            average_precision(rows).max(average_precision(&complement(rows)))
        });
        data.check("auroc", |rows| {
            let (a, b) = split(rows);
            let wins = |x: &f64| -> f64 {
                b.iter()
                    .map(|y| {
                        if x > y {
                            1.0
                        } else if x == y {
                            0.5
                        } else {
                            0.0
                        }
                    })
                    .sum()
            };
            a.iter().map(wins).sum::<f64>() / (a.len() * b.len()) as f64
        });
        data.check("iou-neurox", |rows| {
            let zeroed = |&(x, y): &(f64, bool)| (if x.abs() < 0.05 { 0.0 } else { x }, y);
            average_precision(&rows.iter().map(zeroed).collect::<Vec<_>>())
        });
    }
}

#[test]
fn overlaps() {
    let over = |rows: &[(f64, bool)], fires: &dyn Fn(f64) -> bool, measure: &str| {
        let count = |test: &dyn Fn(bool, bool) -> bool| {
            rows.iter().filter(|r| test(fires(r.0), r.1)).count() as f64
        };
        let both = count(&|f, y| f && y);
        let over = match measure {
            "precision" => count(&|f, _| f),
            "recall" => count(&|_, y| y),
            _ => count(&|f, y| f || y),
        };
        if over > 0.0 { both / over } else { 0.0 }
    };
    for seed in 20..24 {
        let data = Data::new(seed);
        for measure in ["iou", "precision", "recall"] {
            let method = format!("iou:tau=0.5,measure={measure}");
            data.check(&method, |rows| over(rows, &|x| x > 0.5, measure));
            let method = format!("iou:tau=0,measure={measure}");
            data.check(&method, |rows| over(rows, &|x| x > 0.0, measure));
        }
        data.check("iou:tau=0.5,two-sided", |rows| {
            over(rows, &|x| x > 0.5, "").max(over(rows, &|x| x < -0.5, ""))
        });
        data.check("iou:alpha=0.1", |rows| {
            let mut sorted: Vec<f64> = rows.iter().map(|r| r.0).collect();
            sorted.sort_by(f64::total_cmp);
            let place = 0.9 * (sorted.len() - 1) as f64;
            let (low, t) = (place as usize, place.fract());
            let tau = sorted[low] + t * (sorted[low + 1] - sorted[low]);
            over(rows, &|x| x > tau, "")
        });
    }
}

#[test]
fn pairs_of_classes() {
    let data = Data::new(30);
    let matrix = source(ROWS, Values::F64(data.x.clone()), &data.labels);
    let ranking = run("probeless", &matrix);
    let ours = values(&ranking);
    let overall = ranking.overall.expect("there are classes");
    let overall = by_neuron(&overall, &overall.values);
    for neuron in 0..NEURONS {
        let means: Vec<f64> =
            (0..CLASSES).map(|class| mean(&split(&data.rows(neuron, class)).0)).collect();
        let to_all = |a: usize| means.iter().map(|b| (means[a] - b).abs()).sum::<f64>();
        for (class, ours) in ours.iter().enumerate() {
            assert!((ours[neuron] - to_all(class)).abs() <= 1e-12);
        }
        let pairs = (0..means.len()).map(to_all).sum::<f64>() / 2.0;
        assert!((overall[neuron] - pairs).abs() <= 1e-12);
    }
}

#[test]
fn information_of_a_table() {
    // Two values, two classes, counts 30 10 / 10 30: by hand.
    let table = [(0.0, 0, 30), (1.0, 0, 10), (0.0, 1, 10), (1.0, 1, 30)];
    let rows = || table.iter().flat_map(|&(x, class, n)| vec![(x, Some(class)); n]);
    let x: Vec<f64> = rows().map(|row| row.0).collect();
    let labels: Vec<_> = rows().map(|row| row.1).collect();
    let bits: f64 = 0.75 * 1.5_f64.log2() + 0.25 * 0.5_f64.log2();
    let want = bits - 1.0 / (2.0 * 80.0 * std::f64::consts::LN_2);
    let matrix = source(80, Values::F64(x), &labels);
    for method in ["mi", "mi:normalised", "mi:bins=2"] {
        // The label has one bit, so the normalised value is the same.
        let ranking = run(method, &matrix);
        let overall = ranking.overall.as_ref().expect("two classes").values[0];
        for ours in [ranking.groups[0].values[0], ranking.groups[1].values[0], overall] {
            assert!((ours - want).abs() <= 1e-12, "{method}: {ours} instead of {want}");
        }
    }
}

#[test]
fn correlation_with_numbers() {
    let mut random = Random(40);
    let labels: Vec<_> = (0..ROWS).map(|_| Some(random.below(9) as u32)).collect();
    let noisy = |label: &Option<u32>| f64::from(label.expect("set")) + 3.0 * random.normal();
    let x: Vec<f64> = labels.iter().map(noisy).collect();
    let y: Vec<f64> = labels.iter().map(|label| f64::from(label.expect("set"))).collect();
    let matrix = source(ROWS, Values::F64(x.clone()), &labels);
    let overall = |method| run(method, &matrix).overall.expect("numbers").values[0];
    assert!((overall("corr:numeric") - pearson(&x, &y)).abs() <= 1e-12);
    let want = pearson(&ranks(&x), &ranks(&y));
    assert!((overall("corr:numeric,spearman") - want).abs() <= 1e-12);
}
