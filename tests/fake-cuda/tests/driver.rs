//! The driver as the program's host code meets it.

use crate::support::{Bench, Launch, orders};

#[repr(C)]
struct ResidualArgs {
    y: u64,
    x: u64,
    packs: u64,
}

#[test]
fn a_kernel_of_the_program_runs() {
    let Some(bench) = Bench::new() else { return };
    let x: Vec<f32> = (0..1000).map(|i| i as f32 * 0.25).collect();
    let y: Vec<f32> = (0..1000).map(|i| 3.0 - i as f32).collect();
    for order in orders() {
        bench.fake.set_order(Some(order));
        let (to, from) = (bench.upload(&x).expect("room"), bench.upload(&y).expect("room"));
        let image = fake_cuda::Fake::images().join("residual.bin");
        let launch = Launch { image, kernel: "add_f32", blocks: 2, threads: 256, shared: 0 };
        bench.run(&launch, &ResidualArgs { y: from, x: to, packs: 250 }).expect("a right kernel");
        let got: Vec<f32> = bench.download(to, 1000).expect("a copy");
        let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        assert_eq!(got, want, "{order:?}");
    }
}
