//! Workloads end to end, timed as users meet them; one JSON line each.
//!
//! `w1`: mean, variance, minimum, maximum and 20 top contexts of every hidden state and MLP neuron
//! over the words of a CoNLL-U file (last subword of each). Tokenising is timed, loading is not,
//! as in the scripts for other tools that `benches/compare.py` runs beside it.
//!
//! `cargo bench --bench engine -- w1 --model DIR --conllu FILE [--words N] [--threads T] [--repeat R]`

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::Parser;
use electrode::config::{Pool, StatisticsConfig};
use electrode::corpus::align::RowRules;
use electrode::corpus::config::CorpusConfig;
use electrode::corpus::labels::LabelIndex;
use electrode::corpus::plan::Plan;
use electrode::corpus::stream::{BlockRules, BlockStream, documents, tokenize_documents};
use electrode::corpus::tokenize::Tokenizer;
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::Limits;
use electrode::engine::calibrate::calibrate;
use electrode::engine::fleet::{Fleet, Setup, Slot};
use electrode::engine::pass::{PassPlan, run_pass};
use electrode::engine::states::States;
use electrode::id::Site;
use electrode::model::Model;

#[derive(Parser)]
struct Args {
    /// `w1`, or `forward`: the same without statistics.
    workload: String,
    #[arg(long)]
    model: String,
    #[arg(long)]
    conllu: PathBuf,
    #[arg(long, default_value_t = 10_000)]
    words: u64,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    #[arg(long, default_value_t = 2048)]
    batch_tokens: usize,
    /// Products of bfloat16.
    #[arg(long)]
    bf16: bool,
    /// Given by `cargo bench`.
    #[arg(long)]
    bench: bool,
}

/// CPU seconds of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let args = Args::parse();
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global().expect("threads");
    let model = Model::open(&args.model).expect("model");
    let corpus = first_words(&args);
    let sites = if args.workload == "forward" {
        vec!["final_norm".to_owned()]
    } else {
        vec!["embeddings".to_owned(), "layers.*.resid_post".into(), "layers.*.mlp_act".into()]
    };
    let sites = model.spec.select_sites(&sites).expect("sites");
    let wanted: BTreeSet<Site> = sites.iter().copied().collect();
    let longest = model.spec.max_tokens.unwrap_or(2048);
    let limits = Limits { tokens: args.batch_tokens.max(longest), sequence: longest };
    let setup = Setup::forward(&model, limits, &wanted);
    let device = if args.bf16 { CpuDevice::Bf16 } else { CpuDevice::F32 };
    let mut fleet = Fleet::new([Slot::new("cpu", move || Ok(device))], setup);
    fleet.on_one(|_| Ok(())).expect("model loads");
    let tokenizer =
        Arc::new(Tokenizer::open(&model.tokenizer_path().expect("tokenizer")).expect("tokenizer"));
    let (mut walls, mut cpus, mut tokens, mut words) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..args.repeat {
        let (clock, cpu) = (Instant::now(), cpu_seconds());
        let counts = once((&args, longest), &corpus, &sites, &tokenizer, &mut fleet);
        walls.push(clock.elapsed().as_secs_f64());
        cpus.push(cpu_seconds() - cpu);
        (tokens, words) = counts;
    }
    let wall = median(walls.clone());
    let neurons: usize = sites.iter().map(|site| model.spec.site_width(*site)).sum();
    let line = serde_json::json!({
        "workload": args.workload, "impl": "electrode", "threads": args.threads,
        "wall_s": wall, "walls": walls, "cpu_s": median(cpus), "neurons": neurons,
        "n_words": words, "n_tokens": tokens,
        "words_per_s": words as f64 / wall, "tokens_per_s": tokens as f64 / wall,
    });
    #[expect(clippy::print_stdout, reason = "the bench's result")]
    {
        println!("{line}");
    }
}

/// The first sentences of the file, up to `words` words, as a corpus of their own.
fn first_words(args: &Args) -> CorpusConfig {
    let text = std::fs::read_to_string(&args.conllu).expect("corpus");
    let folder = std::env::temp_dir().join(format!("electrode-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("temporary folder");
    let path = folder.join("first.conllu");
    let (mut kept, mut words) = (String::new(), 0);
    for sentence in text.split("\n\n") {
        let lines = sentence.lines().filter(|line| !line.starts_with('#'));
        let word =
            |line: &&str| line.split('\t').next().is_some_and(|id| id.parse::<u32>().is_ok());
        words += lines.filter(word).count() as u64;
        kept.push_str(sentence);
        kept.push_str("\n\n");
        if words >= args.words {
            break;
        }
    }
    std::fs::write(&path, kept).expect("corpus slice");
    let mut corpus = CorpusConfig::of_file(&path);
    corpus.block_bytes = 1 << 16;
    corpus
}

/// Plans, calibrates, tokenises, runs: everything but loading the model.
fn once(
    (args, longest): (&Args, usize),
    corpus: &CorpusConfig,
    sites: &[Site],
    tokenizer: &Arc<Tokenizer>,
    fleet: &mut Fleet<'_, CpuDevice>,
) -> (u64, u64) {
    let statistics = StatisticsConfig {
        bins: 0,
        top: if args.workload == "forward" { 0 } else { 20 },
        sample: 0,
        calibration_rows: 128,
        batch_tokens: Some(args.batch_tokens),
        ..StatisticsConfig::default()
    };
    let plan = Plan::make(corpus, &[], statistics.calibration_rows, 0).expect("plan");
    let rules = RowRules::of_words(Pool::Last, longest);
    let chosen = plan.calibration.iter().copied().collect();
    let sample = documents(&plan, corpus, &chosen).expect("documents");
    let (sequences, _) =
        tokenize_documents(&sample, tokenizer, &LabelIndex::default(), &rules).expect("tokens");
    let plans = fleet
        .on_one(|forward| calibrate(forward, sites, &sequences, (&statistics, Pool::Last, 0)))
        .expect("plans");
    let blocks = u32::try_from(plan.blocks.len()).expect("few blocks");
    let pass = PassPlan {
        sites: plans,
        pool: Pool::Last,
        batch_tokens: args.batch_tokens,
        blocks,
        max_nan: 0.0,
    };
    let folder = std::env::temp_dir().join(format!("electrode-bench-{}/none", std::process::id()));
    let mut states = States::load(&folder, [0; 32], pass.sites.clone()).expect("states");
    let rules = BlockRules {
        plan: Arc::new(plan),
        config: corpus.clone(),
        concepts: Vec::new(),
        tokenizer: Arc::clone(tokenizer),
        rows: rules,
    };
    let stream = BlockStream::start(rules, (0..blocks).collect()).expect("stream");
    run_pass(fleet, &pass, &mut states, stream, (&AtomicBool::new(false), |_| {})).expect("pass");
    let (counts, _) = states.finish(blocks).expect("all blocks").finish();
    let _ = std::fs::remove_dir_all(&folder);
    (counts.tokens, counts.words)
}
