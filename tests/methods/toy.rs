//! A matrix small enough to read: 12 rows, 5 neurons, 3 classes, with ties.
//! Oracle: `toy.json`, plain numpy in float64 (definitions in the fixture's `refs.py`).
//! Bound: 1e-9, as the fixture states for float64.

use electrode::methods::matrix::Values;
use electrode::methods::{Explanation, Matrix, MatrixSource};
use serde_json::Value;

use super::support::{by_neuron, largest_error, run, source, values};

const BOUND: f64 = 1e-9;

pub(super) fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|x| x.as_f64().expect("a number")).collect()
}

pub(super) fn table(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().expect("a table").iter().map(numbers).collect()
}

struct Toy {
    json: Value,
    source: MatrixSource,
}

fn toy() -> Toy {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/methods/toy.json");
    let json: Value =
        serde_json::from_slice(&std::fs::read(path).expect("it is in the repository"))
            .expect("it is JSON");
    let labels: Vec<Option<u32>> =
        numbers(&json["y"]).into_iter().map(|class| Some(class as u32)).collect();
    let source = source(12, Values::F64(table(&json["x"]).concat()), &labels);
    Toy { json, source }
}

impl Toy {
    fn check(&self, method: &str, key: &str) {
        let ours = values(&run(method, &self.source));
        for (class, want) in table(&self.json[key]).iter().enumerate() {
            let error = largest_error(&ours[class], want);
            assert!(error <= BOUND, "{method}, class {class}: {error:.1e}");
        }
    }
}

#[test]
fn every_method_of_the_fixture() {
    let toy = toy();
    toy.check("ap", "ap");
    toy.check("auroc", "auc");
    toy.check("iou:tau=0", "iou_pos");
    toy.check("selectivity", "mean_select");
    toy.check("fstat", "f_stat");
    toy.check("corr", "pearson");
    toy.check("probeless", "probeless_per_tag");
}

#[test]
fn probeless_ranks_as_the_fixture() {
    let toy = toy();
    let overall = run("probeless", &toy.source).overall.expect("there are three classes");
    let error =
        largest_error(&by_neuron(&overall, &overall.scores), &numbers(&toy.json["probeless"]));
    assert!(error <= BOUND, "{error:.1e}");
    let order: Vec<f64> = overall.order.iter().map(|&neuron| f64::from(neuron)).collect();
    assert_eq!(order, numbers(&toy.json["ranking"]));
}

#[test]
fn contexts_are_the_fixture_s_top_and_bottom_rows() {
    let toy = toy();
    for (method, rows, vals, sign) in [
        ("topctx:k=3", "top_rows", "top_vals", 1.0),
        ("topctx:k=3,side=bottom", "bottom_rows", "bottom_vals", -1.0),
    ] {
        let ranking = run(method, &toy.source);
        let Explanation::Contexts(contexts) = ranking.explanation else { panic!("no contexts") };
        for (neuron, context) in contexts.iter().enumerate() {
            let ours: Vec<f64> = context.rows.iter().map(|&row| row as f64).collect();
            assert_eq!(ours, table(&toy.json["describe"][rows])[neuron], "{method}");
            let want: Vec<f64> =
                table(&toy.json["describe"][vals])[neuron].iter().map(|x| sign * x).collect();
            assert_eq!(context.values, want, "{method}");
        }
    }
}

#[test]
fn quantiles_are_numpy_s() {
    use electrode::methods::Source as _;
    let toy = toy();
    let want = table(&toy.json["describe"]["quantiles"]);
    let matrix = Matrix::new(12, 5, Values::F64(table(&toy.json["x"]).concat()));
    let all = MatrixSource::unlabelled(matrix, std::path::Path::new("toy")).expect("finite");
    all.visit(0..5, true, &mut |neuron, evidence| {
        let shares = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];
        for (share, want) in shares.iter().zip(&want) {
            let ours = evidence.cells.quantile(*share, None).expect("there are rows");
            assert!((ours - want[neuron]).abs() <= BOUND, "{share} of {neuron}");
        }
        let error =
            (evidence.total.variance() - numbers(&toy.json["describe"]["var"])[neuron]).abs();
        assert!(error <= BOUND, "{error:.1e}");
    });
}
