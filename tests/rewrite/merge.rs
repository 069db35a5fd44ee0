//! Merging neurons that say the same. Oracles: average linkage by its definition, pair by pair;
//! least squares by the normal equations; a model with planted duplicates, which loses nothing.

use std::path::Path;

use electrode::rewrite::activations::{Activations, Matrix};
use electrode::rewrite::cluster::{clusters, correlations, representative};
use electrode::rewrite::means::read_means;
use electrode::rewrite::merge::merge;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::{Raw, assert_close, differ, floats, golden, make, open, raw, run};
use crate::run_folder::Noise;

/// Average linkage as it is defined: merge the two clusters of smallest mean distance.
fn by_definition(similarity: &[f64], n: usize, count: usize) -> Vec<Vec<usize>> {
    let mut clusters: Vec<Vec<usize>> = (0..n).map(|i| vec![i]).collect();
    while clusters.len() > count {
        let mean = |a: &[usize], b: &[usize]| -> f64 {
            let pairs = a.iter().flat_map(|i| b.iter().map(move |j| 1.0 - similarity[i * n + j]));
            pairs.sum::<f64>() / (a.len() * b.len()) as f64
        };
        let pairs = (0..clusters.len()).flat_map(|a| (0..a).map(move |b| (b, a)));
        let (a, b) = pairs
            .min_by(|x, y| {
                let of = |(a, b): (usize, usize)| mean(&clusters[a], &clusters[b]);
                of(*x).total_cmp(&of(*y))
            })
            .expect("there are two");
        let taken = clusters.remove(b);
        clusters[a].extend(taken);
        clusters[a].sort_unstable();
    }
    clusters.sort();
    clusters
}

fn random(rows: usize, columns: usize, seed: u64) -> Matrix {
    let mut noise = Noise::new(seed);
    // A few causes, so that there is something to find.
    let mix: Vec<f64> = (0..4 * columns).map(|_| noise.normal()).collect();
    let mut values = Vec::new();
    for _ in 0..rows {
        let causes: Vec<f64> = (0..4).map(|_| noise.normal()).collect();
        for column in 0..columns {
            let sum: f64 = (0..4).map(|cause| causes[cause] * mix[4 * column + cause]).sum();
            values.push(sum + 0.3 * noise.normal());
        }
    }
    Matrix { rows, columns, values }
}

#[test]
fn clusters_are_those_of_average_linkage() {
    for seed in 1..6 {
        let matrix = random(60, 17, seed);
        let similarity = correlations(&matrix);
        for count in [1, 2, 5, 9, 16, 17] {
            let got = clusters(&similarity, 17, count);
            assert_eq!(got, by_definition(&similarity, 17, count), "{seed} {count}");
            assert_eq!(got.len(), count);
        }
    }
}

#[test]
fn correlations_have_no_sign_and_constants_none() {
    // Columns: x, -2x + 1, constant, something else.
    let rows = [1.0, 2.0, 4.0, 3.0];
    let columns = rows.iter().zip([1.0, 1.0, 1.0, -1.0]);
    let values = columns.flat_map(|(x, y)| [*x, 1.0 - 2.0 * x, 7.0, y]).collect();
    let r = correlations(&Matrix { rows: 4, columns: 4, values });
    let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
    assert!(near(r[1], 1.0) && near(r[4], 1.0), "{r:?}");
    assert_eq!((r[2], r[10], r[11]), (0.0, 1.0, 0.0));
    // Deviations -3 -1 3 1 and 1 1 1 -3, halved: -1 of sqrt(5 * 3).
    assert!(near(r[3], 1.0 / 15.0_f64.sqrt()), "{}", r[3]);
    // 0 - 1 - 2 with 2 in the middle.
    let line = [1.0, 0.1, 0.8, 0.1, 1.0, 0.7, 0.8, 0.7, 1.0];
    let of_line = |a: usize, b: usize| line[a * 3 + b];
    assert_eq!(representative(&[0, 1, 2], of_line), 2);
    assert_eq!(representative(&[0, 2], of_line), 0, "of equals the first");
}

