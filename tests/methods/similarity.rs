//! Similarities from second moments. Oracles: the definitions over rows in plain loops, O-cka of
//! methods.md, laws (rotations, invertible maps, standardising), the toy of `refs.py`.

use electrode::methods::algebra::{Dense, eigen};
use electrode::methods::similarity::canonical::CUT;
use electrode::methods::similarity::moments::{cross_correlations, cross_covariance};
use electrode::methods::similarity::{
    Across, Basis, Keep, Moments, NormSums, RbfKernel, across, best_partners, canonical,
    cka_between_layers, debiased_cka, explained, linear_cka,
};
use serde_json::Value;

use super::algebra::random;
use super::clustering::moments;
use super::support::largest_error;
use super::toy::{numbers, table};

fn sums(x: &Dense) -> Vec<f64> {
    (0..x.columns()).map(|j| (0..x.rows()).map(|i| x.at(i, j)).sum()).collect()
}

pub(super) fn cross(x: &Dense, z: &Dense) -> Dense {
    let products = x.transposed().product(z);
    cross_covariance(x.rows() as u64, (&sums(x), &sums(z)), products)
}

/// Rows that share `shared` hidden numbers with others of the same `seed`.
fn mixed(rows: usize, columns: usize, (shared, seed, own): (usize, u64, u64)) -> Dense {
    let hidden = random(rows, shared, seed).product(&random(shared, columns, own));
    let noise = random(rows, columns, own + 1);
    Dense::from_fn(rows, columns, |i, j| hidden.at(i, j) + 0.5 * noise.at(i, j) + j as f64)
}

fn cka(x: &Dense, z: &Dense) -> f64 {
    linear_cka(&moments(x).covariance, &moments(z).covariance, &cross(x, z))
}

/// Sums of the rows x - shift.
fn norms(x: &Dense, z: &Dense, shifts: (&[f64], &[f64])) -> NormSums {
    let mut out =
        NormSums { products: 0.0, left: vec![0.0; x.columns()], right: vec![0.0; z.columns()] };
    for i in 0..x.rows() {
        let row = |x: &Dense, shift: &[f64]| -> Vec<f64> {
            x.row(i).iter().zip(shift).map(|(x, shift)| x - shift).collect()
        };
        let (a, b) = (row(x, shifts.0), row(z, shifts.1));
        let (a2, b2) = (a.iter().map(|x| x * x).sum::<f64>(), b.iter().map(|x| x * x).sum::<f64>());
        out.products += a2 * b2;
        out.left.iter_mut().zip(&a).for_each(|(sum, x)| *sum += b2 * x);
        out.right.iter_mut().zip(&b).for_each(|(sum, z)| *sum += a2 * z);
    }
    out
}

fn debiased(x: &Dense, z: &Dense) -> Option<f64> {
    let (left, right) = (moments(x), moments(z));
    let one = |(a, m): (&Dense, &Moments), (b, p): (&Dense, &Moments)| {
        let shifts = (vec![0.3; a.columns()], vec![-0.2; b.columns()]);
        let shifts = (&*shifts.0, &*shifts.1);
        norms(a, b, shifts).centred((m, p), &cross(a, b), shifts)
    };
    let (l, r) = ((x, &left), (z, &right));
    debiased_cka(&left, &right, &cross(x, z), [one(l, r), one(l, l), one(r, r)])
}

/// Song et al. 2012, equation 5, over the kernels of all pairs of rows.
fn unbiased_hsic(x: &Dense, z: &Dense) -> f64 {
    let n = x.rows();
    let kernel = |x: &Dense| {
        let k = x.product(&x.transposed());
        Dense::from_fn(n, n, |i, j| if i == j { 0.0 } else { k.at(i, j) })
    };
    let (k, l) = (kernel(x), kernel(z));
    let kl = k.product(&l);
    let all = |m: &Dense| m.values().iter().sum::<f64>();
    let rows = n as f64;
    (kl.trace() + all(&k) * all(&l) / ((rows - 1.0) * (rows - 2.0)) - 2.0 / (rows - 2.0) * all(&kl))
        / (rows * (rows - 3.0))
}

