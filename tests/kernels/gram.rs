//! Second moments of columns, class by class.
//! Oracle: the definition in f64 (O-brute); the bound is twice the error of plain loops that add in f32 over
//! 512 rows of a class. Where rows are cut, and how many threads there are, changes no bit.

use electrode::device::cpu::CpuDevice;
use electrode::device::moment_ops::{MomentOps, TILE};
use electrode::device::ops::Ops;

use crate::laws::data::Random;
use crate::tensors::tensor;

/// Rows, columns of x and of z, and classes.
pub(crate) type Shape = ((usize, usize, Option<usize>), usize);

/// Rows with a class each, and what is asked of them.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) left: usize,
    pub(crate) right: Option<usize>,
    classes: usize,
    x: Vec<f32>,
    z: Vec<f32>,
    /// Row of the tensors, and class, in the order in which they are added.
    rows: Vec<u32>,
    of_class: Vec<u32>,
}

impl Case {
    /// Some rows are left out, some are there twice, and some classes have few.
    pub(crate) fn new(
        (rows, left, right): (usize, usize, Option<usize>),
        classes: usize,
        kept: impl Fn(f32) -> f32,
    ) -> Self {
        let mut random = Random((rows * 31 + left) as u64 + classes as u64);
        let mut some = |n: usize| -> Vec<f32> { (0..n).map(|_| kept(random.normal())).collect() };
        let (x, z) = (some(rows * left), some(rows * right.unwrap_or(0)));
        let mut random = Random(rows as u64);
        let rows: Vec<u32> = (0..rows as u32)
            .flat_map(|row| match random.below(20) {
                0 => vec![],
                1 => vec![row, row / 2],
                _ => vec![row],
            })
            .collect();
        let class = |_: &u32| (random.below(1 << classes) as u32).trailing_ones() % classes as u32;
        let of_class = rows.iter().map(class).collect();
        Self { left, right, classes, x, z, rows, of_class }
    }

    /// Moments of rows that come so many at a time.
    pub(crate) fn run<O: MomentOps>(&self, ops: &O, at_a_time: usize) -> Vec<Vec<f64>> {
        let x = tensor(ops, self.left, &self.x);
        let z = self.right.map(|right| tensor(ops, right, &self.z));
        let mut moments = ops.moments(self.left, self.right, self.classes).expect("memory");
        for (rows, classes) in self.rows.chunks(at_a_time).zip(self.of_class.chunks(at_a_time)) {
            ops.add_moments(&mut moments, (&x, z.as_ref()), (rows, classes));
            ops.check().expect("rows are added");
        }
        ops.take_moments(moments).expect("moments are handed over")
    }

    /// Rows of a class.
    fn of(&self, class: usize) -> Vec<usize> {
        let rows = self.rows.iter().zip(&self.of_class);
        rows.filter(|(_, own)| **own as usize == class).map(|(row, _)| *row as usize).collect()
    }

    /// By the definition in f64, and plainly.
    fn expected(&self, class: usize) -> Vec<(f64, f64)> {
        let right = self.right.unwrap_or(self.left);
        let z = if self.right.is_some() { &self.z } else { &self.x };
        let rows = self.of(class);
        let one = |i: usize| {
            let (a, b) = (i / right, i % right);
            let pair = |&row: &usize| (self.x[row * self.left + a], z[row * right + b]);
            let exact = rows.iter().map(pair).map(|(x, z)| f64::from(x) * f64::from(z)).sum();
            let plain = rows
                .chunks(TILE)
                .map(|rows| f64::from(rows.iter().map(pair).map(|(x, z)| x * z).sum::<f32>()));
            (exact, plain.sum::<f64>())
        };
        (0..self.left * right).map(one).collect()
    }

