//! Log events to stderr, as text or as JSON lines, around the progress bar if there is one.

use std::io::{self, IsTerminal as _, Write};

use clap::{ArgAction, Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::progress;
use crate::error::{Error, Result};

/// Set to a filter such as `electrode::engine=debug`, it takes the place of `-v` and `-q`.
const FILTER_VARIABLE: &str = "ELECTRODE_LOG";

/// Options of every subcommand.
#[derive(Args, Debug)]
pub struct LogArgs {
    /// How messages on stderr are written
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Say errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// See [`LogArgs::log_format`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends `tracing` events to stderr from here on.
pub fn start(args: &LogArgs) -> Result<()> {
    let level = match (args.quiet, args.verbose) {
        (true, _) => "error",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(given) => EnvFilter::try_new(&given).map_err(|error| {
            let remedy = "write it as electrode=debug, or leave it unset and use -v";
            Error::config(format!("environment {FILTER_VARIABLE}"), error.to_string(), remedy)
        })?,
        Err(_) => EnvFilter::new(format!("warn,electrode={level}")),
    };
    progress::set_style(args.quiet, args.log_format);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(AroundBar);
    match args.log_format {
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
        LogFormat::Text => subscriber
            .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .with_target(false)
            .compact()
            .init(),
    }
    Ok(())
}

/// The last word of a command that failed.
pub fn say_error(format: LogFormat, error: &Error) {
    match format {
        // Not through the filter: an error is said however quiet the rest is.
        LogFormat::Json => {
            let line = serde_json::json!({
                "level": "ERROR", "message": error.to_string(), "exit_code": error.exit_code(),
            });
            let _ = writeln!(AroundBar, "{line}");
        }
        LogFormat::Text => {
            let _ = writeln!(AroundBar, "error: {error}");
        }
    }
}

/// stderr, with the bar taken away while a message is written.
#[derive(Clone, Copy)]
struct AroundBar;

impl Write for AroundBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::suspend(|| io::stderr().lock().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for AroundBar {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}