/// The activations of a fixture on its own ids, as `extract --corpus` would write them.
fn activations(model: &Path, ids: &Path, file: &Path) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let width = open(model).spec.mlp.width;
    let all = run(model, ids, None);
    let acts = all.iter().filter(|(name, _)| name.ends_with(".mlp_act"));
    let acts: Vec<(String, Vec<usize>, Vec<f32>)> = acts
        .map(|(name, array)| {
            let values = floats(array).to_vec();
            (name.clone(), vec![values.len() / width, width], values)
        })
        .collect();
    let bytes: Vec<Vec<u8>> =
        acts.iter().map(|(.., v)| v.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = acts.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("fits"))
    });
    let bytes = safetensors::serialize(views, None).expect("serialises");
    std::fs::write(file, bytes).expect("written");
    acts
}

#[test]
fn keeping_all_neurons_changes_nothing() {
    let home = tempfile::tempdir().expect("a temporary folder");
    for name in ["gpt2-tied", "qwen3-qknorm"] {
        let fixture = golden(name);
        let file = home.path().join("acts.safetensors");
        activations(&fixture, &fixture, &file);
        let model = open(&fixture);
        let acts = Activations::open(&file).expect("opens");
        let (rewrite, layers) = merge(&model, &acts, 1.0).expect("merges");
        assert!(layers.iter().all(|layer| layer.lost == 0.0));
        let made = make(rewrite);
        assert_eq!(made.written.changed, 0);
        assert_eq!(raw(&made.folder), raw(&fixture));
    }
}

#[test]
fn means_are_taken_over_the_rows() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let fixture = golden("gpt2-tied");
    let file = home.path().join("acts.safetensors");
    let acts = activations(&fixture, &fixture, &file);
    let means = read_means(&file, &open(&fixture)).expect("readable");
    assert_eq!(means.len(), acts.len());
    for (layer, (_, shape, values)) in acts.iter().enumerate() {
        for (neuron, got) in means[&layer].iter().enumerate() {
            let column = values.iter().skip(neuron).step_by(shape[1]).map(|&x| f64::from(x));
            let want = column.sum::<f64>() / shape[0] as f64;
            assert!((got - want).abs() <= 1e-12, "{layer} {neuron}: {got} {want}");
        }
    }
    let error = read_means(&fixture.join("model.safetensors"), &open(&fixture)).err();
    assert!(error.is_some_and(|error| error.to_string().contains("no layer has its means")));
}

/// Gives neurons `half..2 half` of each layer the input weights of the first `half`.
fn plant(fixture: &Path, to: &Path) {
    let model = open(fixture);
    let (width, half) = (model.spec.mlp.width, model.spec.mlp.width / 2);
    let mut tensors: Raw = raw(fixture);
    for (name, (_, shape, bytes)) in &mut tensors {
        // GPT-2 stores a column for each neuron, the others a row; biases are one row of neurons.
        let (rows, length) = match shape[..] {
            [rows, columns] if name.contains("c_fc") => (rows, 4 * columns),
            _ if ["c_fc", "up_proj", "gate_proj"].iter().any(|part| name.contains(part)) => {
                (1, bytes.len())
            }
            _ => continue,
        };
        for row in 0..rows {
            let row = &mut bytes[row * length..][..length];
            row.copy_within(..length / width * half, length / width * half);
        }
    }
    std::fs::create_dir(to).expect("made");
    std::fs::copy(fixture.join("config.json"), to.join("config.json")).expect("copied");
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).expect("fits"))
    });
    let bytes = safetensors::serialize(views, None).expect("serialises");
    std::fs::write(to.join("model.safetensors"), bytes).expect("written");
}

#[test]
fn planted_duplicates_are_merged_and_nothing_is_lost() {
    let home = tempfile::tempdir().expect("a temporary folder");
    for name in ["gpt2-tied", "qwen3-qknorm"] {
        let fixture = golden(name);
        let planted = home.path().join(name);
        plant(&fixture, &planted);
        let file = home.path().join("acts.safetensors");
        activations(&planted, &fixture, &file);
        let model = open(&planted);
        let acts = Activations::open(&file).expect("opens");
        let width = model.spec.mlp.width;
        let (half, odd) = (width / 2, width % 2);
        let share = (half + odd) as f64 / width as f64;
        let (rewrite, layers) = merge(&model, &acts, share).expect("merges");
        for layer in &layers {
            assert_eq!(layer.kept.len(), half + odd);
            let pairs = layer.kept.iter().filter(|&&n| n < 2 * half).map(|n| n % half);
            let pairs: std::collections::BTreeSet<usize> = pairs.collect();
            assert!(pairs.into_iter().eq(0..half), "{name}: one of each pair {:?}", layer.kept);
            assert!(layer.lost < 1e-9, "{name}: {}", layer.lost);
        }
        let made = make(rewrite);
        assert_eq!(open(&made.folder).spec.mlp.width, half + odd);
        let end = model.spec.layers - 1;
        let (got, want) = (run(&made.folder, &fixture, None), run(&planted, &fixture, None));
        assert_close(name, (&got, end), (&want, end), 3e-5);
        assert!(differ(&want, &run(&fixture, &fixture, None)), "{name}");
        // With fewer, something is.
        let (_, layers) = merge(&model, &acts, 0.2).expect("merges");
        assert!(layers.iter().all(|layer| layer.lost > 1e-4), "{name}: {layers:?}");
    }
}