#[test]
fn second_moments_are_those_of_the_rows() {
    let (x, z) = (mixed(50, 6, (3, 1, 2)), mixed(50, 4, (3, 1, 9)));
    let stats = moments(&x);
    let mean: Vec<f64> = sums(&x).iter().map(|sum| sum / 50.0).collect();
    assert!(largest_error(&stats.mean, &mean) <= 1e-12);
    let mean_z: Vec<f64> = sums(&z).iter().map(|sum| sum / 50.0).collect();
    let found = cross(&x, &z);
    for (a, m) in mean.iter().enumerate() {
        for (b, p) in mean_z.iter().enumerate() {
            let part = |i| (x.at(i, a) - m) * (z.at(i, b) - p);
            let want = (0..50).map(part).sum::<f64>() / 50.0;
            assert!((found.at(a, b) - want).abs() <= 1e-12);
        }
    }
    let own = cross(&x, &x);
    assert!(largest_error(stats.covariance.values(), own.values()) <= 1e-11);
    // Large means and small spreads, which sums of squares lose: the shift keeps them.
    let far = Dense::from_fn(50, 2, |i, j| 1e8 + x.at(i, j));
    let want = moments(&x.block(0..50, 0..2)).covariance;
    assert!(largest_error(moments(&far).covariance.values(), want.values()) <= 1e-6);
}

/// O-cka: X and XQ, X and an independent Z.
#[test]
fn cka_is_1_of_a_rotation_and_0_of_strangers() {
    let x = mixed(300, 20, (5, 1, 2));
    let turn = eigen(&moments(&random(40, 20, 6)).covariance).expect("finite").vectors;
    let turned = x.product(&turn);
    assert!((cka(&x, &turned) - 1.0).abs() <= 1e-12);
    assert!((debiased(&x, &turned).expect("there") - 1.0).abs() <= 1e-10);
    let z = random(300, 20, 77);
    assert!(debiased(&x, &z).expect("there").abs() < 0.02);
    assert!(cka(&x, &z) > 0.03, "which the plain one does not see: {}", cka(&x, &z));
    // A rotation of one side alone, a scale, or an order of neurons changes nothing.
    let other = mixed(300, 15, (5, 1, 40));
    let (plain, fair) = (cka(&x, &other), debiased(&x, &other).expect("there"));
    let moved = Dense::from_fn(300, 20, |i, j| -3.0 * turned.at(i, (j + 7) % 20));
    assert!((cka(&moved, &other) - plain).abs() <= 1e-12);
    assert!((debiased(&moved, &other).expect("there") - fair).abs() <= 1e-11);
    assert!((cka(&other, &x) - plain).abs() <= 1e-13);
    assert_eq!(cka(&x, &Dense::from_fn(300, 3, |_, _| 4.0)), 0.0);
    assert_eq!(debiased(&x, &Dense::from_fn(300, 3, |_, _| 4.0)), None);
    assert_eq!(debiased(&random(3, 2, 1), &random(3, 2, 2)), None, "too few rows");
}

fn rbf(x: &Dense, bandwidth: f64) -> RbfKernel {
    let values: Vec<f32> = x.values().iter().map(|x| *x as f32).collect();
    RbfKernel::new(&values, x.columns(), bandwidth)
}

/// `H K H` by its definition over the rows as f32 has them.
fn gaussian(x: &Dense, bandwidth: f64) -> Dense {
    let n = x.rows();
    let apart = |i: usize, j: usize| -> f64 {
        let both = x.row(i).iter().zip(x.row(j));
        both.map(|(a, b)| f64::from(*a as f32 - *b as f32).powi(2)).sum()
    };
    let mut all: Vec<f64> =
        (0..n).flat_map(|i| (i + 1..n).map(move |j| apart(i, j).sqrt())).collect();
    all.sort_by(f64::total_cmp);
    let sigma = bandwidth * all[all.len() / 2];
    let kernel = Dense::from_fn(n, n, |i, j| (-apart(i, j) / (2.0 * sigma * sigma)).exp());
    let centring = Dense::from_fn(n, n, |i, j| f64::from(u8::from(i == j)) - 1.0 / n as f64);
    centring.product(&kernel).product(&centring)
}

#[test]
fn rbf_cka_is_that_of_its_definition() {
    for (rows, bandwidth) in [(17, 1.0), (60, 0.4), (300, 0.2), (300, 2.0)] {
        let (x, z) = (mixed(rows, 7, (2, 4, 50)), mixed(rows, 11, (2, 4, 60)));
        let (k, l) = (gaussian(&x, bandwidth), gaussian(&z, bandwidth));
        let along = |a: &Dense, b: &Dense| -> f64 {
            a.values().iter().zip(b.values()).map(|(x, y)| x * y).sum()
        };
        let want = along(&k, &l) / (along(&k, &k) * along(&l, &l)).sqrt();
        let found = rbf(&x, bandwidth).cka(&rbf(&z, bandwidth));
        assert!((found - want).abs() <= 1e-6, "{rows} {bandwidth}: {found} {want}");
    }
}

