//! Clusters and similarities of all-MiniLM-L6-v2 over UD English, and the agreement of methods on it.
//! Oracle: the fixture's `refs.py` (numpy, scipy, float64) and its README's tolerances. Skipped without
//! it, but for the agreement, which is in the repository.

use std::path::PathBuf;
use std::sync::OnceLock;

use electrode::methods::agreement::{Ranked, compatibility};
use electrode::methods::algebra::dense::dot;
use electrode::methods::algebra::{Dense, eigen};
use electrode::methods::clustering::{Likeness, Tree};
use electrode::methods::similarity::canonical::{CUT, SHARE};
use electrode::methods::similarity::moments::{cross_correlations, cross_covariance};
use electrode::methods::similarity::{
    Basis, Keep, Moments, best_partners, canonical, cka_between_layers, explained, linear_cka,
};
use rayon::prelude::*;
use serde_json::Value;

use super::fixture_file::File;
use super::fixtures::{ROWS, TRAIN};
use super::support::{largest_error, shared};

const WIDTH: usize = 384;
const LAYERS: usize = 7;

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON")
}

/// Labelled train rows of a tensor, as columns `[neurons, rows]` less their means, and the means.
fn columns(tensor: &str) -> Option<(Dense, Vec<f64>)> {
    let folder = shared()?;
    let inputs = File::open(&folder, "inputs.safetensors");
    let (all, labels) = (inputs.f64(tensor), inputs.f64("label"));
    let width = all.len() / ROWS;
    let rows = all.chunks(width).zip(&labels).take(TRAIN);
    let rows: Vec<&[f64]> = rows.filter(|(_, label)| **label >= 0.0).map(|(row, _)| row).collect();
    let mut x = Dense::from_fn(width, rows.len(), |j, i| rows[i][j]);
    let means: Vec<f64> =
        (0..width).map(|j| x.row(j).iter().sum::<f64>() / rows.len() as f64).collect();
    for (j, mean) in means.iter().enumerate() {
        x.row_mut(j).iter_mut().for_each(|x| *x -= mean);
    }
    Some((x, means))
}

/// `A B^T` of columns: a covariance but for the number of rows.
fn products(a: &Dense, b: &Dense) -> Dense {
    let across = b.transposed();
    let parts: Vec<usize> = (0..a.rows()).step_by(64).collect();
    let part = |&start: &usize| {
        let rows = start..(start + 64).min(a.rows());
        a.block(rows, 0..a.columns()).product(&across).values().to_vec()
    };
    let values: Vec<Vec<f64>> = parts.par_iter().map(part).collect();
    Dense::new(a.rows(), b.rows(), values.concat())
}

fn moments((x, means): &(Dense, Vec<f64>)) -> Moments {
    Moments::from_sums(x.columns() as u64, &vec![0.0; x.rows()], products(x, x), means)
}

/// All layers at once, and the second model.
struct Both {
    hidden: Moments,
    other: Moments,
    /// The probed layer against the second model.
    cross: Dense,
    /// Columns of both.
    columns: [Dense; 2],
    /// Where the probed layer begins.
    start: usize,
}

impl Both {
    fn layer(&self, start: usize) -> Moments {
        let range = start..start + WIDTH;
        let covariance = self.hidden.covariance.block(range.clone(), range.clone());
        Moments { count: self.hidden.count, mean: self.hidden.mean[range].to_vec(), covariance }
    }
}

fn both() -> Option<&'static Both> {
    static BOTH: OnceLock<Option<Both>> = OnceLock::new();
    let made = || {
        let folder = shared()?;
        let layer = json(folder.join("tokens.json"))["probe_layer"].as_u64().expect("a layer");
        let start = layer as usize * WIDTH;
        let (hidden, other) = (columns("hidden_last")?, columns("modelb_last")?);
        let count = hidden.0.columns();
        let part = hidden.0.block(start..start + WIDTH, 0..count);
        let zeros = (vec![0.0; WIDTH], vec![0.0; other.0.rows()]);
        let between = products(&part, &other.0);
        let cross = cross_covariance(count as u64, (&zeros.0, &zeros.1), between);
        let (own, others) = (moments(&hidden), moments(&other));
        Some(Both { hidden: own, other: others, cross, columns: [part, other.0], start })
    };
    BOTH.get_or_init(made).as_ref()
}