/// Against the normal equations, on activations where nothing is exact.
#[test]
fn what_is_merged_is_the_least_squares_fit() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let fixture = golden("gpt2-tied");
    let file = home.path().join("acts.safetensors");
    let acts = activations(&fixture, &fixture, &file);
    let model = open(&fixture);
    let (width, stream) = (model.spec.mlp.width, model.spec.width);
    let file = Activations::open(&file).expect("opens");
    let (rewrite, layers) = merge(&model, &file, 0.4).expect("merges");
    let made = make(rewrite);
    let down = |folder: &Path, kind: &str| {
        let (_, _, bytes) = &raw(folder)[&format!("transformer.h.0.mlp.c_proj.{kind}")];
        let fours = bytes.chunks_exact(4);
        fours
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().expect("four"))))
            .collect::<Vec<_>>()
    };
    let (old, new) = (down(&fixture, "weight"), down(&made.folder, "weight"));
    let (_, shape, values) = acts.iter().find(|(name, ..)| name.contains(".0.")).expect("there");
    let values: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
    let matrix = Matrix { rows: shape[0], columns: width, values };
    let similarity = correlations(&matrix);
    let count = layers[0].kept.len();
    assert_eq!(count, (0.4 * width as f64).ceil() as usize);
    let column = |n: usize| matrix.values.iter().skip(n).step_by(width).copied();
    let rows = matrix.rows as f64;
    let mut bias = down(&fixture, "bias");
    for cluster in clusters(&similarity, width, count) {
        let r = representative(&cluster, |a, b| similarity[a * width + b]);
        let place = layers[0].kept.binary_search(&r).expect("it is kept");
        let mut want = old[r * stream..][..stream].to_vec();
        for n in cluster.into_iter().filter(|&n| n != r) {
            let (sx, sy): (f64, f64) = (column(r).sum(), column(n).sum());
            let sxx: f64 = column(r).map(|x| x * x).sum();
            let sxy: f64 = column(r).zip(column(n)).map(|(x, y)| x * y).sum();
            let slope = (rows * sxy - sx * sy) / (rows * sxx - sx * sx);
            let intercept = (sy - slope * sx) / rows;
            for (i, v) in old[n * stream..][..stream].iter().enumerate() {
                want[i] += slope * v;
                bias[i] += intercept * v;
            }
        }
        for (got, want) in new[place * stream..][..stream].iter().zip(want) {
            assert!((got - want).abs() <= 1e-6 * want.abs().max(0.1), "{got} {want}");
        }
    }
    for (got, want) in down(&made.folder, "bias").iter().zip(bias) {
        assert!((got - want).abs() <= 1e-6 * want.abs().max(0.1), "{got} {want}");
    }
}

#[test]
fn impossible_merges_are_refused() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let fixture = golden("gpt2-tied");
    let file = home.path().join("acts.safetensors");
    activations(&fixture, &fixture, &file);
    let acts = Activations::open(&file).expect("opens");
    let model = open(&fixture);
    for share in [0.0, -1.0, 1.5, f64::NAN] {
        let error = merge(&model, &acts, share).err().expect("no share");
        assert!(error.to_string().contains("is no share"), "{error}");
    }
    let other = open(&golden("qwen3-qknorm"));
    if other.spec.mlp.width != model.spec.mlp.width {
        let error = merge(&other, &acts, 0.5).err().expect("another model's");
        assert_eq!(error.exit_code(), 65);
        assert!(error.to_string().contains("a layer has"), "{error}");
    }
}
