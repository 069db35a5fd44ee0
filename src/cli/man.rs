//! `electrode man`.

use super::output;
use crate::error::{Error, Result, did_you_mean};

/// Print the manual page, or that of a subcommand, as roff
#[derive(clap::Args, Debug)]
pub struct ManArgs {
    /// A subcommand; by default the program itself
    subcommand: Option<String>,
}

pub(super) fn run(args: ManArgs) -> Result<()> {
    let mut command = super::command();
    command.build();
    if let Some(name) = &args.subcommand {
        let found = command.find_subcommand(name).cloned();
        command = found.ok_or_else(|| {
            let names = command.get_subcommands().map(clap::Command::get_name);
            let near = did_you_mean(name, names);
            Error::config(
                format!("argument '{name}'"),
                format!("no such subcommand{near}"),
                "see `electrode --help` for the subcommands",
            )
        })?;
        command = command.display_name(format!("electrode-{name}")).version(super::VERSION);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(Error::io("manual page", "write"))?;
    output::print(&String::from_utf8_lossy(&page))
}
