//! Dense algebra. Oracles: plain loops, reconstruction and orthogonality, spectra known in closed form,
//! Penrose's equations.

use electrode::methods::algebra::cholesky::{cholesky, solve};
use electrode::methods::algebra::{Dense, Eigen, eigen, singular};

use super::support::{Random, largest_error};

pub(super) fn random(rows: usize, columns: usize, seed: u64) -> Dense {
    let mut random = Random(seed);
    Dense::new(rows, columns, (0..rows * columns).map(|_| random.normal()).collect())
}

fn gram(x: &Dense) -> Dense {
    x.transposed().product(x)
}

fn far(a: &Dense, b: &Dense) -> f64 {
    assert_eq!((a.rows(), a.columns()), (b.rows(), b.columns()));
    largest_error(a.values(), b.values())
}

fn rebuilt(found: &Eigen) -> Dense {
    let n = found.values.len();
    let scaled = Dense::from_fn(n, n, |i, j| found.values[i] * found.vectors.at(i, j));
    found.vectors.transposed().product(&scaled)
}

#[test]
fn products_are_those_of_loops() {
    for (n, k, m) in [(1, 1, 1), (3, 5, 2), (7, 66, 9), (65, 131, 33), (4, 0, 3)] {
        let (a, b) = (random(n, k, 1), random(k, m, 2));
        let loops =
            Dense::from_fn(n, m, |i, j| (0..k).map(|l| a.at(i, l) * b.at(l, j)).sum::<f64>());
        assert!(far(&a.product(&b), &loops) <= 1e-13 * (k + 1) as f64, "{n} {k} {m}");
        let x: Vec<f64> = b.transposed().values()[..k].to_vec();
        let column: Vec<f64> = (0..n).map(|i| loops.at(i, 0)).collect();
        assert!(largest_error(&a.apply(&x), &column) <= 1e-13 * (k + 1) as f64);
        assert_eq!(a.transposed().transposed(), a);
        assert!((a.squares() - gram(&a).trace()).abs() <= 1e-11 * (k + 1) as f64);
    }
    let a = random(6, 8, 3);
    let part = a.block(2..4, 5..8);
    assert_eq!((part.rows(), part.columns(), part.at(1, 2)), (2, 3, a.at(3, 7)));
}

#[test]
fn eigenvectors_are_orthogonal_and_rebuild_their_matrix() {
    // Full, of low rank, with a spread of 1e24 between rows, diagonal, constant, one number.
    let graded = Dense::from_fn(40, 40, |i, j| 10_f64.powf(-0.3 * (i + j) as f64));
    let cases = [
        gram(&random(90, 70, 4)),
        gram(&random(9, 70, 5)),
        graded,
        Dense::from_fn(20, 20, |i, j| if i == j { (i % 5) as f64 - 2.0 } else { 0.0 }),
        Dense::from_fn(33, 33, |_, _| 1e-200),
        Dense::new(1, 1, vec![-3.0]),
        Dense::zeros(12, 12),
        Dense::zeros(0, 0),
    ];
    for (case, a) in cases.iter().enumerate() {
        let found = eigen(a).expect("finite");
        let n = a.rows();
        let scale = a.values().iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        let bound = 1e-14 * (n as f64).max(1.0) * scale;
        assert!(far(&rebuilt(&found), a) <= bound, "case {case}");
        let square = found.vectors.product(&found.vectors.transposed());
        assert!(far(&square, &Dense::identity(n)) <= 1e-13, "case {case}");
        assert!(found.values.is_sorted_by(|a, b| a >= b), "case {case}");
        let sum: f64 = found.values.iter().sum();
        assert!((sum - a.trace()).abs() <= bound, "case {case}");
        for i in 0..n {
            let row = found.vectors.row(i);
            let longest = row.iter().fold(0.0_f64, |a, &b| if b.abs() > a.abs() { b } else { a });
            assert!(longest > 0.0, "case {case}: the sign is settled");
        }
    }
    let rank = eigen(&cases[1]).expect("finite");
    assert_eq!(rank.above(1e-9), 9);
}

