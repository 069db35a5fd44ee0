//! Each operation of the CPU device by itself: bytes, operations, time, and the share of the ceiling that
//! was measured in the same run. One line for each kernel, `--out` appends them to a CSV.
//!
//! The floor of a kernel is what its bytes take at the rate of a copy, or its operations at the rate that
//! registers alone reach, whichever is more; its share is the floor by its time. Bytes are those that must
//! move: each input and output once. What stays in a cache between kernels is faster than a copy, so that
//! small tensors have shares above 1. Kernels take turns, and medians are told.
//!
//! `cargo bench --bench kernels -- [--width 768] [--neurons 3072] [--heads 12] [--tokens 2048] [--bf16]`

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use electrode::corpus::batch::Batch;
use electrode::device::cpu::CpuDevice;
use electrode::device::ops::{AttentionArgs, Epilogue, NormWeights, Ops, ScoreBias};
use electrode::device::rows::BatchRows;
use electrode::device::statistics::StatisticsPlan;
use electrode::id::RowId;
use electrode::model::{Activation, NormKind, NormSpec};

#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 768)]
    width: usize,
    #[arg(long, default_value_t = 3072)]
    neurons: usize,
    #[arg(long, default_value_t = 12)]
    heads: usize,
    #[arg(long, default_value_t = 2048)]
    tokens: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Products of bfloat16.
    #[arg(long)]
    bf16: bool,
    /// A CSV to append to.
    #[arg(long)]
    out: Option<std::path::PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long)]
    bench: bool,
}

/// A kernel with what it must do.
struct Kernel<'a> {
    name: String,
    bytes: f64,
    flops: f64,
    run: Box<dyn FnMut() + 'a>,
}

fn noise(i: usize) -> f32 {
    let bits = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(0x9e37_79b9);
    let bits = (bits ^ (bits >> 15)).wrapping_mul(0x85eb_ca6b);
    2.0 * (bits >> 8) as f32 / (1_u32 << 24) as f32 - 1.0
}

/// Rows of noise.
fn tensor(ops: CpuDevice, rows: usize, cols: usize) -> <CpuDevice as Ops>::Tensor {
    let mut x = ops.tensor(rows, cols).expect("room");
    ops.set_rows(&mut x, rows);
    let values: Vec<f32> = (0..rows * cols).map(noise).collect();
    ops.write(&mut x, &values).expect("written");
    x
}

fn main() {
    let args = Args::parse();
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global().expect("threads");
    let ops = if args.bf16 { CpuDevice::Bf16 } else { CpuDevice::F32 };
    let mut kernels = products(ops, &args);
    kernels.extend(attentions(ops, &args));
    kernels.extend(elementwise(ops, &args));
    kernels.extend(statistics(ops, &args));
    let (mut times, mut peaks) = (vec![Vec::new(); kernels.len()], Vec::new());
    for round in 0..=args.rounds {
        peaks.push(ops.peak_flops());
        for (kernel, times) in kernels.iter_mut().zip(&mut times) {
            let clock = Instant::now();
            (kernel.run)();
            if round > 0 {
                times.push(clock.elapsed().as_secs_f64());
            }
        }
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let peak = median(peaks);
    let seconds: Vec<f64> = times.into_iter().map(median).collect();
    let copy = kernels.iter().zip(&seconds).find(|(kernel, _)| kernel.name == "copy");
    let copy = copy.map_or(f64::NAN, |(kernel, seconds)| kernel.bytes / seconds);
    let dtype = if args.bf16 { "bf16" } else { "f32" };
    let mut lines = Vec::new();
    for (kernel, seconds) in kernels.iter().zip(seconds) {
        let floor = (kernel.flops / peak).max(kernel.bytes / copy);
        lines.push(format!(
            "{},{dtype},{},{:.2},{:.1},{:.1},{:.2},{:.1},{:.3}",
            kernel.name.replace(',', ";"),
            args.threads,
            kernel.bytes / 1e6,
            kernel.flops / 1e6,
            seconds * 1e6,
            kernel.bytes / seconds / 1e9,
            kernel.flops / seconds / 1e9,
            floor / seconds,
        ));
    }
    let header = "kernel,dtype,threads,MB,MFLOP,us,GB_per_s,GFLOP_per_s,share_of_ceiling";
    #[expect(clippy::print_stdout, reason = "the bench's result")]
    {
        println!("ceilings: {:.1} GFLOP/s, {:.1} GB/s", peak / 1e9, copy / 1e9);
        println!("{header}\n{}", lines.join("\n"));
    }
    if let Some(path) = &args.out {
        let new = !path.exists();
        let file = std::fs::File::options().append(true).create(true).open(path);
        let mut file = file.expect("the CSV opens");
        if new {
            writeln!(file, "{header}").expect("written");
        }
        writeln!(file, "{}", lines.join("\n")).expect("written");
    }
}

fn products(ops: CpuDevice, args: &Args) -> Vec<Kernel<'static>> {
    let tokens = args.tokens;
    let shapes = [
        ("gemm qkv", 3 * args.width, args.width),
        ("gemm out + residual", args.width, args.width),
        ("gemm up + gelu", args.neurons, args.width),
        ("gemm down + residual", args.width, args.neurons),
    ];
    let kernel = |(name, out, inner): (&str, usize, usize)| {
        let weight = (0..out * inner).map(noise).collect();
        let weight = ops.matrix(out, weight, Some(vec![0.1; out])).expect("room");
        let (x, mut y) = (tensor(ops, tokens, inner), tensor(ops, tokens, out));
        let mut scratch = tensor(ops, tokens, 1);
        let (gelu, add) = (name.ends_with("gelu"), name.ends_with("residual"));
        let run = move || {
            let then = match (gelu, add) {
                (true, _) => Epilogue::Activate(Activation::GeluErf),
                (_, true) => Epilogue::Add(&mut scratch),
                _ => Epilogue::Store,
            };
            ops.linear(&weight, &x, then, &mut y);
        };
        Kernel {
            name: format!("{name} {tokens} x {out} x {inner}"),
            bytes: 4.0
                * (tokens * inner + tokens * out * (1 + usize::from(add)) + out * inner) as f64,
            flops: 2.0 * (tokens * out * inner) as f64,
            run: Box::new(run),
        }
    };
    shapes.into_iter().map(kernel).collect()
}

