//! Second moments of columns on a GPU.
//! Oracle: loops in f64 over the same values (`kernels::gram`), and for f32 the CPU device; the laws of the
//! CPU device to the bit.

use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::moment_ops::MomentOps;

use super::rows::{assert_refused, kept, tensor};
use crate::cuda::{device, on_both};
use crate::kernels::gram::{Case, SHAPES, Shape, assert_same};

/// Few columns, where blocks have the smaller squares, and many.
const MORE: [Shape; 3] = [((40, 300, None), 1), ((530, 140, Some(270)), 1), ((600, 258, None), 2)];

fn case((shape, classes): Shape, element: Element) -> Case {
    Case::new(shape, classes, |x| kept(element, x))
}

#[test]
fn moments_are_those_of_a_plain_loop() {
    on_both(|gpu, element| {
        for shape in SHAPES.into_iter().chain(MORE) {
            let case = case(shape, element);
            let ours = case.run(gpu, 250);
            case.check(&ours);
            if element == Element::F32 {
                for (ours, want) in
                    ours.iter().flatten().zip(case.run(&CpuDevice::F32, 250).concat())
                {
                    assert!((ours - want).abs() <= 1e-3, "{ours} on the CPU {want}");
                }
            }
        }
    });
}

#[test]
fn bits_do_not_depend_on_calls() {
    on_both(|gpu, element| {
        for shape in [((1300, 70, None), 2), ((530, 20, Some(100)), 1)] {
            let case = case(shape, element);
            let want = case.run(gpu, usize::MAX);
            for at_a_time in [97, 511, 512] {
                let what = format!("{element:?} {shape:?}, {at_a_time} at a time");
                assert_same(&case.run(gpu, at_a_time), &want, &what);
            }
        }
    });
}

#[test]
fn bits_depend_neither_on_the_square_nor_on_other_classes() {
    on_both(|gpu, element| {
        // 6 squares of 128 are more than the fake driver's processors; 3 are fewer.
        let case = case(((1200, 258, None), 2), element);
        let all = case.run(gpu, usize::MAX);
        for class in 0..2 {
            assert_same(&case.only(class).run(gpu, 400), &all[class..=class], "one class");
        }
        assert_same(&case.with_itself().run(gpu, usize::MAX), &all, "both halves");
    });
}

#[test]
fn rows_and_columns_that_do_not_belong_never_reach_the_kernel() {
    let Some(gpu) = device(Element::F32) else { return };
    let (x, z) = (tensor(&gpu, 4, &[1.0; 8]), tensor(&gpu, 3, &[1.0; 6]));
    let mut moments = gpu.moments(4, None, 1).unwrap();
    assert_refused("", || gpu.add_moments(&mut moments, (&x, None), (&[2], &[0])));
    assert_refused("", || gpu.add_moments(&mut moments, (&x, None), (&[0], &[1])));
    assert_refused("", || gpu.add_moments(&mut moments, (&x, Some(&z)), (&[0], &[0])));
    assert_refused("", || gpu.add_moments(&mut moments, (&z, None), (&[0], &[0])));
    gpu.add_moments(&mut moments, (&x, None), (&[0, 1], &[0, 0]));
    assert_eq!(gpu.take_moments(moments).unwrap(), [vec![2.0; 16]]);
}
