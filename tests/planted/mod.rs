//! Planted neurons: data whose answer is known, which every row of the registry must meet.
//! Oracles: O-plant and O-const of the method specification (their constructions are below).

use std::collections::BTreeSet;
use std::sync::LazyLock;

use electrode::methods::matrix::Values;
use electrode::methods::{Explanation, GroupRanking, METHODS, MatrixSource, Ranking, Source as _};

use crate::methods::support::{Random, call, run, source};

const ROWS: usize = 20_000;
const NEURONS: usize = 512;
const SHIFTED: [u32; 3] = [41, 200, 333];
const FLIPPED: u32 = 77;
const WIDE: u32 = 450;

/// O-plant: Gaussian rows; three neurons shifted by 2 sigma for class 1, one by -2 sigma, one of
/// equal means but three times the deviation in that class.
static PLANTED: LazyLock<MatrixSource> = LazyLock::new(|| {
    let mut random = Random(2024);
    let labels: Vec<Option<u32>> = (0..ROWS).map(|_| Some([0, 0, 1, 2][random.below(4)])).collect();
    let mut x = Vec::with_capacity(ROWS * NEURONS);
    for label in &labels {
        let concept = *label == Some(1);
        for neuron in 0..NEURONS as u32 {
            let noise = random.normal();
            x.push(match neuron {
                n if concept && SHIFTED.contains(&n) => noise + 2.0,
                FLIPPED if concept => noise - 2.0,
                WIDE if concept => noise * 3.0,
                _ => noise,
            } as f32);
        }
    }
    source(ROWS, Values::F32(x), &labels)
});

fn first(group: &GroupRanking, k: usize) -> BTreeSet<u32> {
    group.order[..k].iter().copied().collect()
}

fn sign_of(group: &GroupRanking, neuron: u32) -> i8 {
    let place = group.order.iter().position(|n| *n == neuron).expect("every neuron is ranked");
    group.signs[place]
}

fn shifted_and(more: &[u32]) -> BTreeSet<u32> {
    SHIFTED.iter().chain(more).copied().collect()
}

#[test]
fn means_find_the_shifted_and_the_flipped_but_not_the_wide() {
    for method in [
        "meandiff",
        "meandiff:std",
        "selectivity",
        "selectivity:robust",
        "corr",
        "corr:spearman",
        "fstat",
        "auroc",
        "ap2",
    ] {
        let ranking = run(method, &*PLANTED);
        let group = &ranking.groups[1];
        assert_eq!(first(group, 4), shifted_and(&[FLIPPED]), "{method}");
        assert!(group.q.is_empty() || group.q[3] <= 1e-100, "{method}: what was planted is sure");
        if method != "fstat" {
            assert!(SHIFTED.iter().all(|n| sign_of(group, *n) == 1), "{method}");
            assert_eq!(sign_of(group, FLIPPED), -1, "{method}");
        }
    }
    for overall in ["probeless", "fstat"] {
        let overall = run(overall, &*PLANTED).overall.expect("it ranks overall");
        assert_eq!(first(&overall, 4), shifted_and(&[FLIPPED]));
    }
    assert_eq!(first(&run("probeless", &*PLANTED).groups[1], 4), shifted_and(&[FLIPPED]));
}

#[test]
fn one_sided_methods_miss_the_flipped() {
    for method in ["ap", "iou:alpha=0.25", "iou:tau=1"] {
        let ranking = run(method, &*PLANTED);
        let group = &ranking.groups[1];
        assert_eq!(first(group, 3), shifted_and(&[]), "{method}");
        let place = group.order.iter().position(|n| *n == FLIPPED).expect("it is ranked");
        assert_eq!(place, NEURONS - 1, "{method}: a detector of the contrary");
    }
    // The low end of the wide neuron is as rich in the concept as its high end.
    let both = run("iou:alpha=0.25,two-sided", &*PLANTED);
    assert_eq!(first(&both.groups[1], 4), shifted_and(&[FLIPPED]));
    assert_eq!(sign_of(&both.groups[1], FLIPPED), -1);
}

