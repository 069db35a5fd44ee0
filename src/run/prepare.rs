//! Everything a run needs, opened and checked before any work begins.

use std::sync::Arc;
use std::time::Duration;

use super::devices::Devices;
use super::memory::memory_plan;
use super::opened::{Opened, Stamp};
use crate::config::{FirstPosition, RunConfig};
use crate::corpus::align::RowRules;
use crate::corpus::plan::Plan;
use crate::corpus::stream::BlockRules;
use crate::corpus::tokenize::Tokenizer;
use crate::device::forward::Limits;
use crate::engine::segment::RunId;
use crate::engine::states::COMMIT_INTERVAL;
use crate::engine::tokenizer::open_tokenizer;
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};
use crate::methods::MethodCall;
use crate::model::Model;

/// A run, resolved: see [`Prepared::new`].
pub struct Prepared {
    /// The run file.
    pub config: RunConfig,
    /// Where it runs.
    pub devices: Devices,
    /// Its methods, parsed.
    pub methods: Vec<MethodCall>,
    /// Its model.
    pub model: Model,
    /// Name, size and SHA-256 of the model's files.
    pub model_files: Vec<(String, u64, String)>,
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The corpus, counted and cut.
    pub plan: Arc<Plan>,
    /// How tokens become rows.
    pub rules: RowRules,
    /// Watched sites in forward order.
    pub sites: Vec<Site>,
    /// Largest batch and sequence.
    pub limits: Limits,
    /// Hash of everything that may change a number.
    pub run_id: RunId,
    /// Of files that were not read again, see [`Opened`].
    stamps: Vec<Stamp>,
}

impl Prepared {
    /// Opens model, tokenizer and corpus; refuses what cannot work.
    pub fn new(config: RunConfig) -> Result<Self> {
        let devices = Devices::choose(config.device.name.as_deref())?;
        Self::on(config, devices)
    }

    /// As [`Self::new`], for these devices, whatever the configuration names: a run is planned where
    /// it will not work.
    pub fn on(config: RunConfig, devices: Devices) -> Result<Self> {
        Self::with(config, devices, None)
    }

    /// As [`Self::on`], from what was found when the same was opened before; fails if it is not the
    /// same only where the run id is compared.
    pub(super) fn again(config: RunConfig, devices: Devices, opened: Opened) -> Result<Self> {
        Self::with(config, devices, Some(opened))
    }

    fn with(config: RunConfig, devices: Devices, opened: Option<Opened>) -> Result<Self> {
        let methods = parse_methods(&config)?;
        let model = Model::open(&config.model.path)?;
        let sites = watched_sites(&config, &model)?;
        let statistics = &config.statistics;
        let (plan, model_files, stamps) = match opened {
            Some(Opened { plan, model_files, stamps }) => (plan, model_files, stamps),
            None => {
                let (rows, seed) = (statistics.calibration_rows, statistics.seed);
                let plan = Plan::make(&config.corpus, &config.concepts, rows, seed)?;
                (plan, model.hashes()?, Vec::new())
            }
        };
        check_classes(&plan)?;
        let tokenizer = open_tokenizer(&model, config.corpus.add_bos)?;
        let longest = model.spec.sequence_limit(config.corpus.max_tokens);
        let rules = RowRules {
            pool: config.capture.pool,
            special_tokens: config.capture.special_tokens,
            first_position: keeps_first(&config, &model, &tokenizer),
            max_tokens: Some(longest),
            long: config.corpus.long,
        };
        let tokens = statistics.batch_tokens.unwrap_or_else(|| devices.batch_tokens());
        let limits = Limits { tokens: tokens.max(longest), sequence: longest };
        let run_id = run_id(&config, &devices, &model_files, &plan, &tokenizer);
        let mut prepared = Self {
            config,
            devices,
            methods,
            model,
            model_files,
            tokenizer: Arc::new(tokenizer),
            plan: Arc::new(plan),
            rules,
            sites,
            limits,
            run_id,
            stamps,
        };
        if prepared.config.statistics.batch_tokens.is_none() {
            prepared.limits.tokens = prepared.tokens_that_fit()?;
        }
        Ok(prepared)
    }