#[test]
fn spectra_known_in_closed_form() {
    // Second differences: 2 - 2 cos(k pi / (n + 1)).
    let n = 101;
    let matrix = Dense::from_fn(n, n, |i, j| match i.abs_diff(j) {
        0 => 2.0,
        1 => -1.0,
        _ => 0.0,
    });
    let found = eigen(&matrix).expect("finite");
    let angle = std::f64::consts::PI / (n + 1) as f64;
    let want: Vec<f64> = (1..=n).rev().map(|k| 2.0 - 2.0 * (k as f64 * angle).cos()).collect();
    assert!(largest_error(&found.values, &want) <= 1e-13);
    // 1 on the diagonal and r beside it: 1 + (n - 1) r once, 1 - r otherwise.
    let equal = Dense::from_fn(50, 50, |i, j| if i == j { 1.0 } else { 0.3 });
    let found = eigen(&equal).expect("finite");
    assert!((found.values[0] - 15.7).abs() <= 1e-13);
    assert!(found.values[1..].iter().all(|x| (x - 0.7).abs() <= 1e-13));
    let broken = Dense::from_fn(4, 4, |i, _| if i == 2 { f64::NAN } else { 1.0 });
    assert!(eigen(&broken).is_none());
}

#[test]
fn the_lower_triangle_is_read() {
    let a = gram(&random(30, 20, 6));
    let noisy = Dense::from_fn(20, 20, |i, j| if j > i { 77.0 } else { a.at(i, j) });
    let (plain, found) = (eigen(&a).expect("finite"), eigen(&noisy).expect("finite"));
    assert!(largest_error(&plain.values, &found.values) <= 1e-12);
}

#[test]
fn whitening_and_the_pseudo_inverse() {
    let a = gram(&random(12, 20, 7));
    let found = eigen(&a).expect("finite");
    let w = found.whitening(12);
    let white = w.transposed().product(&a.product(&w));
    assert!(far(&white, &Dense::identity(12)) <= 1e-12);
    let p = found.pseudo_inverse(1e-9);
    assert!(far(&a.product(&p).product(&a), &a) <= 1e-11, "A P A = A");
    assert!(far(&p.product(&a).product(&p), &p) <= 1e-11, "P A P = P");
    assert!(far(&a.product(&p), &a.product(&p).transposed()) <= 1e-11, "A P is symmetric");
    // Directions below the cut are left out, as an inverse of the others alone.
    let cut = (found.values[4] + found.values[5]) / 2.0;
    let few = eigen(&found.pseudo_inverse(cut)).expect("finite");
    assert_eq!(few.above(1e-9), 5);
    assert!((few.values[0] * found.values[4] - 1.0).abs() <= 1e-12);
}

#[test]
fn singular_values_rebuild_their_matrix() {
    for (rows, columns) in [(5, 9), (9, 5), (6, 6), (1, 4), (3, 0)] {
        let a = random(rows, columns, 8);
        let found = singular(&a).expect("finite");
        let k = rows.min(columns);
        assert_eq!((found.values.len(), found.left.columns(), found.right.columns()), (k, k, k));
        let scaled = Dense::from_fn(k, columns, |i, j| found.values[i] * found.right.at(j, i));
        assert!(far(&found.left.product(&scaled), &a) <= 1e-12, "{rows} x {columns}");
        assert!(far(&gram(&found.left), &Dense::identity(k)) <= 1e-12);
        assert!(far(&gram(&found.right), &Dense::identity(k)) <= 1e-12);
    }
}

#[test]
fn cholesky_solves() {
    let n = 23;
    let a = gram(&random(40, n, 9));
    let factor = cholesky(a.values().to_vec(), n).expect("positive definite");
    let lower = Dense::from_fn(n, n, |i, j| if j <= i { factor[i * n + j] } else { 0.0 });
    assert!(far(&lower.product(&lower.transposed()), &a) <= 1e-12 * a.trace());
    let x: Vec<f64> = random(1, n, 10).values().to_vec();
    let mut b = a.apply(&x);
    solve(&factor, &mut b);
    assert!(largest_error(&b, &x) <= 1e-10);
    let flat = gram(&random(3, n, 11));
    let shifted = Dense::from_fn(n, n, |i, j| flat.at(i, j) - f64::from(u8::from(i == j)));
    assert_eq!(cholesky(shifted.values().to_vec(), n), None);
}
