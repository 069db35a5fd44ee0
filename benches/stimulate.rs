//! Sweeps and attributions, timed as the scripts for other tools time them (`compare.py` runs both);
//! one JSON line each. Prompts are random ids of one length: speed does not depend on them.
//!
//! `w3`: every MLP neuron of one layer set to 0 on all prompts; cosine and distance of the mean final
//! rows to the untouched ones, and in language models the loss at every token.
//! `w4`: integrated gradients of the probability of the last token's answer, every MLP neuron of every
//! layer.
//!
//! `cargo bench --bench stimulate -- w4 --model DIR [--prompts 32] [--seq-len 32] [--steps 20]`

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use clap::Parser;
use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::{Limits, SiteWork};
use electrode::device::gradient_ops::Metric;
use electrode::device::score::Scoring;
use electrode::device::site_view::Nobody;
use electrode::device::suffix::Change;
use electrode::hash::mix;
use electrode::model::Model;
use electrode::stimulate::integrated_gradients::{Quadrature, Settings, integrated_gradients};
use electrode::stimulate::question::{Question, QuestionBatch};

#[derive(Parser)]
struct Args {
    workload: String,
    #[arg(long)]
    model: String,
    /// Prompts as a JSON list of lists of token ids, instead of random ones.
    #[arg(long)]
    ids: Option<std::path::PathBuf>,
    #[arg(long, default_value_t = 32)]
    prompts: usize,
    #[arg(long, default_value_t = 32)]
    seq_len: usize,
    #[arg(long, default_value_t = 20)]
    steps: u32,
    /// Of w3; the middle one by default.
    #[arg(long)]
    layer: Option<usize>,
    /// Of w3; 0 for all.
    #[arg(long, default_value_t = 0)]
    neurons: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    #[arg(long, default_value_t = 4096)]
    batch_tokens: usize,
    /// Products of bfloat16.
    #[arg(long)]
    bf16: bool,
    /// Given by `cargo bench`.
    #[arg(long)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global().expect("threads");
    let model = Model::open(&args.model).expect("model");
    let token = |prompt: usize, at: usize| {
        let word = mix((prompt * 10_007 + at + 1) as u64);
        u32::try_from(word % (model.spec.vocab as u64 - 20) + 10).expect("an id")
    };
    let prompts: Vec<Vec<u32>> = match &args.ids {
        Some(path) => {
            let text = std::fs::read_to_string(path).expect("ids");
            serde_json::from_str(&text).expect("a list of lists of ids")
        }
        None => (0..args.prompts)
            .map(|prompt| (0..args.seq_len).map(|at| token(prompt, at)).collect())
            .collect(),
    };
    let longest = prompts.iter().map(Vec::len).max().expect("prompts");
    let questions: Vec<Question> = prompts
        .into_iter()
        .enumerate()
        .map(|(prompt, tokens)| Question {
            at: u32::try_from(tokens.len() - 1).expect("short"),
            tokens,
            target: token(prompt, args.seq_len),
            foil: None,
            other: None,
        })
        .collect();
    let batch = QuestionBatch::new(&questions);
    let limits = Limits { tokens: args.batch_tokens.max(batch.tokens.len()), sequence: longest };
    let answers = model.spec.classes().is_some();
    let device = if args.bf16 { CpuDevice::Bf16 } else { CpuDevice::F32 };
    let mut run =
        Differentiable::new(device, &model, limits, (&BTreeSet::new(), answers)).expect("fits");
    let (mut walls, mut check) = (Vec::new(), Vec::new());
    for _ in 0..=args.repeat {
        let clock = Instant::now();
        check = match args.workload.as_str() {
            "w3" => sweep(&mut run, &batch, &args),
            _ => vec![attribute(&mut run, &batch, args.steps)],
        };
        walls.push(clock.elapsed().as_secs_f64());
    }
    // The first warms up.
    let mut sorted = walls.split_off(1);
    sorted.sort_by(f64::total_cmp);
    let line = serde_json::json!({
        "workload": args.workload, "impl": "electrode", "threads": args.threads,
        "wall_s": sorted[sorted.len() / 2], "walls": sorted, "check": check,
    });
    #[expect(clippy::print_stdout, reason = "the bench's result")]
    {
        println!("{line}");
    }
}

