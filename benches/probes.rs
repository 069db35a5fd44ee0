//! Banks of probes on random rows: an epoch of Adam, a pass for gradients and a pass of measures; one JSON
//! line for each shape, with the share of the floor of `docs/kernels/probe_bank.md`.
//!
//! `cargo bench --bench probes -- [--rows N] [--threads T] [--repeat R] [--batch B]`
//!
//! With `--model DIR --conllu FILE` instead the probes of workload W2: parts of speech from the hidden
//! states of every layer and from all of them side by side, Adam with batches of 128 for 10 epochs,
//! l1 = l2 = 1e-5 in NeuroX's form. Activations are there before the clock starts. `--seeds S` trains so
//! many of each at once, as a sweep does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use electrode::config::Pool;
use electrode::corpus::align::RowRules;
use electrode::corpus::config::{ConceptConfig, CorpusConfig, Missing};
use electrode::corpus::plan::Plan;
use electrode::corpus::stream::BlockRules;
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::{Forward, Limits};
use electrode::device::ops::Ops as _;
use electrode::device::probe_ops::{BankPlan, Feed, Head, ProbeLoss, ProbeOps as _, TaskRows};
use electrode::engine::tokenizer::open_tokenizer;
use electrode::model::Model;
use electrode::probe::bank::Probe;
use electrode::probe::rows::RowTable;
use electrode::probe::source::Streamed;
use electrode::probe::split::{Part, Split, SplitConfig};
use electrode::probe::store::Store;
use electrode::probe::tasks::Task;
use electrode::probe::train::{Labels, SiteProbes, Solver, Trained, train};

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
    /// Model folder of W2.
    #[arg(long, requires = "conllu")]
    model: Option<String>,
    /// Treebank of W2.
    #[arg(long)]
    conllu: Option<std::path::PathBuf>,
    /// Probes of each site in W2, by seed.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
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
    if let (Some(model), Some(conllu)) = (&args.model, &args.conllu) {
        return sweep(&args, model, conllu).expect("the model and the treebank");
    }
    for (heads, classes, inputs) in [(18, 17, 384), (1, 17, 384), (18, 17, 2688), (1, 17, 2688)] {
        measure(&args, (heads, classes, inputs));
    }
}

fn measure(args: &Args, (heads, classes, inputs): (usize, usize, usize)) {
    let device = CpuDevice::F32;
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

/// W2.
fn sweep(args: &Args, model: &str, conllu: &std::path::Path) -> electrode::error::Result<()> {
    let model = Model::open(model)?;
    let rules = rules(&model, conllu)?;
    let longest = rules.rows.max_tokens.expect("set");
    let split = SplitConfig { dev: 0.0, test: 0.0, ..SplitConfig::default() };
    let table = RowTable::read(&rules, &Split::new(&split, &rules.plan)?)?;
    let classes = rules.plan.labels.columns[0].classes.len();
    let label = |row: usize| (row < args.rows).then(|| table.classes[0][row] as f32);
    let task = Task::build(&table, classes, label);
    let sites =
        model.spec.select_sites(&["embeddings".to_owned(), "layers.*.resid_post".to_owned()])?;
    let wanted: BTreeSet<_> = sites.iter().copied().collect();
    let limits = Limits { tokens: 2048.max(longest), sequence: longest };
    let mut forward = Forward::new(CpuDevice::F32, &model, limits, &wanted)?;
    let go_on = || Ok(());
    let told = Box::new(|_, _| {});
    let mut streamed = Streamed::new(&mut forward, (&rules, &sites, 2048), &go_on, told)?;
    let every: Vec<usize> = (0..=sites.len()).collect();
    let mut store = Store::in_memory(&mut streamed, table.len(), &every)?;
    drop(streamed);
    let width = model.spec.width;
    let probe = |seed| Probe {
        task: 0,
        classes,
        loss: ProbeLoss::Softmax,
        l1: 1e-5,
        l2: 1e-5,
        norm: true,
        rate: 1e-3,
        seed: Some(seed),
        inputs: None,
    };
    let probes: Vec<Probe> = (0..args.seeds).map(probe).collect();
    let site = |site: usize| SiteProbes {
        site,
        width: if site < sites.len() { width } else { width * sites.len() },
        probes: probes.clone(),
        begin: None,
    };
    let asked: Vec<SiteProbes> = (0..=sites.len()).map(site).collect();
    let tasks = [task];
    let labels = Labels { tasks: &tasks, try_on: &[Part::Train] };
    let solver = Solver::Adam { epochs: 10, batch: args.batch, shuffle: None };
    let ops = CpuDevice::F32;
    let mut trained = Vec::new();
    let mut walls = Vec::new();
    for _ in 0..args.repeat.max(1) {
        let clock = Instant::now();
        trained = train(&mut store.on(&ops, &go_on), &asked, labels, (solver, &mut |_| {}))?;
        walls.push(clock.elapsed().as_secs_f64());
    }
    walls.sort_by(f64::total_cmp);
    let accuracy = |all: &Vec<Trained>| {
        let own = all[0].on(Part::Train).expect("tried");
        own.right.iter().sum::<u64>() as f64 / own.rows as f64
    };
    let line = serde_json::json!({
        "workload": "W2", "impl": "electrode", "threads": args.threads, "rows": tasks[0].part(Part::Train).len(),
        "classes": classes, "probes": asked.len() as u64 * args.seeds, "wall_s": walls[walls.len() / 2],
        "walls": walls, "accuracy": trained.iter().map(accuracy).collect::<Vec<_>>(),
    });
    #[expect(clippy::print_stdout, reason = "the bench's result")]
    {
        println!("{line}");
    }
    Ok(())
}

/// The treebank with its parts of speech.
fn rules(model: &Model, conllu: &std::path::Path) -> electrode::error::Result<BlockRules> {
    let tokenizer = open_tokenizer(model, false)?;
    let config = CorpusConfig::of_file(conllu);
    let concept = ConceptConfig {
        column: "upos".to_owned(),
        classes: None,
        min_count: 1,
        most_frequent: None,
        missing: Missing::Exclude,
    };
    let plan = Plan::make(&config, std::slice::from_ref(&concept), 1, 0)?;
    let longest = model.spec.sequence_limit(None);
    Ok(BlockRules {
        plan: Arc::new(plan),
        config,
        concepts: vec![concept],
        tokenizer: Arc::new(tokenizer),
        rows: RowRules::of_words(Pool::Last, longest),
    })
}