#[test]
fn clusters_of_a_layer() {
    let (Some(folder), Some(both)) = (shared(), both()) else { return };
    let want = File::open(&folder, "expected/clusters.safetensors");
    let counts = json(folder.join("expected/clusters.json"));
    let layer = both.layer(both.start);
    let r = layer.correlations();
    assert!(largest_error(r.values(), &want.f64("correlation")) <= 1e-5);
    for (likeness, name) in [(Likeness::Absolute, "abs"), (Likeness::Signed, "signed")] {
        let tree = Tree::new(&r, &layer.constant(), likeness);
        let heights = want.f64(&format!("heights_{name}"));
        assert!(largest_error(&tree.heights(), &heights) <= 1e-5, "{name}");
        for distance in [0.3, 0.5, 0.7] {
            let key = format!("{name}_{distance}");
            let clusters = tree.cut(distance);
            let labels: Vec<f64> = clusters.labels().into_iter().map(f64::from).collect();
            assert_eq!(labels, want.f64(&format!("labels_{key}")), "{key}");
            assert_eq!(Some(clusters.members().len() as u64), counts[&key]["clusters"].as_u64());
        }
    }
}

#[test]
fn clusters_of_all_layers() {
    let (Some(folder), Some(both)) = (shared(), both()) else { return };
    let want = File::open(&folder, "expected/clusters.safetensors");
    let r = both.hidden.correlations();
    let tree = Tree::new(&r, &both.hidden.constant(), Likeness::Absolute);
    for distance in [0.3, 0.5] {
        let labels: Vec<f64> = tree.cut(distance).labels().into_iter().map(f64::from).collect();
        let want = want.f64(&format!("all_labels_abs_{distance}"));
        let wrong = labels.iter().zip(&want).filter(|(a, b)| a != b).count();
        assert!(labels.len() == want.len() && wrong == 0, "{distance}: {wrong} neurons");
    }
}

#[test]
fn a_layer_against_a_second_model() {
    let (Some(folder), Some(both)) = (shared(), both()) else { return };
    let want = File::open(&folder, "expected/similarity.safetensors");
    let told = json(folder.join("expected/similarity.json"));
    let number = |key: &str| told[key].as_f64().expect("a number");
    let (left, right, cross) = (both.layer(both.start), &both.other, &both.cross);
    let partners = best_partners(&cross_correlations(&left, right, cross));
    let r: Vec<f64> = partners.iter().map(|best| best.r.abs()).collect();
    assert!(largest_error(&r, &want.f64("max_corr")) <= 1e-5);
    let names: Vec<f64> =
        partners.iter().map(|best| f64::from(best.neuron.expect("none is constant"))).collect();
    assert_eq!(names, want.f64("argmax_corr"));
    let cka = linear_cka(&left.covariance, &right.covariance, cross);
    assert!((cka - number("cka_layer_vs_modelb")).abs() <= 1e-4);
    for (keep, name, key) in [
        (Keep::Share(SHARE), "svcca99", "svcca99_mean"),
        (Keep::Dimensions(20), "svcca20", "svcca20_mean"),
    ] {
        let basis = |side: &Moments| Basis::of(&side.covariance, keep).expect("finite");
        let (a, b) = (basis(&left), basis(right));
        if let Keep::Share(_) = keep {
            assert_eq!((a.dimensions() as f64, b.dimensions() as f64), (292.0, 90.0));
            assert_eq!((number("dims_a_99"), number("dims_b_99")), (292.0, 90.0));
        }
        let found = canonical(&a, &b, cross, left.count).expect("enough rows");
        assert!(largest_error(&found.correlations, &want.f64(name)) <= 1e-3, "{name}");
        assert!((found.mean() - number(key)).abs() <= 1e-3, "{key}");
    }
}