    /// Holds moments against what they should be.
    pub(crate) fn check(&self, ours: &[Vec<f64>]) {
        assert_eq!(ours.len(), self.classes);
        for (class, ours) in ours.iter().enumerate() {
            let expected = self.expected(class);
            assert_eq!(ours.len(), expected.len());
            let (mut error, mut bound, mut largest) = (0.0_f64, 0.0_f64, 0.0_f64);
            for (ours, (exact, plain)) in ours.iter().zip(&expected) {
                assert!(ours.is_finite(), "{ours}");
                error = error.max((ours - exact).abs());
                bound = bound.max((plain - exact).abs());
                largest = largest.max(exact.abs());
            }
            let bound = (2.0 * bound).max(1e-7 * largest);
            let shape = (self.of(class).len(), self.left, self.right, class);
            assert!(error <= bound, "{shape:?}: {error:e} > {bound:e}");
        }
    }

    /// The rows of one class alone.
    pub(crate) fn only(&self, class: usize) -> Self {
        let rows: Vec<u32> = self.of(class).into_iter().map(|row| row as u32).collect();
        Self { classes: 1, of_class: vec![0; rows.len()], rows, ..self.clone() }
    }

    /// x with itself as with another tensor.
    pub(crate) fn with_itself(&self) -> Self {
        assert_eq!(self.right, None);
        Self { right: Some(self.left), z: self.x.clone(), ..self.clone() }
    }
}

/// A part of a tile, tiles and a part; ends of panels and of
/// six rows; classes that get no row.
pub(crate) const SHAPES: [Shape; 7] = [
    ((3, 1, None), 1),
    ((700, 5, Some(1)), 2),
    ((1100, 64, None), 1),
    ((513, 65, Some(130)), 1),
    ((1700, 70, None), 3),
    ((90, 130, None), 9),
    ((0, 4, Some(7)), 2),
];

/// The same bits.
pub(crate) fn assert_same(ours: &[Vec<f64>], want: &[Vec<f64>], what: &str) {
    assert_eq!(ours.len(), want.len(), "{what}");
    for (ours, want) in ours.iter().zip(want) {
        let same = ours.iter().map(|x| x.to_bits()).eq(want.iter().map(|x| x.to_bits()));
        assert!(same, "{what}");
    }
}

#[test]
fn moments_are_those_of_a_plain_loop() {
    for (shape, classes) in SHAPES {
        let case = Case::new(shape, classes, |x| x);
        case.check(&case.run(&CpuDevice::F32, 250));
    }
}

#[test]
fn bits_do_not_depend_on_calls_or_threads() {
    for (shape, classes) in [((1300, 70, None), 2), ((600, 20, Some(100)), 1)] {
        let case = Case::new(shape, classes, |x| x);
        let want = case.run(&CpuDevice::F32, usize::MAX);
        for threads in [1, 2, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for at_a_time in [1, 97, 512] {
                let ours = pool.install(|| case.run(&CpuDevice::F32, at_a_time));
                assert_same(&ours, &want, &format!("{threads} threads, {at_a_time} at a time"));
            }
        }
    }
}

#[test]
fn a_class_is_as_if_it_were_alone() {
    let case = Case::new((1700, 70, None), 3, |x| x);
    let all = case.run(&CpuDevice::F32, 300);
    for class in 0..3 {
        assert_same(&case.only(class).run(&CpuDevice::F32, 300), &all[class..=class], "one class");
    }
    let twice = case.with_itself().run(&CpuDevice::F32, 300);
    assert_same(&twice, &all, "both halves");
}

#[test]
fn columns_are_shifted_and_scaled() {
    let (shift, scale) = (vec![0.5, -1.0, 3.0], vec![2.0, 1.0, -0.5]);
    let mut x = tensor(&CpuDevice::F32, 3, &[1.0, 2.0, 3.0, -1.0, 0.0, 5.0]);
    CpuDevice::F32.rescale(&shift, &scale, &mut x);
    assert_eq!(x.values(), [1.0, 3.0, -0.0, -3.0, 1.0, -1.0]);
}

#[test]
#[should_panic(expected = "beyond the tensor")]
fn a_row_outside_the_tensor_is_a_broken_invariant() {
    let x = tensor(&CpuDevice::F32, 2, &[1.0; 6]);
    let mut moments = CpuDevice::F32.moments(2, None, 1).unwrap();
    CpuDevice::F32.add_moments(&mut moments, (&x, None), (&[3], &[0]));
    CpuDevice::F32.check().unwrap();
}
