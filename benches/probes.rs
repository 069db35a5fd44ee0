//! Banks of probes on random rows: an epoch of Adam, a pass for gradients and a pass of measures; one JSON
//! line for each shape, with the share of the floor of `docs/kernels/probe_bank.md`.
//!
//! `cargo bench --bench probes -- [--rows N] [--threads T] [--repeat R] [--batch B]`

use std::time::Instant;

use clap::Parser;
use electrode::device::cpu::CpuDevice;
use electrode::device::ops::Ops as _;
use electrode::device::probe_ops::{BankPlan, Feed, Head, ProbeLoss, ProbeOps as _, TaskRows};

#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 10_013)]
    rows: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Given by `cargo bench`.
    #[arg(long)]
    bench: bool,
}

/// Numbers between -1 and 1 that look random.
fn numbers(count: usize) -> Vec<f32> {
    let number = |at: usize| {
        let bits = electrode::hash::mix((at as u64 + 1).wrapping_mul(electrode::hash::GAMMA)) >> 40;
        bits as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(number).collect()
}

/// The fastest of some runs, in seconds.
fn fastest(repeat: usize, mut run: impl FnMut()) -> f64 {
    let clock = |_| {
        let clock = Instant::now();
        run();
        clock.elapsed().as_secs_f64()
    };
    (0..repeat.max(1)).map(clock).fold(f64::INFINITY, f64::min)
}

fn main() {
    let args = Args::parse();
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global().expect("threads");
    for (heads, classes, inputs) in [(18, 17, 384), (1, 17, 384), (18, 17, 2688), (1, 17, 2688)] {
        measure(&args, (heads, classes, inputs));
    }
}

fn measure(args: &Args, (heads, classes, inputs): (usize, usize, usize)) {
    let device = CpuDevice;
    let head = Head {
        task: 0,
        columns: classes,
        loss: ProbeLoss::Softmax,
        l1: 1e-3,
        l2: 1e-2,
        norm: false,
        rate: 1e-3,
    };
    let plan = BankPlan { inputs, tasks: 1, heads: vec![head; heads], masks: None };
    let columns = plan.columns();
    let start: Vec<f32> = numbers(columns * inputs).iter().map(|x| 0.05 * x).collect();
    let mut bank = device.bank(&plan, &start, &vec![0.0; columns]).expect("memory");
    let mut x = device.tensor(args.rows, inputs).expect("memory");
    device.set_rows(&mut x, args.rows);
    device.write(&mut x, &numbers(args.rows * inputs)).expect("an upload");
    let rows: Vec<u32> = (0..u32::try_from(args.rows).expect("few rows")).collect();
    let targets: Vec<f32> = rows.iter().map(|row| (row * 7 % 17) as f32).collect();
    let tasks = [TaskRows { rows: &rows, targets: &targets }];
    let mut pass = |what| {
        fastest(args.repeat, || {
            device.feed(&mut bank, &x, &tasks, what);
            device.end_pass(&mut bank, what);
        })
    };
    let train = pass(Feed::Train { batch: args.batch });
    let (gradient, measured) = (pass(Feed::Gradient), pass(Feed::Measure));
    let flops = 4.0 * (args.rows * inputs * columns) as f64;
    let line = serde_json::json!({
        "workload": "probes", "impl": "electrode", "threads": args.threads, "rows": args.rows,
        "inputs": inputs, "heads": heads, "classes": classes, "batch": args.batch,
        "epoch_s": train, "gradient_s": gradient, "measure_s": measured,
        "epoch_gflops": flops / train / 1e9, "rows_per_s": args.rows as f64 / train,
    });
    #[expect(clippy::print_stdout, reason = "the bench's result")]
    {
        println!("{line}");
    }
}