/// O-cka once more, and its limit: with a wide kernel it is the linear one (Kornblith et al. 2019).
#[test]
fn rbf_cka_is_1_of_a_rotation_and_linear_when_wide() {
    let (x, z) = (mixed(200, 20, (5, 1, 2)), mixed(200, 15, (5, 1, 40)));
    let turn = eigen(&moments(&random(40, 20, 6)).covariance).expect("finite").vectors;
    let turned = x.product(&turn);
    let moved = Dense::from_fn(200, 20, |i, j| -3.0 * turned.at(i, j) + 5.0);
    assert!((rbf(&x, 0.5).cka(&rbf(&moved, 0.5)) - 1.0).abs() <= 1e-6);
    assert!((rbf(&x, 300.0).cka(&rbf(&z, 300.0)) - cka(&x, &z)).abs() <= 1e-4);
    let narrow = rbf(&x, 0.3).cka(&rbf(&z, 0.3));
    assert!((narrow - cka(&x, &z)).abs() > 0.01, "which a narrow one is not: {narrow}");
    // What no linear map sees: a circle, and the same points by the double of their angle.
    let angle = |i: usize| i as f64 * std::f64::consts::TAU / 200.0;
    let circle = |times: f64| {
        Dense::from_fn(200, 2, move |i, j| match j {
            0 => (times * angle(i)).cos(),
            _ => (times * angle(i)).sin(),
        })
    };
    let (once, twice) = (circle(1.0), circle(2.0));
    assert!(cka(&once, &twice) < 1e-6);
    assert!(rbf(&once, 0.3).cka(&rbf(&twice, 0.3)) > 0.1);
    let constant = rbf(&Dense::from_fn(200, 3, |_, _| 4.0), 0.5);
    assert_eq!(rbf(&x, 0.5).cka(&constant), 0.0);
    // Rows that are there many times do not make the median nought.
    let twins = Dense::from_fn(200, 3, |i, j| if i < 150 { 1.0 } else { x.at(i, j) });
    assert!((rbf(&twins, 0.5).cka(&rbf(&twins, 0.5)) - 1.0).abs() <= 1e-6);
}

#[test]
fn debiased_cka_is_the_unbiased_estimate_over_all_pairs_of_rows() {
    for (rows, seed) in [(5, 1), (12, 2), (40, 3)] {
        let (x, z) = (mixed(rows, 7, (2, seed, 50)), mixed(rows, 11, (2, seed, 60)));
        let own = unbiased_hsic(&x, &x) * unbiased_hsic(&z, &z);
        let want = unbiased_hsic(&x, &z) / own.sqrt();
        let found = debiased(&x, &z).expect("there");
        assert!((found - want).abs() <= 1e-10, "{rows}: {found} {want}");
    }
}

#[test]
fn canonical_correlations_do_not_change_with_invertible_maps() {
    let (x, z) = (mixed(200, 8, (3, 1, 2)), mixed(200, 6, (3, 1, 9)));
    let map = random(8, 8, 12);
    let mapped = x.product(&map);
    let of = |x: &Dense, z: &Dense, keep: Keep| {
        let basis = |x: &Dense| Basis::of(&moments(x).covariance, keep).expect("finite");
        canonical(&basis(x), &basis(z), &cross(x, z), 200).expect("enough rows")
    };
    let all = Keep::Share(1.0);
    let (plain, found) = (of(&x, &z, all), of(&mapped, &z, all));
    assert_eq!(plain.correlations.len(), 6);
    assert!(largest_error(&plain.correlations, &found.correlations) <= 1e-8);
    assert!(plain.correlations[0] > 0.9 && plain.correlations[5] < 0.5, "{plain:?}");
    let itself = of(&x, &mapped, all);
    assert!((itself.mean() - 1.0).abs() <= 1e-8, "svcca 1 for any invertible map");
    // The variates have variance 1, and the correlations they are said to have.
    for (a, left) in [(&plain.left, &x), (&plain.right, &z)] {
        let own = a.transposed().product(&moments(left).covariance.product(a));
        assert!(largest_error(own.values(), Dense::identity(6).values()) <= 1e-9);
    }
    let between = plain.left.transposed().product(&cross(&x, &z).product(&plain.right));
    let want = Dense::from_fn(6, 6, |i, j| if i == j { plain.correlations[i] } else { 0.0 });
    assert!(largest_error(between.values(), want.values()) <= 1e-9);
}

