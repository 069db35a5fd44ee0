//! Reads a run file as `electrode run` does, changes it, and prints what would be run.
//!
//!     cargo run --example 01_resolve_run
#![expect(clippy::print_stdout, reason = "an example shows what it found")]

use electrode::config::RunConfig;
use electrode::error::Result;

fn main() -> Result<()> {
    let changes = ["corpus.max_documents=20".to_owned(), "methods=[\"probeless\"]".to_owned()];
    let run = RunConfig::load("configs/runs/quickstart.toml", &changes)?;
    println!("{}", run.to_toml());

    // Title, folder and device are no part of a run's identity; everything else is.
    let mut elsewhere = run.clone();
    elsewhere.out = "out/elsewhere".into();
    println!("# run {}\n# same elsewhere: {}", run.run_id(), run.run_id() == elsewhere.run_id());
    Ok(())
}
