//! What is done with neurons once they are known: suspicious inputs, and other domains.
//! Oracles: planted triggers and shifts, by hand; pairs counted one by one.

use std::path::Path;

use electrode::methods::Matrix;
use electrode::methods::domain_shift::{DomainShift, LinearHead, chosen_and_oracle};
use electrode::methods::matrix::Values;
use electrode::methods::normal_bounds::{NormalBounds, Settings, auroc};

use super::support::Random;

const HERE: &str = "planted.safetensors";

fn matrix(rows: usize, values: Vec<f64>) -> Matrix {
    Matrix::new(rows, values.len() / rows, Values::F64(values))
}

/// Rows of 60 normal neurons of their own scale, the last one constant; with a trigger, ten of them
/// are eight deviations off.
fn activations(random: &mut Random, rows: usize, trigger: bool) -> Matrix {
    let mut values = Vec::new();
    for _ in 0..rows {
        for neuron in 0..60 {
            let scale = 1.0 + neuron as f64;
            let off = if trigger && neuron % 6 == 0 { 8.0 } else { 0.0 };
            values.push(match neuron {
                59 => 2.5,
                _ => scale * (random.normal() + off),
            });
        }
    }
    matrix(rows, values)
}

#[test]
fn triggers_leave_the_bounds_of_clean_rows() {
    let mut random = Random(5);
    let clean = activations(&mut random, 400, false);
    let (new, poisoned) =
        (activations(&mut random, 200, false), activations(&mut random, 200, true));
    let settings = Settings::default();
    let bounds = NormalBounds::fit(&clean, &settings, Path::new(HERE)).expect("fits");
    assert_eq!(bounds.held_out.len(), 200);
    let flagged = |rows: &Matrix| bounds.flagged(&bounds.scores(rows));
    let share = |flags: Vec<bool>| flags.iter().filter(|flag| **flag).count() as f64 / 200.0;
    assert!(share(bounds.flagged(&bounds.held_out)) <= 0.05, "on the rows that set the threshold");
    assert!(share(flagged(&new)) <= 0.1, "{}", share(flagged(&new)));
    assert_eq!(share(flagged(&poisoned)), 1.0);
    let (clean_scores, others) = (bounds.scores(&new), bounds.scores(&poisoned));
    assert_eq!(auroc(&clean_scores, &others, Path::new(HERE)).expect("two classes"), 1.0);
    // A constant neuron is allowed its value and no other.
    assert_eq!(bounds.intervals[59], (2.5 - 1e-6, 2.5 + 1e-6));
    for (n, x) in bounds.purified(&poisoned, 3).into_iter().enumerate() {
        let (low, high) = bounds.intervals[n];
        let before = poisoned.get(3, n);
        assert!(x == before || x == low || x == high, "{n}: {before} became {x}");
        assert!((low..=high).contains(&x) && (n % 6 != 0 || x == high), "{n}: {x}");
    }
    let again = NormalBounds::fit(&clean, &settings, Path::new(HERE)).expect("fits");
    assert_eq!(bounds, again);
    let other = NormalBounds::fit(&clean, &Settings { seed: 1, ..settings }, Path::new(HERE));
    assert_ne!(bounds.intervals, other.expect("fits").intervals);
}

#[test]
fn the_area_under_the_curve_counts_pairs() {
    let (clean, suspicious) = ([0.9, 0.5, 0.7, 0.5], [0.5, 0.2, 0.8]);
    let mut sum = 0.0;
    for c in clean {
        for s in suspicious {
            sum += if c > s { 1.0 } else { f64::from(u8::from(c == s)) / 2.0 };
        }
    }
    let found = auroc(&clean, &suspicious, Path::new(HERE)).expect("two classes");
    assert!((found - sum / 12.0).abs() < 1e-12, "{found} for {}", sum / 12.0);
}

#[test]
fn too_few_rows_and_foolish_settings_are_refused() {
    let three = matrix(3, vec![1.0; 6]);
    let fit = |rows: &Matrix, settings: Settings| {
        NormalBounds::fit(rows, &settings, Path::new(HERE)).expect_err("refused").exit_code()
    };
    assert_eq!(fit(&three, Settings::default()), 65);
    let four = matrix(4, vec![1.0; 8]);
    assert_eq!(fit(&four, Settings { delta: 0.0, ..Settings::default() }), 2);
    assert_eq!(fit(&matrix(4, vec![f64::NAN; 8]), Settings::default()), 65);
}

