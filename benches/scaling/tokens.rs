//! Whole runs of the program on more and more of the same text, each in a process of its own. The model is
//! tiny, so that everything but the model is what is seen.

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../../tests/support/bench.rs"]
mod bench;

use std::fs;
use std::time::Instant;

use bench::{Bench, manifest};
use clap::Args;

use crate::print::line;

/// Sentences of the corpus that is repeated.
const SENTENCES: u64 = 1000;

#[derive(Args)]
pub(crate) struct Tokens {
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000, 10_000_000])]
    tokens: Vec<u64>,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Bytes of text in a block.
    #[arg(long, default_value_t = 262_144)]
    block_bytes: u64,
}

pub(crate) fn run(args: &Tokens) {
    let bench = Bench::new(usize::try_from(SENTENCES).expect("few"));
    let [words, labels] = ["c.word", "c.label"]
        .map(|name| fs::read_to_string(bench.path(name)).expect("it was written"));
    let of_all = tokens_of(args, &bench, "count").0;
    line("| tokens | blocks | pass, tokens/s | µs a token | whole run, s | peak MiB |");
    line("|---|---|---|---|---|---|");
    for &wanted in &args.tokens {
        // Whole sentences, then the whole text again and again.
        let sentences = (wanted * SENTENCES).div_ceil(of_all);
        for (name, text) in [("c.word", &words), ("c.label", &labels)] {
            let whole = usize::try_from(sentences / SENTENCES).expect("fits");
            let rest = text.lines().take(usize::try_from(sentences % SENTENCES).expect("few"));
            let mut more = text.repeat(whole);
            rest.for_each(|line| more.extend([line, "\n"]));
            fs::write(bench.path(name), more).expect("written");
        }
        let clock = Instant::now();
        let (tokens, blocks, rate, peak) = tokens_of(args, &bench, &wanted.to_string());
        line(&format!(
            "| {tokens} | {blocks} | {rate:.0} | {:.2} | {:.2} | {peak:.1} |",
            1e6 / rate,
            clock.elapsed().as_secs_f64()
        ));
    }
}

/// Tokens, blocks, tokens per second of the pass, and peak memory of a run.
fn tokens_of(args: &Tokens, bench: &Bench, out: &str) -> (u64, u64, f64, f64) {
    let threads = args.threads.to_string();
    let blocks = format!("corpus.block_bytes={}", args.block_bytes);
    let more = ["--threads", &threads, &blocks, "statistics.batch_tokens=2048"];
    bench.tables(out, &[&more[..], &["device.commit_seconds=20"]].concat());
    let manifest = manifest(&bench.path(out));
    let number = |key: &str| manifest["timings"][key].as_f64().expect("a number");
    let blocks = manifest["plan"]["blocks"].as_u64().expect("a number");
    let tokens = manifest["timings"]["tokens"].as_u64().expect("a number");
    (tokens, blocks, number("tokens_per_second"), number("peak_memory_bytes") / 1_048_576.0)
}