/// Sum of the magnitudes of all attributions.
fn attribute(run: &mut Differentiable<CpuDevice>, batch: &QuestionBatch, steps: u32) -> f64 {
    let layers: Vec<usize> = (0..run.spec().layers).collect();
    let held = run.hold(batch.input(), &layers).expect("runs");
    let settings = Settings { steps, quadrature: Quadrature::Right, metric: Metric::Prob };
    let mut sum = 0.0;
    for layer in layers {
        integrated_gradients(run, (batch, &held), layer, (settings, None), |one| {
            sum += one.values.iter().map(|x| f64::from(x.abs())).sum::<f64>();
            Ok(())
        })
        .expect("attributes");
    }
    sum
}

/// Means over all arms: loss of language models, 1 - cosine, distance.
fn sweep(run: &mut Differentiable<CpuDevice>, batch: &QuestionBatch, args: &Args) -> Vec<f64> {
    let layer = args.layer.unwrap_or(run.spec().layers / 2);
    let neurons = match args.neurons {
        0 => run.spec().mlp.width,
        some => some,
    };
    let answers = run.spec().classes().is_some();
    let held = run.hold(batch.input(), &[layer]).expect("runs");
    let base = run.mean_rows(&batch.starts).expect("runs");
    let arms = (run.limits().tokens / batch.tokens.len()).max(1);
    let all: Vec<u32> = (0..).take(neurons).collect();
    let (nothing, edits) = (BTreeSet::new(), BTreeMap::new());
    let (mut sums, mut count) = ([0.0; 3], [0_usize; 3]);
    for neurons in all.chunks(arms) {
        let copies = held.copies(neurons.iter().flat_map(|_| (0..batch.len()).map(|q| (q, 0))));
        let tokens = copies.tokens.len();
        let of: Vec<u32> = neurons.iter().flat_map(|&n| vec![n; batch.tokens.len()]).collect();
        let (scale, shift) = (vec![0.0; tokens], vec![0.0; tokens]);
        let mut sites = SiteWork { wanted: &nothing, edits: &edits, visitor: &mut Nobody };
        let change = Change::Neuron { of: &of, scale: &scale, shift: &shift };
        run.resume_only(&held, (layer, &copies), change, &mut sites).expect("runs");
        let width = run.spec().width;
        let means = run.mean_rows(&copies.starts).expect("runs");
        for (row, base) in means.chunks_exact(width).zip(base.chunks_exact(width).cycle()) {
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum()
            };
            let apart = row.iter().zip(base).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            sums[1] += 1.0 - dot(row, base) / (dot(row, row) * dot(base, base)).sqrt();
            sums[2] += apart.sqrt();
            count[1] += 1;
            count[2] += 1;
        }
        if !answers {
            continue;
        }
        let last: BTreeSet<u32> = copies.starts.iter().copied().collect();
        let rows: Vec<u32> = (0..).take(tokens).filter(|at| !last.contains(&(at + 1))).collect();
        let next = |&at: &u32| batch.tokens[copies.tokens[at as usize] as usize + 1];
        let targets: Vec<u32> = rows.iter().map(next).collect();
        let scoring =
            Scoring { rows: &rows, targets: &targets, foils: None, reference: None, keep: None };
        let scores = run.score(&copies.starts, scoring, None).expect("scores");
        sums[0] -= scores.iter().map(|score| f64::from(score.log_prob)).sum::<f64>();
        count[0] += scores.len();
    }
    let mean = |(sum, count): (f64, usize)| sum / f64::from(u32::try_from(count).expect("small"));
    sums.into_iter().zip(count).map(mean).collect()
}
