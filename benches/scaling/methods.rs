//! What statistics cost beside the bare forward pass: more methods, more concepts, more sites, over the
//! same batches. Each measurement has a bare pass of its own right before it, so that a machine that others
//! use slows both; ratios are medians of those pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use electrode::config::{Pool, StatisticsConfig};
use electrode::corpus::align::RowRules;
use electrode::corpus::batch::{Batch, pack};
use electrode::corpus::config::{ConceptConfig, CorpusConfig, Missing};
use electrode::corpus::plan::Plan;
use electrode::corpus::stream::{BlockRules, BlockStream};
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::{Forward, ForwardInput, Limits, SiteWork};
use electrode::device::ops::Ops as _;
use electrode::device::site_view::Nobody;
use electrode::engine::calibrate::calibrate;
use electrode::engine::pass::run_batch;
use electrode::engine::tokenizer::open_tokenizer;
use electrode::engine::watch::StatisticsWatch;
use electrode::id::Site;
use electrode::methods::MethodCall;
use electrode::model::Model;

use crate::print::{line, median};

/// In this order; the first needs moments alone, the fifth histograms, the sixth lists.
const METHODS: [&str; 20] = [
    "probeless",
    "meandiff",
    "fstat",
    "selectivity",
    "auroc",
    "topctx",
    "viz",
    "ap",
    "ap2",
    "iou",
    "corr",
    "corr:spearman=true",
    "mi",
    "mi:normalised=true",
    "lape",
    "ccmas",
    "meandiff:std=true",
    "probeless:std=true",
    "selectivity:robust=true",
    "random",
];

#[derive(Args)]
pub(crate) struct Methods {
    #[arg(long, default_value = "models/tiny-gpt2-en")]
    model: String,
    #[arg(long, default_value = "corpora/en_ewt/en_ewt-dev-half.conllu")]
    conllu: PathBuf,
    #[arg(long, value_delimiter = ',', default_values_t = [1, 5, 20])]
    methods: Vec<usize>,
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100])]
    concepts: Vec<usize>,
    /// Shares of all sites.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.5, 1.0])]
    sites: Vec<f64>,
    /// Tokens of a measurement.
    #[arg(long, default_value_t = 4096)]
    tokens: usize,
    #[arg(long, default_value_t = 2048)]
    batch_tokens: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// What is measured against the bare pass.
struct Case {
    methods: usize,
    groups: usize,
    sites: usize,
    batches: Arc<Vec<Batch>>,
    watch: StatisticsWatch<CpuDevice>,
    ratios: Vec<f64>,
}

pub(crate) fn run(args: &Methods) {
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global().expect("threads");
    let model = Model::open(&args.model).expect("a model");
    let patterns = ["embeddings", "layers.*.mlp_act", "layers.*.resid_post"].map(str::to_owned);
    let all = model.spec.select_sites(&patterns).expect("sites");
    let longest = model.spec.sequence_limit(None);
    let limits = Limits { tokens: args.batch_tokens.max(longest), sequence: longest };
    let wanted: BTreeSet<Site> = all.iter().copied().collect();
    let mut forward = Forward::new(CpuDevice::F32, &model, limits, &wanted).expect("memory");
    let mut cases = cases(args, &model, &mut forward, &all);
    let mut rates = Vec::new();
    for round in 0..=args.rounds {
        for case in &mut cases {
            let bare = bare(&mut forward, &case.batches, *all.last().expect("a site"));
            let clock = Instant::now();
            for batch in case.batches.iter() {
                run_batch(&mut forward, batch, &mut case.watch).expect("runs");
            }
            // The first touches the memory of the statistics.
            if round > 0 {
                case.ratios.push(clock.elapsed().as_secs_f64() / bare);
                let tokens: usize = case.batches.iter().map(|batch| batch.tokens.len()).sum();
                rates.push(tokens as f64 / bare);
            }
        }
    }
    line(&format!(
        "bare forward pass: {:.0} tokens/s (median of {})",
        median(rates.clone()),
        rates.len()
    ));
    line("| methods | classes | sites | of the bare pass | fastest | slowest |");
    line("|---|---|---|---|---|---|");
    for case in cases {
        let low = case.ratios.iter().copied().fold(f64::MAX, f64::min);
        let high = case.ratios.iter().copied().fold(0.0, f64::max);
        line(&format!(
            "| {} | {} | {} | {:.3} | {low:.3} | {high:.3} |",
            case.methods,
            case.groups,
            case.sites,
            median(case.ratios)
        ));
    }
}