#[test]
fn projection_weights_and_loadings_are_those_of_the_rows() {
    let (x, z) = (mixed(150, 7, (2, 1, 2)), mixed(150, 5, (2, 1, 9)));
    let left = moments(&x);
    let basis = |x: &Dense| Basis::of(&moments(x).covariance, Keep::Share(0.99)).expect("finite");
    let found = canonical(&basis(&x), &basis(&z), &cross(&x, &z), 150).expect("enough rows");
    // h = (X - mean) W, [rows, k].
    let centred = Dense::from_fn(150, 7, |i, j| x.at(i, j) - left.mean[j]);
    let h = centred.product(&found.left);
    let inner = |i: usize, j: usize| (0..150).map(|t| h.at(t, i) * centred.at(t, j)).sum::<f64>();
    let weights: Vec<f64> =
        (0..h.columns()).map(|i| (0..7).map(|j| inner(i, j).abs()).sum()).collect();
    let sum: f64 = weights.iter().zip(&found.correlations).map(|(w, r)| w * r).sum();
    let want = sum / weights.iter().sum::<f64>();
    assert!((found.projection_weighted(&left.covariance) - want).abs() <= 1e-12);
    let r = |i: usize, j: usize| {
        let norm = |f: &dyn Fn(usize) -> f64| (0..150).map(|t| f(t) * f(t)).sum::<f64>().sqrt();
        inner(i, j) / (norm(&|t| h.at(t, i)) * norm(&|t| centred.at(t, j)))
    };
    for top in [1, 2] {
        let ranking = found.loadings(&left, top);
        assert!(ranking.scores.is_sorted_by(|a, b| a >= b));
        for (&neuron, score) in ranking.order.iter().zip(&ranking.scores) {
            let explained: f64 = (0..top).map(|i| r(i, neuron as usize).powi(2)).sum();
            assert!((score - explained.sqrt()).abs() <= 1e-10);
        }
    }
}

#[test]
fn directions_are_kept_by_share_number_or_cut() {
    // Variances 6, 3, 1 and 0.
    let covariance =
        Dense::from_fn(4, 4, |i, j| if i == j { [3.0, 6.0, 0.0, 1.0][i] } else { 0.0 });
    let kept = |keep| Basis::of(&covariance, keep).expect("finite").dimensions();
    assert_eq!(kept(Keep::Share(0.6)), 1, "as large as the share is enough");
    assert_eq!(kept(Keep::Share(0.61)), 2);
    assert_eq!(kept(Keep::Share(1.0)), 3);
    assert_eq!(kept(Keep::Dimensions(2)), 2);
    assert_eq!(kept(Keep::Dimensions(9)), 3, "no more than there are");
    // The roots of 3 / 6 and of 1 / 6.
    assert_eq!(
        (kept(Keep::Above(0.41)), kept(Keep::Above(0.7)), kept(Keep::Above(0.71))),
        (2, 2, 1)
    );
    assert_eq!(kept(Keep::Above(1e-6)), 3);
    assert_eq!(Basis::of(&Dense::zeros(3, 3), Keep::Share(0.99)).expect("finite").dimensions(), 0);
    let broken = Dense::from_fn(2, 2, |_, _| f64::NAN);
    assert!(Basis::of(&broken, Keep::Share(0.99)).is_err());
    let basis = Basis::of(&covariance, Keep::Share(1.0)).expect("finite");
    let few = canonical(&basis, &basis, &covariance, 3).expect_err("as many directions as rows");
    assert!(few.to_string().contains("3 rows for 3 directions"), "{few}");
}