fn attentions(ops: CpuDevice, args: &Args) -> Vec<Kernel<'static>> {
    let (tokens, heads, width) = (args.tokens, args.heads, args.width);
    let kernel = |(length, causal): (usize, bool)| {
        let qkv = tensor(ops, tokens, 3 * width);
        let mut out = tensor(ops, tokens, width);
        let starts: Vec<u32> =
            (0..=tokens / length).map(|at| u32::try_from(at * length).expect("short")).collect();
        let run = move || {
            let head_width = width / heads;
            let args = AttentionArgs {
                starts: &starts,
                heads,
                kv_heads: heads,
                head_width,
                scale: 0.1,
                softcap: None,
                causal,
                window: None,
                bias: ScoreBias::None,
            };
            ops.attention(&args, &qkv, &mut out, None);
        };
        let seen = if causal { (length + 1) as f64 / 2.0 } else { length as f64 };
        Kernel {
            name: format!("attention of {length}{}", if causal { ", causal" } else { "" }),
            bytes: 4.0 * (tokens * 4 * width) as f64,
            flops: 4.0 * tokens as f64 * seen * width as f64,
            run: Box::new(run),
        }
    };
    [(16, false), (128, false), (128, true), (512, true)].into_iter().map(kernel).collect()
}

fn elementwise(ops: CpuDevice, args: &Args) -> Vec<Kernel<'static>> {
    let (tokens, width) = (args.tokens, args.neurons);
    let pair = || (tensor(ops, tokens, width), tensor(ops, tokens, width));
    let spec = NormSpec { kind: NormKind::Layer, eps: 1e-5, plus_one: false };
    let norm = || NormWeights { spec, weight: vec![1.0; width], bias: Some(vec![0.0; width]) };
    let (a, mut b) = pair();
    let (c, mut d) = pair();
    let (e, mut f) = pair();
    let (g, mut h) = pair();
    let (one, other) = (norm(), norm());
    let size = 4.0 * (tokens * width) as f64;
    let of = |name: &str, tensors: f64, run: Box<dyn FnMut()>| Kernel {
        name: name.to_owned(),
        bytes: tensors * size,
        flops: 0.0,
        run,
    };
    let i = tensor(ops, tokens, width);
    vec![
        of("copy", 2.0, Box::new(move || ops.copy(&a, &mut b))),
        of("residual x += y", 3.0, Box::new(move || ops.add(&mut d, &c))),
        of("layer norm", 2.0, Box::new(move || ops.norm(&one, &e, &mut f))),
        of("norm of a sum", 3.0, Box::new(move || ops.add_norm(&other, &g, &i, &mut h))),
        gelu(ops, (tokens, width)),
    ]
}

fn gelu(ops: CpuDevice, (tokens, width): (usize, usize)) -> Kernel<'static> {
    let (x, mut y) = (tensor(ops, tokens, width), tensor(ops, tokens, width));
    Kernel {
        name: "gelu".to_owned(),
        bytes: 8.0 * (tokens * width) as f64,
        flops: 0.0,
        run: Box::new(move || ops.activate(Activation::GeluErf, &x, &mut y)),
    }
}

/// Words of 17 classes: moments alone, with the 20 largest values, and with histograms of 64 bins too.
fn statistics(ops: CpuDevice, args: &Args) -> Vec<Kernel<'static>> {
    let (tokens, neurons) = (args.tokens, args.neurons);
    let rows = u32::try_from(tokens).expect("few rows");
    let batch = Batch {
        row_ids: (0..u64::from(rows)).map(RowId).collect(),
        groups: (0..rows).map(|row| row % 17).collect(),
        group_starts: (0..=rows).collect(),
        ..Batch::default()
    };
    let kernel = |(name, bins, top): (&str, usize, usize)| {
        let plan = Arc::new(StatisticsPlan {
            neurons,
            groups: 17,
            bins,
            edges: (0..neurons)
                .flat_map(|_| (1..bins.max(1)).map(|bin| bin as f32 / 32.0 - 1.0))
                .collect(),
            shift: vec![0.0; neurons],
            top,
            bottom: 0,
            sample: 0,
            sample_seed: 0,
        });
        let mut own = ops.statistics(&plan).expect("room");
        let rows = BatchRows::new(&batch, None, 17);
        let x = tensor(ops, tokens, neurons);
        Kernel {
            name: name.to_owned(),
            bytes: 4.0 * (tokens * neurons) as f64,
            flops: 0.0,
            run: Box::new(move || ops.update_statistics(&mut own, &rows, &x)),
        }
    };
    let kinds = [("moments", 0, 0), ("moments and top 20", 0, 20), ("all statistics", 64, 20)];
    kinds.into_iter().map(kernel).collect()
}