/// Every case with its batches and statistics of its own.
fn cases(
    args: &Methods,
    model: &Model,
    forward: &mut Forward<CpuDevice>,
    all: &[Site],
) -> Vec<Case> {
    let mut cases = Vec::new();
    for &concepts in &args.concepts {
        let ((batches, sample), groups) = batches(args, model, concepts);
        for &methods in &args.methods {
            for &share in &args.sites {
                let count = ((all.len() as f64 * share) as usize).max(1);
                // The last ones: the forward pass ends at the last site that is watched.
                let sites = &all[all.len() - count..];
                let config = statistics(&METHODS[..methods]);
                let plan = calibrate(forward, sites, &sample, (&config, Pool::Last, groups));
                let plan = plan.expect("a calibration");
                let watch = StatisticsWatch::new(forward, &plan, Pool::Last).expect("memory");
                let batches = Arc::clone(&batches);
                let ratios = Vec::new();
                cases.push(Case { methods, groups, sites: count, batches, watch, ratios });
            }
        }
    }
    cases
}

/// Seconds of the forward pass as far as its last site, with nobody watching.
fn bare(forward: &mut Forward<CpuDevice>, batches: &[Batch], last: Site) -> f64 {
    let (wanted, edits) = (BTreeSet::from([last]), BTreeMap::new());
    let clock = Instant::now();
    for batch in batches {
        let mut sites = SiteWork { wanted: &wanted, edits: &edits, visitor: &mut Nobody };
        forward.run(ForwardInput::of(batch), &mut sites).expect("runs");
    }
    forward.ops().wait().expect("runs");
    clock.elapsed().as_secs_f64()
}

/// What these methods need of a pass, as a run file would ask for it.
fn statistics(methods: &[&str]) -> StatisticsConfig {
    let calls: Vec<MethodCall> =
        methods.iter().map(|text| MethodCall::parse(text).expect("a method")).collect();
    let ordered = calls.iter().any(MethodCall::needs_order);
    let lists = calls.iter().any(|call| !call.needs_labels());
    StatisticsConfig {
        bins: if ordered { 64 } else { 0 },
        top: if lists { 30 } else { 0 },
        sample: if lists { 256 } else { 0 },
        calibration_rows: 512,
        ..StatisticsConfig::default()
    }
}

/// Batches, and a few of their sequences to calibrate with.
type Packed = (Arc<Vec<Batch>>, Vec<electrode::corpus::block::Sequence>);

/// The first tokens of the corpus, with about so many classes: parts of speech, relations, finer parts of
/// speech, frequent words; how many there are.
fn batches(args: &Methods, model: &Model, classes: usize) -> (Packed, usize) {
    let shares = match classes {
        0..=16 => vec![("upos", classes)],
        17..=80 => vec![("upos", 16), ("deprel", classes - 16)],
        _ => vec![("upos", 16), ("deprel", 34), ("xpos", 30), ("form", classes - 80)],
    };
    let concept = |(column, most): (&str, usize)| ConceptConfig {
        column: column.to_owned(),
        classes: None,
        min_count: 1,
        most_frequent: Some(most),
        missing: Missing::Exclude,
    };
    let concepts: Vec<ConceptConfig> = shares.into_iter().map(concept).collect();
    let config = CorpusConfig::of_file(&args.conllu);
    let plan = Plan::make(&config, &concepts, 1, 0).expect("a plan");
    let groups = plan.labels.groups();
    let longest = model.spec.sequence_limit(None);
    let blocks = (0..u32::try_from(plan.blocks.len()).expect("few")).collect();
    let rules = BlockRules {
        plan: Arc::new(plan),
        config,
        concepts,
        tokenizer: Arc::new(
            open_tokenizer(model, true)
                .or_else(|_| open_tokenizer(model, false))
                .expect("a tokenizer"),
        ),
        rows: RowRules::of_words(Pool::Last, longest),
    };
    let (mut sequences, mut tokens) = (Vec::new(), 0);
    for block in BlockStream::start(rules, blocks).expect("a corpus") {
        for sequence in block.expect("a block").sequences {
            if tokens < args.tokens {
                tokens += sequence.tokens.len();
                sequences.push(sequence);
            }
        }
    }
    let batches = pack(&sequences, args.batch_tokens);
    sequences.truncate(32);
    ((Arc::new(batches), sequences), groups)
}