#[test]
fn information_also_finds_the_wide() {
    for method in ["mi", "mi:normalised"] {
        let ranking = run(method, &*PLANTED);
        let want = shifted_and(&[FLIPPED, WIDE]);
        assert_eq!(first(&ranking.groups[1], 5), want, "{method}");
        let overall = ranking.overall.expect("it ranks overall");
        assert_eq!(first(&overall, 5), want, "{method}");
        assert!(overall.q[4] <= 1e-100 && overall.q[5] > 1e-6, "{method}");
    }
}

/// O-const: a constant neuron (0), a duplicate (3 of 2), one of huge scale (4), a silent one (5).
fn odd_neurons() -> MatrixSource {
    let mut random = Random(8);
    let labels: Vec<Option<u32>> = (0..400).map(|row| Some(row % 3)).collect();
    let mut x = Vec::new();
    for label in &labels {
        let twin = random.normal() + 0.5 * f64::from(label.expect("set"));
        let row = [7.5, random.normal(), twin, twin, random.normal() * 1e4, 0.0, random.normal()];
        x.extend(row.map(|x| x as f32));
    }
    source(400, Values::F32(x), &labels)
}

fn all_groups(ranking: &Ranking) -> impl Iterator<Item = &GroupRanking> {
    ranking.groups.iter().chain(&ranking.overall)
}

#[test]
fn constant_neurons_come_last_and_finite() {
    let source = odd_neurons();
    for method in METHODS.iter().filter(|method| method.needs_labels) {
        let ranking = run(method.name, &source);
        for group in all_groups(&ranking) {
            let numbers = group.scores.iter().chain(&group.values).chain(&group.p).chain(&group.q);
            assert!(numbers.clone().all(|x| x.is_finite()), "{}", method.name);
            if method.name == "lape" {
                continue; // It reads firing alone: a neuron that always fires is not constant.
            }
            assert_eq!(group.order[5..], [0, 5], "{}", method.name);
            assert!(group.p.is_empty() || group.p[5..] == [1.0, 1.0], "{}", method.name);
            let live = &group.scores[..5];
            assert!(live.is_sorted_by(|a, b| a >= b), "{}: {live:?}", method.name);
        }
    }
    // What the specification says of a constant neuron: AP is the prevalence, AUROC 1/2.
    let ap = run("ap", &source);
    assert!((ap.groups[0].values[5] - 134.0 / 400.0).abs() <= 1e-12);
    assert_eq!(run("auroc", &source).groups[0].values[5], 0.5);
}

#[test]
fn duplicates_tie_by_number_and_scale_matters_where_documented() {
    let source = odd_neurons();
    for method in ["meandiff:std", "fstat", "ap2", "auroc", "mi", "corr", "probeless:std"] {
        let ranking = run(method, &source);
        assert_eq!(ranking.groups[2].order[..2], [2, 3], "{method}");
    }
    assert_eq!(run("probeless", &source).overall.expect("overall").order[0], 4);
    assert_ne!(run("probeless:std", &source).overall.expect("overall").order[0], 4);
}

#[test]
fn every_method_of_the_registry_runs_and_is_documented() {
    let names: BTreeSet<&str> = METHODS.iter().map(|method| method.name).collect();
    assert_eq!(names.len(), METHODS.len(), "names are unique");
    for method in METHODS {
        let words = [method.name, method.summary, method.paper, method.family.name()];
        assert!(words.iter().all(|word| !word.trim().is_empty()), "{}", method.name);
        for param in method.params {
            assert!(!param.meaning.is_empty(), "{}:{}", method.name, param.name);
            // Every default can be written out, and changes nothing but tau beside alpha.
            let text = format!("{}:{}={}", method.name, param.name, param.default);
            assert_eq!(call(&text).to_string(), text);
        }
        let source = odd_neurons();
        let ranking = run(method.name, &source);
        assert_eq!((ranking.method.as_str(), ranking.label.as_str()), (method.name, "label"));
        assert_eq!(ranking.n, 400);
        let ranked = all_groups(&ranking).all(|group| {
            let mut order = group.order.clone();
            order.sort_unstable();
            order == (0..7).collect::<Vec<u32>>() && group.scores.len() == 7 && group.n > 0
        });
        assert!(ranked, "{}", method.name);
        let explains = ranking.explanation != Explanation::None;
        assert!(explains != (ranking.groups.len() == 3), "{} ranks or explains", method.name);
    }
}