/// Two classes told apart by neuron 0; in the target domain neuron 1, which the head reads too, is
/// far off.
fn domain(random: &mut Random, rows: usize, offset: f64) -> (Matrix, Vec<usize>) {
    let (mut values, mut classes) = (Vec::new(), Vec::new());
    for row in 0..rows {
        let class = row % 2;
        let side = if class == 1 { 1.0 } else { -1.0 };
        values.push(side + 0.2 * random.normal());
        values.push(offset + 0.2 * random.normal());
        values.extend((0..6).map(|_| random.normal()));
        classes.push(class);
    }
    (matrix(rows, values), classes)
}

#[test]
fn a_planted_shift_is_undone() {
    let mut random = Random(9);
    let (source, _) = domain(&mut random, 300, 0.0);
    let (target, classes) = domain(&mut random, 200, 5.0);
    let mut weight = vec![0.0; 16];
    (weight[8], weight[9]) = (1.0, 1.0);
    let head = LinearHead { weight: matrix(2, weight), bias: vec![0.0, 0.0] };
    let shift = DomainShift::fit(&source, &target, Path::new(HERE)).expect("fits");
    assert_eq!(shift.order[0], 1, "the neuron that tells the domains apart");
    assert!((shift.difference[1] + 5.0).abs() < 0.1);
    let development: Vec<usize> = (0..40).collect();
    let grid = (&[1, 4][..], &[0.25, 1.0, 4.0][..]);
    let choices = shift.choices(&head, (&target, &classes), &development, grid);
    assert_eq!((choices.len(), choices[0].k), (7, 0));
    assert!((choices[0].test - 0.5).abs() < 1e-12, "everything is of class 1 before");
    let (chosen, oracle) = chosen_and_oracle(&choices).expect("some");
    assert_eq!((chosen.k, chosen.beta), (1, 1.0));
    assert!(chosen.test > 0.98 && oracle.test >= chosen.test, "{chosen:?} {oracle:?}");
    // The second of eight neurons moves by 0.001^(1/7) of its difference.
    let moved = shift.moved(&target, 0, (2, 1.0));
    let second = shift.order[1] as usize;
    let want = target.get(0, second) + 0.001_f64.powf(1.0 / 7.0) * shift.difference[second];
    assert!((moved[second] - want).abs() < 1e-12);
}

/// Writes matrices of f32 and labels of i64 as safetensors.
fn write(path: &Path, matrices: &[(&str, &Matrix)], labels: Option<&[i64]>) {
    use safetensors::tensor::TensorView;
    let mut data: Vec<(&str, safetensors::Dtype, Vec<usize>, Vec<u8>)> = matrices
        .iter()
        .map(|(name, matrix)| {
            let (rows, columns) = (matrix.rows(), matrix.columns());
            let value = |at: usize| (matrix.get(at / columns, at % columns) as f32).to_le_bytes();
            let bytes = (0..rows * columns).flat_map(value).collect();
            (*name, safetensors::Dtype::F32, vec![rows, columns], bytes)
        })
        .collect();
    if let Some(labels) = labels {
        let bytes = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        data.push(("labels", safetensors::Dtype::I64, vec![labels.len()], bytes));
    }
    let views = data.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.clone(), bytes).expect("fits"))
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("serialized"))
        .expect("written");
}