    /// Fails if model or corpus are no longer what was opened: read once more, or where they were not
    /// read in the first place, by their times.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        self.model.check_unchanged()?;
        if self.stamps.is_empty() {
            return self.plan.check_unchanged(&self.config.corpus);
        }
        match self.stamps.iter().find(|stamp| !stamp.is_untouched()) {
            None => Ok(()),
            Some(stamp) => {
                let remedy = "leave models and corpora alone while they are read; plan again";
                Err(Error::input(stamp.path(), "changed while it was in use", remedy))
            }
        }
    }

    /// The most tokens in a batch for which every GPU has room; if it has none for the batch of a
    /// CPU, that, and the fleet will see.
    fn tokens_that_fit(&self) -> Result<usize> {
        let least = self.limits.sequence.max(Devices::Cpu.batch_tokens());
        let mut tokens = self.limits.tokens;
        while tokens / 2 >= least && memory_plan(self, tokens)?.too_small().next().is_some() {
            tokens /= 2;
        }
        Ok(tokens)
    }

    /// Tokens of a device call. A single longer sequence makes a call of its own.
    pub fn batch_tokens(&self) -> usize {
        self.config.statistics.batch_tokens.unwrap_or(self.limits.tokens)
    }

    /// What the block stream needs.
    pub fn block_rules(&self) -> BlockRules {
        BlockRules {
            plan: Arc::clone(&self.plan),
            config: self.config.corpus.clone(),
            concepts: self.config.concepts.clone(),
            tokenizer: Arc::clone(&self.tokenizer),
            rows: self.rules.clone(),
        }
    }

    /// Blocks of the plan.
    pub fn blocks(&self) -> u32 {
        u32::try_from(self.plan.blocks.len()).expect("block numbers are u32")
    }

    /// How long a killed run may lose at most.
    pub fn commit_interval(&self) -> Duration {
        self.config.device.commit_seconds.map_or(COMMIT_INTERVAL, Duration::from_secs)
    }

    /// Hash of everything that may change a number but the kind of the device.
    pub fn id_anywhere(&self) -> RunId {
        run_id(&self.config, &Devices::Cpu, &self.model_files, &self.plan, &self.tokenizer)
    }

    /// The run id in hex.
    pub fn run_id_hex(&self) -> String {
        self.run_id.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The methods of a run file; refuses those that cannot work in it.
pub(super) fn parse_methods(config: &RunConfig) -> Result<Vec<MethodCall>> {
    let methods: Vec<MethodCall> =
        config.methods.iter().map(|text| MethodCall::parse(text)).collect::<Result<_>>()?;
    for (i, call) in methods.iter().enumerate() {
        let name = call.method.name;
        if config.methods[..i].contains(&config.methods[i]) {
            let what = format!("'{}' is listed twice", config.methods[i]);
            return Err(Error::config("methods", what, "list each method once"));
        }
        if let Some(refusal) = call.of_another_command() {
            return Err(refusal);
        }
        if !call.needs_labels() && call.has_settings() {
            // Their material is collected during the pass, by settings of its own.
            let what = format!("method '{name}' takes no settings in a run");
            let remedy = "set statistics.top and statistics.bottom for the contexts of every \
                          neuron, or use `electrode rank` on a matrix";
            return Err(Error::config("methods", what, remedy));
        }
        if call.needs_labels() && config.concepts.is_empty() {
            let what = format!("method '{name}' needs labels, and the run has no [[concepts]]");
            return Err(Error::config("methods", what, "add [[concepts]] column = \"upos\""));
        }
        if call.method.needs_matrix {
            return Err(call.needs_a_matrix());
        }
        if call.needs_order() && config.statistics.bins == 0 {
            let what = format!("method '{name}' needs histograms, and statistics.bins is 0");
            return Err(Error::config("statistics.bins", what, "set statistics.bins = 64"));
        }
    }
    Ok(methods)
}

/// The sites of the run file that have one value per token and neuron.
fn watched_sites(config: &RunConfig, model: &Model) -> Result<Vec<Site>> {
    let patterns = &config.capture.sites;
    let per_sequence = |site: &Site| {
        site.kind == SiteKind::Pooled
            || site.kind == SiteKind::Logits && model.spec.logits_per_sequence()
    };
    let mut sites = Vec::new();
    for site in model.spec.select_sites(patterns)? {
        let refused = if site.kind == SiteKind::AttnProbs {
            Some("has no neurons: its columns are positions")
        } else if per_sequence(&site) {
            // One row per sequence and rows made of runs of tokens do not meet in one batch.
            Some("has one value per sentence, which statistics over tokens cannot read")
        } else {
            None
        };
        match refused {
            None => sites.push(site),
            Some(why) if patterns.iter().any(|pattern| *pattern == site.to_string()) => {
                let remedy = "use `electrode extract` for it, or leave it out";
                return Err(Error::config("capture.sites", format!("'{site}' {why}"), remedy));
            }
            Some(why) => tracing::info!(%site, why, "site left out"),
        }
    }
    if sites.is_empty() {
        let what = format!("{patterns:?} leaves no site with neurons");
        return Err(Error::config("capture.sites", what, "try \"layers.*.mlp_act\""));
    }
    Ok(sites)
}

/// A column with fewer than two classes to rank has nothing to compare.
fn check_classes(plan: &Plan) -> Result<()> {
    for column in &plan.labels.columns {
        let counts = &plan.class_counts[column.first_group as usize..][..column.classes.len()];
        let usable = counts.iter().filter(|count| **count >= column.min_count.max(1)).count();
        if usable < 2 {
            let seen = column.classes.iter().zip(counts).take(8);
            let seen: Vec<String> = seen.map(|(name, count)| format!("{name} {count}")).collect();
            return Err(Error::config(
                format!("concepts, column '{}'", column.name),
                format!(
                    "fewer than two classes have {} rows or more (found: {})",
                    column.min_count,
                    seen.join(", ")
                ),
                "lower min_count, set missing = \"class\", or leave the column out",
            ));
        }
    }
    Ok(())
}

/// Whether a row may stand at the first position of a sequence.
fn keeps_first(config: &RunConfig, model: &Model, tokenizer: &Tokenizer) -> bool {
    match config.capture.first_position {
        FirstPosition::Include => true,
        FirstPosition::Exclude => false,
        FirstPosition::Auto => !model.spec.attention.causal || !tokenizer.before().is_empty(),
    }
}

/// Another kind of device rounds elsewhere, so its states are those of another run. The CPU's ids
/// have nothing in the place of its kind.
fn run_id(
    config: &RunConfig,
    devices: &Devices,
    model_files: &[(String, u64, String)],
    plan: &Plan,
    tokenizer: &Tokenizer,
) -> RunId {
    let mut facts = vec![
        serde_json::json!(env!("CARGO_PKG_VERSION")),
        config.identity(),
        serde_json::json!(model_files),
        serde_json::json!(plan.hash()),
        serde_json::json!(tokenizer.hash()),
    ];
    facts.extend(devices.kind(config.model.dtype).map(serde_json::Value::from));
    *blake3::hash(serde_json::Value::from(facts).to_string().as_bytes()).as_bytes()
}
