//! Arguments, exit codes, logs and progress: the shell around the engine. stdout is results,
//! stderr is everything else.

pub mod adapt;
pub mod bench;
pub mod compare;
pub mod completions;
pub mod detect;
pub mod device;
pub mod devices;
pub mod edit;
pub mod export;
pub mod extract;
pub mod generate;
pub mod inspect;
pub mod logging;
pub mod man;
pub mod maximize;
pub mod methods;
pub mod output;
pub mod probe;
pub mod progress;
pub mod rank;
pub mod report;
pub mod run;
pub mod similarity;
pub mod sparsity;
pub mod steer;
pub mod stimulate;
pub mod sweep;
pub mod texts;

use std::io::Write as _;
use std::panic::{PanicHookInfo, UnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::error::Result;

/// Version and commit, as `--version` and the manifest give them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ELECTRODE_GIT_HASH"), ")");

/// A broken invariant of ours; the same code as [`Error::Contradiction`](crate::error::Error::Contradiction).
const PANICKED: u8 = 70;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 65 damaged or refused input,
70 internal contradiction, 74 input/output failed, 75 unfinished (run it again, it resumes),
76 a device at fault (resumes on another).";

/// Finds, judges and uses the neurons behind linguistic concepts in transformer language models.
#[derive(Debug, Parser)]
#[command(name = "electrode", version = VERSION, after_help = EXIT_CODES, max_term_width = 100)]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    log: logging::LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Sweep(sweep::SweepArgs),
    Probe(probe::ProbeArgs),
    Stimulate(stimulate::StimulateArgs),
    Ablate(stimulate::AblateArgs),
    Attribute(stimulate::AttributeArgs),
    Maximize(maximize::MaximizeArgs),
    Sparsity(sparsity::SparsityArgs),
    Similarity(similarity::SimilarityArgs),
    Compare(compare::CompareArgs),
    Extract(extract::ExtractArgs),
    Generate(generate::GenerateArgs),
    Steer(steer::SteerArgs),
    Rank(rank::RankArgs),
    Detect(detect::DetectArgs),
    Adapt(adapt::AdaptArgs),
    Edit(edit::EditArgs),
    Inspect(inspect::InspectArgs),
    Devices(devices::DevicesArgs),
    Bench(bench::BenchArgs),
    Methods(methods::MethodsArgs),
    Report(report::ReportArgs),
    Export(export::ExportArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// The whole program.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(say_panic));
    crate::model::end_where_files_shrink();
    ExitCode::from(guarded(start))
}

/// Parses, then runs; gives the exit code.
fn start() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with code 0, usage errors to stderr with code 2. A
            // reader that went away is no reason to complain.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(1);
        }
    };
    match logging::start(&cli.log).and_then(|()| dispatch(cli.command)) {
        Ok(()) => 0,
        Err(error) if output::reader_left(&error) => 0,
        Err(error) => {
            logging::say_error(cli.log.log_format, &error);
            error.exit_code()
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Sweep(args) => sweep::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Stimulate(args) => stimulate::run(args),
        Command::Ablate(args) => stimulate::ablate(args),
        Command::Attribute(args) => stimulate::attribute(args),
        Command::Maximize(args) => maximize::run(args),
        Command::Sparsity(args) => sparsity::run(args),
        Command::Similarity(args) => similarity::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Extract(args) => extract::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Steer(args) => steer::run(args),
        Command::Rank(args) => rank::run(args),
        Command::Detect(args) => detect::run(args),
        Command::Adapt(args) => adapt::run(args),
        Command::Edit(args) => edit::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Methods(args) => methods::run(args),
        Command::Report(args) => report::run(args),
        Command::Export(args) => export::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

/// The command line as data, for completions and the man page.
fn command() -> clap::Command {
    Cli::command()
}

/// A panic is a fault of ours: it ends with one short message and its own exit code.
fn guarded(work: impl FnOnce() -> u8 + UnwindSafe) -> u8 {
    catch_unwind(work).unwrap_or(PANICKED)
}

fn say_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let what = info.payload_as_str().unwrap_or("unknown");
    let mut stderr = std::io::stderr().lock();
    // Nothing can be done about a closed stderr, least of all here.
    let _ = writeln!(stderr, "electrode {VERSION}: internal error at {place}: {what}");
    let trace = std::backtrace::Backtrace::capture();
    let _ = match trace.status() {
        std::backtrace::BacktraceStatus::Captured => writeln!(stderr, "{trace}"),
        _ => writeln!(stderr, "this is a fault of the program; RUST_BACKTRACE=1 shows where"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn a_panic_has_its_own_exit_code() {
        assert_eq!(guarded(|| panic!("on purpose")), 70);
        assert_eq!(guarded(|| 3), 3);
    }
}
