//! Runs a model over a treebank from the library, and reads back which neurons carry verbs.
//!
//!     cargo run --release --example 02_rank_neurons
#![expect(clippy::print_stdout, reason = "an example shows what it found")]

use std::sync::atomic::AtomicBool;

use electrode::artifact::tables::{RANKINGS, read_rankings};
use electrode::config::RunConfig;
use electrode::error::Result;
use electrode::run::{Prepared, run};

fn main() -> Result<()> {
    let changes = ["out=out/example", "methods=[\"auroc\"]"].map(str::to_owned);
    let config = RunConfig::load("configs/runs/conllu.toml", &changes)?;
    let prepared = Prepared::new(config)?;

    // Set it from another thread to stop between two batches; the same call then goes on.
    let stop = AtomicBool::new(false);
    let finished = run(&prepared, &stop, &mut |stage, tokens, share| {
        // Called after each batch: a place for a progress bar.
        let _ = (stage, tokens, share);
    })?;

    println!("{} rows, report in {}", finished.counts.rows, finished.report.display());
    for row in read_rankings(&finished.folder.join(RANKINGS))? {
        if (row.label.as_str(), row.concept.as_str()) == ("upos", "VERB") && row.rank <= 5 {
            let q = row.q_value.unwrap_or(1.0);
            println!("{}. {}.{}: {:.3}, q {q:.1e}", row.rank, row.site, row.neuron, row.score);
        }
    }
    Ok(())
}