#[test]
fn neurons_of_other_models() {
    let mut x = mixed(120, 6, (3, 1, 2));
    let mut z = mixed(120, 5, (3, 1, 9));
    for i in 0..120 {
        x.row_mut(i)[4] = 2.5; // constant
        let copy = 3.0 - 2.0 * x.at(i, 1);
        z.row_mut(i)[2] = copy; // mirrors our neuron 1
        z.row_mut(i)[4] = z.at(i, 0) + z.at(i, 3); // collinear
    }
    let (left, right) = (moments(&x), moments(&z));
    let r = cross_correlations(&left, &right, &cross(&x, &z));
    let partners = best_partners(&r);
    assert_eq!(partners[1].neuron, Some(2));
    assert!((partners[1].r + 1.0).abs() <= 1e-12);
    assert_eq!((partners[4].neuron, partners[4].r), (None, 0.0));
    let basis = Basis::of(&right.covariance, Keep::Above(CUT)).expect("finite");
    assert_eq!(basis.dimensions(), 4);
    let shares = explained(&left, &basis, &cross(&x, &z));
    assert!((shares[1] - 1.0).abs() <= 1e-10 && shares[4] == 0.0, "{shares:?}");
    assert!(shares.iter().zip(&partners).all(|(r2, best)| *r2 >= best.r * best.r - 1e-10));
    // A collinear regressor adds nothing to those it is made of.
    let some = z.block(0..120, 0..4);
    let basis = Basis::of(&moments(&some).covariance, Keep::Above(CUT)).expect("finite");
    assert!(largest_error(&explained(&left, &basis, &cross(&x, &some)), &shares) <= 1e-10);
    let scores = [vec![0.2, 0.9, 0.0], vec![0.5, 0.1, 0.0]];
    assert_eq!(across(&scores, Across::Any), [0.5, 0.9, 0.0]);
    assert_eq!(across(&scores, Across::All), [0.2, 0.1, 0.0]);
}

#[test]
fn standardised_neurons_have_correlations_for_covariances() {
    let (x, z) = (mixed(90, 5, (2, 1, 2)), mixed(90, 4, (2, 1, 9)));
    let scale = |x: &Dense| {
        let stats = moments(x);
        Dense::from_fn(x.rows(), x.columns(), |i, j| {
            (x.at(i, j) - stats.mean[j]) / stats.covariance.at(j, j).sqrt()
        })
    };
    let (own, want) = (moments(&x).standardised(), moments(&scale(&x)));
    assert!(largest_error(own.covariance.values(), want.covariance.values()) <= 1e-12);
    let found = cross_correlations(&moments(&x), &moments(&z), &cross(&x, &z));
    assert!(largest_error(found.values(), cross(&scale(&x), &scale(&z)).values()) <= 1e-12);
}

#[test]
fn layers_are_compared_with_each_other() {
    let layers: Vec<Dense> = (0..3).map(|l| mixed(80, 5 + l, (3, 1, 20 + 5 * l as u64))).collect();
    let stats: Vec<Moments> = layers.iter().map(moments).collect();
    let crosses: Vec<Vec<Dense>> =
        layers.iter().map(|a| layers.iter().map(|b| cross(a, b)).collect()).collect();
    let found = cka_between_layers(&stats, |i, j| &crosses[i][j]);
    for i in 0..3 {
        for j in 0..3 {
            let want = if i == j { 1.0 } else { cka(&layers[i], &layers[j]) };
            assert!((found.at(i, j) - want).abs() <= 1e-12);
        }
    }
}

#[test]
fn the_toy_of_the_fixture() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/methods/toy.json");
    let text = std::fs::read(path).expect("it is in the repository");
    let json: Value = serde_json::from_slice(&text).expect("it is JSON");
    let x = Dense::new(12, 5, table(&json["x"]).concat());
    let stats = moments(&x);
    let want = table(&json["correlation"]).concat();
    assert!(largest_error(stats.correlations().values(), &want) <= 1e-9);
    assert!(largest_error(&stats.mean, &numbers(&json["describe"]["mean"])) <= 1e-9);
    let variances = numbers(&json["describe"]["var"]);
    assert!(largest_error(&stats.covariance.diagonal(), &variances) <= 1e-9);
    let (a, b) = (x.block(0..12, 0..2), x.block(0..12, 2..5));
    let want = json["cka_01_234"].as_f64().expect("a number");
    assert!((cka(&a, &b) - want).abs() <= 1e-9);
    let basis = Basis::of(&moments(&b).covariance, Keep::Above(CUT)).expect("finite");
    let shares = explained(&moments(&a), &basis, &cross(&a, &b));
    assert!(largest_error(&shares, &numbers(&json["linreg_r2"])) <= 1e-9);
}
