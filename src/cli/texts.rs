//! What the commands that generate texts are told alike.

use super::device::DtypeArg;
use crate::generate::sample::Sampling;
use crate::run::generate::{Summary, TextConfig};

/// Model, prompts and sampling.
#[derive(clap::Args, Debug)]
pub struct TextArgs {
    /// Folder with config.json, or org/name in the local Hub cache
    #[arg(long, value_name = "DIR")]
    model: String,
    /// Prompts, one or more
    #[arg(long, num_args = 1.., value_name = "TEXT")]
    prompt: Vec<String>,
    /// Prompts from a file, one JSON object a line, at this key (prompt); may be repeated
    #[arg(long, value_name = "FILE.jsonl[:KEY]")]
    prompts: Vec<String>,
    /// Begin each prompt with the model's BOS where its tokenizer does not
    #[arg(long)]
    add_bos: bool,
    /// Tokens of a continuation, at most
    #[arg(long, default_value_t = 20, value_name = "N")]
    max_tokens: usize,
    /// Logits are divided by it; 0 takes the best token
    #[arg(long, default_value_t = 1.0, value_name = "T")]
    temperature: f64,
    /// Draw from the K best tokens only; 0 for all
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: usize,
    /// Draw from the best tokens only whose probabilities reach this sum
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    top_p: f64,
    /// Let no run of N tokens come twice in a text; 0 forbids nothing
    #[arg(long, default_value_t = 0, value_name = "N")]
    no_repeat: usize,
    /// Continuations of each prompt
    #[arg(long, default_value_t = 1, value_name = "N")]
    samples: usize,
    /// Of every draw
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// A text that ends a continuation and is no part of it; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Go on behind the model's end-of-text token
    #[arg(long)]
    ignore_end: bool,
    /// Where it runs: auto, cpu, cuda, cuda:1; of several GPUs on the first
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Of the forward pass
    #[arg(long, value_enum, default_value = "f32", value_name = "DTYPE")]
    dtype: DtypeArg,
    /// CPU threads; all by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// Tokens of a batch and of the cache; no result depends on it
    #[arg(long, value_name = "N")]
    batch_tokens: Option<usize>,
}

impl TextArgs {
    /// Threads, where they were named.
    pub(super) fn threads(&self) -> Option<usize> {
        self.threads.map(usize::from)
    }

    pub(super) fn config(self) -> TextConfig {
        TextConfig {
            model: self.model,
            dtype: self.dtype.into(),
            device: self.device,
            prompts: self.prompt,
            files: self.prompts,
            add_bos: self.add_bos,
            samples: self.samples,
            max_tokens: self.max_tokens,
            sampling: Sampling {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                no_repeat: self.no_repeat,
                seed: self.seed,
            },
            ignore_end: self.ignore_end,
            stop: self.stop,
            batch_tokens: self.batch_tokens,
        }
    }
}

/// A line for each arm.
pub(super) fn summary_table(summaries: &[Summary]) -> String {
    let row = |one: &Summary| {
        let number = |x: f64| format!("{x:.3}");
        vec![
            one.arm.clone().unwrap_or_else(|| "-".into()),
            one.texts.to_string(),
            one.tokens.to_string(),
            number(one.perplexity),
            one.judge_perplexity.map_or_else(|| "-".into(), number),
            number(one.distinct[0]),
            number(one.distinct[1]),
        ]
    };
    let header =
        ["arm", "texts", "tokens", "perplexity", "judge_perplexity", "distinct_1", "distinct_2"];
    super::output::table(&header, &summaries.iter().map(row).collect::<Vec<_>>())
}
