//! How cost grows: with devices, with tokens, with what is asked. One table each; `docs/scaling.md`
//! says what they were last, and what they are read against.
//!
//! ```sh
//! cargo bench --bench scaling -- devices   # the scheduler over devices that only take time
//! cargo bench --bench scaling -- tokens    # whole runs on 10^4 to 10^7 tokens
//! cargo bench --bench scaling -- methods   # the pass against methods, concepts and sites
//! cargo bench --bench scaling -- start     # from exec to the first block
//! ```

mod devices;
mod methods;
mod print;
mod start;
mod tokens;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// Given by `cargo bench`.
    #[arg(long, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// Efficiency against the number of devices.
    Devices(devices::Devices),
    /// Time and memory against the number of tokens.
    Tokens(tokens::Tokens),
    /// Time of the pass against methods, concepts and sites.
    Methods(methods::Methods),
    /// Time until work begins.
    Start(start::Start),
}

fn main() {
    match Args::parse().what {
        What::Devices(args) => devices::run(&args),
        What::Tokens(args) => tokens::run(&args),
        What::Methods(args) => methods::run(&args),
        What::Start(args) => start::run(&args),
    }
}