#[test]
fn baselines_know_nothing_and_repeat() {
    let source = odd_neurons();
    let (a, b) = (run("random:seed=5", &source), run("random:seed=5", &source));
    assert_eq!(a, b);
    let orders: BTreeSet<Vec<u32>> = (0..20)
        .map(|seed| run(&format!("random:seed={seed}"), &source).groups[0].order.clone())
        .collect();
    assert!(orders.len() > 10, "seeds differ");
    let (up, down) = (run("meandiff", &source), run("bottom:of=meandiff", &source));
    for (up, down) in up.groups.iter().zip(&down.groups) {
        let mut live = up.scores[..5].to_vec();
        live.reverse();
        let negated: Vec<f64> = down.scores[..5].iter().map(|score| -score).collect();
        assert_eq!(negated, live);
        assert_eq!(down.order[5..], [0, 5]);
        let twins: Vec<u32> = down.order.iter().copied().filter(|n| [2, 3].contains(n)).collect();
        assert_eq!(twins, [2, 3], "ties stay in order");
    }
}

#[test]
fn a_neuron_that_is_the_label_has_a_capped_f() {
    let labels: Vec<Option<u32>> = (0..30).map(|row| Some(row % 3)).collect();
    let x = labels.iter().map(|label| f64::from(label.expect("set"))).collect();
    let ranking = run("fstat", &source(30, Values::F64(x), &labels));
    let overall = ranking.overall.expect("it ranks overall");
    assert_eq!((overall.scores[0], overall.p[0]), (1e30, 0.0));
    assert!(ranking.notes.iter().any(|note| note.contains("capped")), "{:?}", ranking.notes);
}

#[test]
fn small_classes_are_dropped_and_listed() {
    use electrode::methods::{Matrix, MethodCall, rank};
    let mut labels =
        crate::methods::support::labels(&[Some(0), Some(0), Some(1), Some(1), Some(2), None]);
    labels.min_count = 2;
    let values = Values::F32(vec![1.0, 2.0, 5.0, 6.0, 9.0, 9.0]);
    let matrix = Matrix::new(6, 1, values);
    let path = std::path::Path::new("small");
    let source = MatrixSource::new(matrix.clone(), &labels, path).expect("finite");
    let ranking = run("meandiff", &source);
    assert_eq!((ranking.groups.len(), ranking.n), (2, 4));
    assert_eq!(ranking.groups[0].values, [-4.0]);
    assert!(ranking.notes.iter().any(|note| note.contains("class '2' dropped: 1 rows")));
    labels.min_count = 3;
    let source = MatrixSource::new(matrix, &labels, path).expect("finite");
    assert!(source.design().classes.is_empty());
    let error =
        rank(&MethodCall::parse("meandiff").expect("known"), &source).expect_err("no class");
    assert!(error.exit_code() == 65 && error.to_string().contains("class '2' dropped"), "{error}");
}

/// A neuron that is the concept itself: no method that ranks by it may put noise before it.
#[test]
fn a_neuron_without_overlap_is_first() {
    let mut random = Random(8);
    let labels: Vec<Option<u32>> = (0..40).map(|row| Some(u32::from(row % 3 == 0))).collect();
    let mut x = Vec::new();
    for label in &labels {
        x.extend((0..5).map(|_| random.normal() as f32));
        x.push(if *label == Some(1) { 1.0 } else { 0.0 });
    }
    let source = source(40, Values::F32(x), &labels);
    for method in METHODS {
        // These rank by something else, or not at all.
        let others = ["topctx", "viz", "topword", "random", "bottom", "lape"];
        if others.contains(&method.name) {
            continue;
        }
        // A quantile of two values is one of them, and nothing lies above the larger.
        let name = if method.name == "iou" { "iou:tau=0.5" } else { method.name };
        let ranking = run(name, &source);
        assert_eq!(ranking.groups[1].order[0], 5, "{}", method.name);
        assert!(ranking.groups[1].scores.iter().all(|score| score.is_finite()), "{}", method.name);
    }
    let ranking = run("meandiff:std", &source);
    assert_eq!((ranking.groups[1].order[0], ranking.groups[1].signs[0]), (5, 1));
    assert_eq!(sign_of(&ranking.groups[0], 5), -1);
}
