//! What a sweep will take, and from what that is known.

use std::path::Path;

use super::plan::SweepPlan;
use super::status::status;
use crate::error::{Error, Result};

/// Bytes of text in a token, where nothing has been read yet: a round figure for English with a
/// vocabulary of about 50 000.
const BYTES_PER_TOKEN: u64 = 4;

/// See the module. Sums over all passes.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// Tokens to be read.
    pub tokens: u64,
    /// What that is from.
    pub tokens_from: &'static str,
    /// Hours of one device, or of the CPU, for all of it; none where nothing tells.
    pub hours: Option<f64>,
    /// What that is from.
    pub hours_from: String,
    /// Bytes of states on the disk until the merge, at most.
    pub disk: u64,
}

/// Estimates a sweep from the plan, from `tokens_per_second` of one device if that is given, and else
/// from what earlier attempts in its folder `out` have done.
pub fn estimate(
    (plan, out): (&SweepPlan, &Path),
    tokens_per_second: Option<f64>,
) -> Result<Estimate> {
    if let Some(rate) = tokens_per_second.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
        let what = format!("{rate} tokens per second");
        return Err(Error::config("--tokens-per-second", what, "give a number above 0"));
    }
    let bytes: u64 = plan.passes.iter().map(|pass| pass.bytes).sum();
    let disk = plan.tasks.iter().map(|task| 2 * plan.passes[task.pass].state_bytes).sum();
    // Another plan in that folder says nothing of this one.
    let same = SweepPlan::read(out).is_ok_and(|there| there.sweep_id == plan.sweep_id);
    let status = if same { Some(status(plan, out)?) } else { None };
    let (done, all) = status.as_ref().map_or((0, 0), |status| status.blocks());
    let (tokens, tokens_from) = match &status {
        Some(status) if done > 0 => {
            let per_block = status.tokens() as f64 / done as f64;
            ((per_block * all as f64) as u64, "those of the blocks that are done")
        }
        _ => (bytes / BYTES_PER_TOKEN, "4 bytes of text each"),
    };
    let measured = status.as_ref().and_then(|status| status.seconds_per_block());
    let (hours, hours_from) = match (tokens_per_second, measured) {
        (Some(rate), _) => (
            Some(tokens as f64 / rate / 3600.0),
            format!("at {rate} tokens/s of a device, as given"),
        ),
        (None, Some(seconds)) => {
            let from = format!("at {seconds:.1} s a block, as attempts in this folder took");
            (Some(seconds * all as f64 / 3600.0), from)
        }
        (None, None) => {
            let from =
                "nothing has run yet: give --tokens-per-second, as a run of one point says it";
            (None, from.to_owned())
        }
    };
    Ok(Estimate { tokens, tokens_from, hours, hours_from, disk })
}
