//! The methods on activations of all-MiniLM-L6-v2 over UD English.
//! Oracle: the fixture's `refs.py` (numpy, float64), its README's tolerances. Skipped without it.

use std::path::Path;

use electrode::methods::matrix::Values;
use electrode::methods::{Explanation, Matrix, MatrixSource, Source as _};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::support::{
    by_neuron, follows, labels, largest_error, relative_error, run, shared, source, values,
};

/// A tensor file of the fixture.
pub(crate) struct File(Vec<u8>);

impl File {
    pub(crate) fn open(folder: &Path, name: &str) -> Self {
        Self(std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}")))
    }

    pub(crate) fn f64(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.0).expect("the fixture is whole");
        let tensor = file.tensor(name).expect("the fixture holds it");
        let data = tensor.data();
        match tensor.dtype() {
            Dtype::F64 => data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
            Dtype::F32 => {
                data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect()
            }
            Dtype::I64 => {
                data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect()
            }
            Dtype::I32 => {
                data.as_chunks().0.iter().map(|&b| f64::from(i32::from_le_bytes(b))).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn f32(&self, name: &str) -> Vec<f32> {
        self.f64(name).into_iter().map(|x| x as f32).collect()
    }

    fn table(&self, name: &str, rows: usize) -> Vec<Vec<f64>> {
        let all = self.f64(name);
        all.chunks(all.len() / rows).map(<[f64]>::to_vec).collect()
    }
}

const CLASSES: usize = 14;
const TRAIN: usize = 1151;
const ROWS: usize = 1514;

/// Labelled train rows of a tensor of the inputs.
fn train(folder: &Path, tensor: &str) -> MatrixSource {
    let inputs = File::open(folder, "inputs.safetensors");
    let mut values = inputs.f32(tensor);
    values.truncate(values.len() / ROWS * TRAIN);
    let label = |&class: &f64| (class >= 0.0).then_some(class as u32);
    let labels: Vec<Option<u32>> = inputs.f64("label")[..TRAIN].iter().map(label).collect();
    source(TRAIN, Values::F32(values), &labels)
}

#[test]
fn class_statistics() {
    let Some(folder) = shared() else { return };
    let source = train(&folder, "hidden_last");
    let want = File::open(&folder, "expected/class_stats.safetensors");
    let (mean, var) = (want.table("mean", CLASSES), want.table("var", CLASSES));
    let mut ours = vec![(Vec::new(), Vec::new()); CLASSES];
    source.visit(0..source.neurons(), false, &mut |_, evidence| {
        for (class, stat) in evidence.classes.iter().enumerate() {
            ours[class].0.push(stat.mean);
            ours[class].1.push(stat.variance());
        }
    });
    for (class, (means, variances)) in ours.iter().enumerate() {
        assert_eq!(source.design().classes[class].rows as f64, want.f64("count")[class]);
        assert!(relative_error(means, &mean[class]) <= 1e-6, "mean of {class}");
        assert!(relative_error(variances, &var[class]) <= 1e-5, "variance of {class}");
    }
}

#[test]
fn probeless_by_class_and_overall() {
    let Some(folder) = shared() else { return };
    let source = train(&folder, "hidden_last");
    let ranking = run("probeless", &source);
    let want = File::open(&folder, "expected/probeless.safetensors");
    for (class, want) in want.table("per_tag", CLASSES).iter().enumerate() {
        let group = &ranking.groups[class];
        assert!(relative_error(&by_neuron(group, &group.scores), want) <= 1e-5, "{class}");
        assert!(follows(
            (group, &source),
            want,
            1e-5 * want.iter().fold(0.0, |a: f64, b| a.max(*b))
        ));
    }
    let (overall, want) = (ranking.overall.expect("there are classes"), want.f64("overall"));
    assert!(relative_error(&by_neuron(&overall, &overall.scores), &want) <= 1e-5);
    assert!(follows((&overall, &source), &want, 1e-9));
}

/// Every class's values against a tensor of the fixture, and its ranking through `score`.
fn check(
    source: &MatrixSource,
    (method, file, tensor): (&str, &File, &str),
    error: fn(&[f64], &[f64]) -> f64,
    bound: f64,
) {
    let ranking = run(method, source);
    let ours = values(&ranking);
    for (class, want) in file.table(tensor, CLASSES).iter().enumerate() {
        let error = error(&ours[class], want);
        assert!(error <= bound, "{method} against {tensor}, class {class}: {error:.1e}");
        let score = |x: &f64| match method {
            "auroc" => (x - 0.5).abs(),
            _ => x.abs(),
        };
        let scores: Vec<f64> = want.iter().map(score).collect();
        let scale = scores.iter().fold(1.0, |a: f64, b| a.max(*b));
        assert!(
            follows((&ranking.groups[class], source), &scores, bound * scale),
            "{method}, class {class}"
        );
    }
}

#[test]
fn concepts_on_hidden_states() {
    let Some(folder) = shared() else { return };
    let source = train(&folder, "hidden_last");
    let file = File::open(&folder, "expected/concept_hidden.safetensors");
    check(&source, ("ap", &file, "ap"), largest_error, 1e-6);
    check(&source, ("auroc", &file, "auc"), largest_error, 1e-6);
    check(&source, ("iou:tau=0", &file, "iou_pos"), largest_error, 1e-12);
    check(&source, ("iou:alpha=0.2", &file, "iou_q80"), largest_error, 1e-12);
    check(&source, ("iou", &file, "iou_q95"), largest_error, 1e-12);
    check(&source, ("selectivity", &file, "mean_select"), largest_error, 1e-5);
    check(&source, ("fstat", &file, "f_stat"), relative_error, 1e-3);
    check(&source, ("corr", &file, "pearson"), largest_error, 1e-5);
    check(&source, ("iou-neurox", &file, "neurox_iou_ap"), largest_error, 1e-6);
    let ap2 = values(&run("ap2", &source));
    let (up, down) = (file.table("ap", CLASSES), file.table("ap_neg", CLASSES));
    for class in 0..CLASSES {
        let best = up[class].iter().zip(&down[class]).map(|(a, b)| a.max(*b));
        assert!(largest_error(&ap2[class], &best.collect::<Vec<_>>()) <= 1e-6, "{class}");
    }
}

#[test]
fn concepts_on_mlp_neurons() {
    let Some(folder) = shared() else { return };
    let source = train(&folder, "mlp_last");
    let file = File::open(&folder, "expected/concept_mlp.safetensors");
    check(&source, ("ap", &file, "ap"), largest_error, 1e-6);
    check(&source, ("iou:tau=0", &file, "iou_pos"), largest_error, 1e-12);
    let names = ["on_p50", "on_p90", "off_mean"];
    let want = names.map(|name| file.table(name, CLASSES));
    let mut ours = [(); 3].map(|()| vec![Vec::new(); CLASSES]);
    source.visit(0..source.neurons(), true, &mut |_, evidence| {
        let [medians, nineties, rests] = &mut ours;
        for class in 0..CLASSES {
            let at = |q| evidence.cells.quantile(q, Some(class as u32)).expect("it has rows");
            medians[class].push(at(0.5));
            nineties[class].push(at(0.9));
            rests[class].push(evidence.rest(class).mean);
        }
    });
    for class in 0..CLASSES {
        assert!(relative_error(&ours[0][class], &want[0][class]) <= 1e-6, "median {class}");
        assert!(relative_error(&ours[1][class], &want[1][class]) <= 1e-6, "p90 {class}");
        assert!(largest_error(&ours[2][class], &want[2][class]) <= 1e-5, "mean {class}");
    }
}

#[test]
fn contexts_are_the_top_rows_of_the_statistics() {
    let Some(folder) = shared() else { return };
    let inputs = File::open(&folder, "inputs.safetensors");
    for (tensor, file) in [("hidden_last", "stats_hidden"), ("mlp_last", "stats_mlp")] {
        let file = File::open(&folder, &format!("expected/{file}.safetensors"));
        let values = inputs.f32(tensor);
        let matrix = Matrix::new(ROWS, values.len() / ROWS, Values::F32(values));
        let neurons = matrix.columns();
        let source = MatrixSource::unlabelled(matrix, Path::new("inputs")).expect("finite");
        for (method, rows, vals, sign) in [
            ("topctx:k=20", "top_rows", "top_vals", 1.0),
            ("topctx:k=20,side=bottom", "bottom_rows", "bottom_vals", -1.0),
        ] {
            let ranking = run(method, &source);
            let Explanation::Contexts(contexts) = ranking.explanation else { panic!() };
            let (rows, vals) = (file.table(rows, neurons), file.table(vals, neurons));
            for (neuron, context) in contexts.iter().enumerate() {
                let ours: Vec<f64> = context.rows.iter().map(|&row| row as f64).collect();
                assert_eq!(ours, rows[neuron], "{method}, neuron {neuron}");
                let want: Vec<f64> = vals[neuron].iter().map(|x| sign * x).collect();
                assert_eq!(context.values, want, "{method}, neuron {neuron}");
            }
        }
    }
}

#[test]
fn words_are_neurox_s() {
    let Some(folder) = shared() else { return };
    let json = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(folder.join(name)).expect("readable")).expect("JSON")
    };
    let tokens = json("tokens.json");
    let sentences = tokens["sentences"].as_array().expect("sentences");
    let words = sentences.iter().flat_map(|s| s["words"].as_array().expect("words"));
    let words: Vec<&str> = words.map(|word| word.as_str().expect("a string")).collect();
    let mut types = words.clone();
    types.sort_unstable();
    types.dedup();
    let class = |word: &&str| types.binary_search(word).ok().map(|i| i as u32);
    let of_row: Vec<Option<u32>> = words.iter().map(class).collect();
    let inputs = File::open(&folder, "inputs.safetensors");
    let values = inputs.f32("hidden_last");
    let matrix = Matrix::new(ROWS, values.len() / ROWS, Values::F32(values));
    let source = MatrixSource::new(matrix, &labels(&of_row), Path::new("inputs")).expect("finite");
    let ranking = run("topword:max=0", &source);
    let Explanation::Words(lists) = ranking.explanation else { panic!("no words") };
    for (neuron, want) in json("expected/top_words.json")["neurons"].as_object().expect("neurons") {
        let ours = &lists[neuron.parse::<usize>().expect("a number")];
        assert_eq!(ours.len() as u64, want["n_above"].as_u64().expect("a count"));
        for (place, entry) in want["top"].as_array().expect("a list").iter().enumerate() {
            let (word, score) =
                (entry[0].as_str().expect("word"), entry[1].as_f64().expect("score"));
            let found = ours.iter().find(|own| types[own.class as usize] == word).expect("kept");
            assert!((found.score - score).abs() <= 1e-5, "{neuron}: {word}");
            assert!((ours[place].score - score).abs() <= 1e-5, "{neuron}: rank {place}");
        }
    }
}
