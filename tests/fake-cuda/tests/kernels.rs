//! Kernels of the program, run through the driver. Oracle: the same sums in Rust.

use crate::support::{Bench, Launch, Order};

#[repr(C)]
struct ResidualArgs {
    y: u64,
    x: u64,
    packs: u64,
}

#[test]
fn residual_adds_in_any_order() {
    let Some(bench) = Bench::new() else { return };
    let x: Vec<f32> = (0..1000).map(|i| i as f32 * 0.25).collect();
    let y: Vec<f32> = (0..1000).map(|i| 3.0 - i as f32).collect();
    for order in [Order::Forward, Order::Reverse, Order::Random(7)] {
        bench.fake.set_order(Some(order));
        let (to, from) = (bench.upload(&x).expect("room"), bench.upload(&y).expect("room"));
        let image = fake_cuda::Fake::images().join("residual.bin");
        let launch = Launch { image, kernel: "add_f32", blocks: 2, threads: 256, shared: 0 };
        bench.run(&launch, &ResidualArgs { y: from, x: to, packs: 250 }).expect("a correct kernel");
        let got: Vec<f32> = bench.download(to, 1000).expect("a copy");
        let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        assert_eq!(got, want, "{order:?}");
    }
}

#[test]
fn a_diverged_barrier_names_its_line() {
    let Some(bench) = Bench::new() else { return };
    let out = bench.room(256).expect("room");
    let image = fake_cuda::mutants().join("diverged_barrier.bin");
    let launch = Launch { image, kernel: "diverged_barrier", blocks: 1, threads: 64, shared: 0 };
    let error = bench.run(&launch, &out).expect_err("it is wrong");
    assert_eq!(error.0 as i32, 719);
    let report = bench.fake.report(bench.ordinal);
    assert!(report.contains("diverged_barrier.cu:11"), "{report}");
}