/// The second model's layer norms leave three sums constant but for rounding of f32, of 3e-8 of the first
/// singular value. `refs.py` cuts at 1e-10 and keeps them, we cut at 1e-6: its values are ours and what
/// those three directions explain, which is found here from the rows.
#[test]
fn units_regressed_on_a_second_model() {
    let (Some(folder), Some(both)) = (shared(), both()) else { return };
    let want = File::open(&folder, "expected/similarity.safetensors").f64("linreg_r2");
    let left = both.layer(both.start);
    let regressors = Basis::of(&both.other.covariance, Keep::Above(CUT)).expect("finite");
    assert_eq!(regressors.dimensions(), 285);
    let ours = explained(&left, &regressors, &both.cross);
    let [x, z] = &both.columns;
    let rows = left.count as f64;
    // Each row of these is a direction of length 1 over the rows.
    let kept = regressors.whitening.transposed().product(z);
    let mut directions: Vec<Vec<f64>> = kept
        .values()
        .chunks(z.columns())
        .map(|row| row.iter().map(|x| x / rows.sqrt()).collect())
        .collect();
    let vectors = eigen(&both.other.covariance).expect("finite").vectors;
    let across = z.transposed();
    let mut noise = vec![0.0; WIDTH];
    for i in 285..288 {
        let mut direction = across.apply(vectors.row(i));
        for _ in 0..2 {
            for other in &directions {
                let along = dot(&direction, other);
                direction.iter_mut().zip(other).for_each(|(x, other)| *x -= along * other);
            }
        }
        let length = dot(&direction, &direction).sqrt();
        direction.iter_mut().for_each(|x| *x /= length);
        for (n, noise) in noise.iter_mut().enumerate() {
            *noise += dot(x.row(n), &direction).powi(2) / (rows * left.covariance.at(n, n));
        }
        directions.push(direction);
    }
    let together: Vec<f64> = ours.iter().zip(&noise).map(|(r2, noise)| r2 + noise).collect();
    assert!(largest_error(&ours, &want) < 0.01);
    let error = largest_error(&together, &want);
    assert!(error <= 1e-4, "{error:.1e}");
}

#[test]
fn layers_against_each_other() {
    let (Some(folder), Some(both)) = (shared(), both()) else { return };
    let want = File::open(&folder, "expected/similarity.safetensors");
    let range = |i: usize| i * WIDTH..(i + 1) * WIDTH;
    let layers: Vec<Moments> = (0..LAYERS).map(|i| both.layer(i * WIDTH)).collect();
    let crosses: Vec<Dense> = (0..LAYERS * LAYERS)
        .map(|k| both.hidden.covariance.block(range(k / LAYERS), range(k % LAYERS)))
        .collect();
    let found = cka_between_layers(&layers, |i, j| &crosses[i * LAYERS + j]);
    assert!(largest_error(found.values(), &want.f64("cka_layers")) <= 1e-4);
}

#[test]
fn methods_agree_as_published() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/methods/compatibility.json");
    let told = json(path.into());
    let rankings = told["rankings"].as_object().expect("by name");
    let orders: Vec<(&str, Vec<u32>)> = rankings
        .iter()
        .map(|(name, order)| {
            let list = order.as_array().expect("a list").iter();
            (name.as_str(), list.map(|n| n.as_u64().expect("a neuron") as u32).collect())
        })
        .collect();
    let ranked: Vec<Ranked> = orders
        .iter()
        .map(|(name, order)| Ranked { name, judges: *name != "random", order, ..Ranked::default() })
        .collect();
    for size in [10, 20, 50, 100] {
        let found = compatibility(&ranked, size, WIDTH).expect("long enough");
        for (i, ranking) in ranked.iter().enumerate() {
            let want = |key: &str| {
                told["scores"][ranking.name][size.to_string()][key].as_f64().expect("a number")
            };
            let (average, vote) = (found.average_overlap[i], found.neuron_vote[i]);
            assert!((average - want("avg_overlap")).abs() <= 1e-12, "{} {size}", ranking.name);
            assert!((vote - want("neuron_vote")).abs() <= 1e-12, "{} {size}", ranking.name);
        }
    }
}
