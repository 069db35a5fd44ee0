//! `electrode rank`: one method on a matrix the user already has.

use crate::error::Result;

/// Run one method on a matrix of activations
#[derive(clap::Args, Debug)]
pub struct RankArgs {}

pub(super) fn run(_args: RankArgs) -> Result<()> {
    super::not_yet("rank")
}