#[test]
fn the_commands_flag_clamp_and_adapt() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut random = Random(9);
    let clean = activations(&mut random, 300, false);
    let (new, poisoned) = (activations(&mut random, 40, false), activations(&mut random, 40, true));
    let both: Vec<f64> = [&new, &poisoned]
        .iter()
        .flat_map(|rows| (0..40 * 60).map(|at| rows.get(at / 60, at % 60)))
        .collect();
    let labels: Vec<i64> = (0..80).map(|row| i64::from(row < 40)).collect();
    write(Path::new(&path("clean.safetensors")), &[("x", &clean)], None);
    write(Path::new(&path("rows.safetensors")), &[("x", &matrix(80, both))], Some(&labels));
    let tensor = |file: &str, name: &str| format!("{}:{name}", path(file));
    let (clean, rows) = (tensor("clean.safetensors", "x"), tensor("rows.safetensors", "x"));
    let (truth, out) = (tensor("rows.safetensors", "labels"), path("flags.json"));
    let purified = path("purified.safetensors");
    let args = ["detect", "--clean", &clean, "--rows", &rows, "--out", &out];
    let more = ["--labels", &truth, "--purified", &purified];
    let ran = crate::cli::run(&[&args[..], &more].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&out).expect("flags")).expect("JSON");
    assert_eq!(report["measured"]["auroc"], 1.0);
    assert_eq!(report["measured"]["false_acceptance_rate"], 0.0);
    assert!(ran.stdout.contains("AUROC 1.000"), "{}", ran.stdout);
    // What was clamped is suspicious no more.
    let again = tensor("purified.safetensors", "purified");
    let ran = crate::cli::run(&["detect", "--clean", &clean, "--rows", &again, "--out", &out]);
    assert!(ran.code == 0 && ran.stdout.starts_with("0 of 80"), "{} {}", ran.stdout, ran.stderr);
    // A classifier by the sign of neuron 0, whose other domain is shifted by 4.
    let domain = |shift: f64, random: &mut Random| {
        let row = |at: usize, random: &mut Random| {
            let side = if at.is_multiple_of(2) { 1.0 } else { -1.0 };
            [side + 0.1 * random.normal() + shift, random.normal(), random.normal()]
        };
        matrix(60, (0..60).flat_map(|at| row(at, random)).collect())
    };
    let (source, target) = (domain(0.0, &mut random), domain(4.0, &mut random));
    let classes: Vec<i64> = (0..60).map(|at| i64::from(at % 2 == 1)).collect();
    let weight = matrix(2, vec![1.0, 0.0, 0.0, -1.0, 0.0, 0.0]);
    write(Path::new(&path("a.safetensors")), &[("s", &source), ("w", &weight)], None);
    write(Path::new(&path("b.safetensors")), &[("t", &target)], Some(&classes));
    let [s, w] = ["s", "w"].map(|name| tensor("a.safetensors", name));
    let [t, c] = ["t", "labels"].map(|name| tensor("b.safetensors", name));
    let args =
        ["adapt", "--source", &s, "--target", &t, "--classes", &c, "--weight", &w, "--out", &out];
    let ran = crate::cli::run(&args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&out).expect("choices")).expect("JSON");
    let right = |key: &str| report[key]["test"].as_f64().expect("a number");
    assert!((right("unmoved") - 0.5).abs() < 0.2 && right("chosen") == 1.0, "{report}");
    assert_eq!(report["order"][0], 0);
    for (change, part) in [
        (&["--sizes", "9"][..], "choose 1 to 3"),
        (&["--development", "1"], "some to test"),
        (&["--betas", "0"], "above 0"),
    ] {
        let ran = crate::cli::run(&[&args[..], change].concat());
        assert!(ran.code == 2 && ran.stderr.contains(part), "{change:?}: {}", ran.stderr);
    }
}

/// In a linear model the class flips where the algebra says: from 3 towards a mean of 0.5 by steps of
/// -2.5, the boundary at 1 is passed at a strength of 0.8.
#[test]
fn translating_a_neuron_flips_the_class_at_the_known_strength() {
    let source = matrix(4, vec![0.0, 1.0, 0.25, 0.75]);
    let target = matrix(2, vec![3.0, 3.0]);
    let shift = DomainShift::fit(&source, &target, Path::new(HERE)).expect("fits");
    let head = LinearHead { weight: matrix(2, vec![-1.0, 1.0]), bias: vec![0.0, -2.0] };
    let class = |alpha: f64| head.classify(&shift.moved(&target, 0, (1, alpha)));
    assert_eq!(head.classify(&[3.0]), 1);
    assert_eq!([0.1, 0.5, 0.79].map(class), [1, 1, 1]);
    assert_eq!([0.81, 1.0, 4.0].map(class), [0, 0, 0]);
}
