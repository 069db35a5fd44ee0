//! Tasks become results: the states of a pass are merged along the fixed tree, once each, and every
//! point gets the folder that a run of its own would have left.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::plan::{Folder, SweepPlan};
use super::points::Point;
use super::work::{claim_kind, claimed};
use crate::accumulate::run::RunStatistics;
use crate::accumulate::summary::SiteSummary;
use crate::artifact::machine::utc_now;
use crate::artifact::tables::{CONTEXTS, NEURONS, RANKINGS};
use crate::corpus::block::{Counts, Labels};
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::states::States;
use crate::error::{Error, Result};
use crate::id::Site;
use crate::run::devices::{self, Devices};
use crate::run::folder::RunFolder;
use crate::run::{PassFacts, Prepared, Report, finish, pass_plan};

/// The tables of all points, in folders that Parquet readers take for columns.
pub const DATA: &str = "data";
/// Missing blocks that a message names.
const NAMED: usize = 12;

/// What a merge leaves.
#[derive(Clone, Debug)]
pub struct Merged {
    /// Folders of the points.
    pub points: Vec<PathBuf>,
    /// What was read for them, over all passes.
    pub tokens: u64,
}

/// Merges every pass and writes every point. Nothing is written of a pass that misses blocks, which is
/// an error that names them.
pub fn merge(
    (plan, out): (&SweepPlan, &Path),
    device: Option<&str>,
    report: Report<'_>,
) -> Result<Merged> {
    let mut merged = Merged { points: Vec::new(), tokens: 0 };
    let mut unfinished = Vec::new();
    for pass in 0..plan.passes.len() {
        if claimed(&Folder(out).pass(pass))?.is_none() {
            let blocks = plan.passes[pass].blocks;
            unfinished.push(format!("all {blocks} blocks of pass {pass} are missing"));
            continue;
        }
        let prepared = plan.prepare(pass, device)?;
        claim_kind(&prepared, &Folder(out).pass(pass))?;
        let asked = (plan, out, pass);
        let ended = match &prepared.devices {
            Devices::Cpu => on(&prepared, asked, vec![devices::cpu()], &mut *report),
            Devices::Cuda(found) => {
                let slots = devices::gpus(found, prepared.config.model.dtype);
                on(&prepared, asked, slots, &mut *report)
            }
        };
        match ended {
            Ok(mut done) => {
                merged.points.append(&mut done.points);
                merged.tokens += done.tokens;
            }
            Err(Error::Unfinished { what }) => unfinished.push(what),
            Err(error) => return Err(error),
        }
    }
    match unfinished.is_empty() {
        true => Ok(merged),
        false => Err(Error::Unfinished { what: unfinished.join("; ") }),
    }
}

fn on<O: Device>(
    prepared: &Prepared,
    (plan, out, pass): (&SweepPlan, &Path, usize),
    slots: Vec<Slot<'_, O>>,
    report: Report<'_>,
) -> Result<Merged> {
    let (start, clock) = (utc_now(), Instant::now());
    let wanted: BTreeSet<Site> = prepared.sites.iter().copied().collect();
    let setup = Setup::forward(&prepared.model, prepared.limits, &wanted);
    let mut fleet = Fleet::new(slots, setup);
    report("calibrating", 0, 0.0);
    let blocks = pass_plan(prepared, &mut fleet)?;
    report("merging", 0, 0.0);
    // What a merge commits on its way goes to a folder of its own.
    let folder = Folder(out);
    let own = folder.pass(pass).join("merged");
    let tasks = (0..plan.tasks.len()).filter(|task| plan.tasks[*task].pass == pass);
    let folders: Vec<PathBuf> =
        std::iter::once(own).chain(tasks.map(|task| folder.task(plan, task))).collect();
    let states: States<RunStatistics> =
        States::load_all(&folders, prepared.run_id, blocks.sites.clone())?;
    let missing = states.missing(blocks.blocks);
    if !missing.is_empty() {
        let what = format!(
            "{} of {} blocks of pass {pass} are missing: {}",
            missing.len(),
            blocks.blocks,
            ranges(&missing)
        );
        return Err(Error::Unfinished { what });
    }
    let (counts, summaries) = states.finish(blocks.blocks)?.finish();
    check_counts(prepared, pass, &counts)?;
    let mut merged = Merged { points: Vec::new(), tokens: counts.tokens };
    let points: Vec<&Point> = plan.points.iter().filter(|point| point.pass == pass).collect();
    for point in &points {
        let own = Prepared::on(point.config.clone(), prepared.devices.clone())?;
        let summaries = select(&summaries, (&prepared.plan.labels, &own))?;
        let run_folder = RunFolder::open(&own)?;
        run_folder.claim(&own)?;
        let seconds = clock.elapsed().as_secs_f64();
        let mut facts = PassFacts {
            start: start.clone(),
            clock,
            tokens: 0,
            seconds,
            resumed: u64::from(blocks.blocks),
            lost: Vec::new(),
        };
        let finished =
            finish(&own, &run_folder, &mut fleet, (counts, &summaries, &mut facts), &mut *report)?;
        place(out, point, &finished.folder)?;
        merged.points.push(finished.folder);
    }
    Ok(merged)
}

/// Documents as planned, each once.
fn check_counts(prepared: &Prepared, pass: usize, counts: &Counts) -> Result<()> {
    if counts.documents == prepared.plan.documents {
        return Ok(());
    }
    let what = format!(
        "pass {pass}: {} documents were merged, {} are planned",
        counts.documents, prepared.plan.documents
    );
    Err(Error::Contradiction { what })
}

/// What a point would have seen: its sites, and the groups of its columns.
fn select(
    summaries: &[SiteSummary],
    (labels, own): (&Labels, &Prepared),
) -> Result<Vec<SiteSummary>> {
    let broken = |what: String| Error::Contradiction { what };
    let mut groups = vec![0];
    for column in &own.plan.labels.columns {
        let known = labels.columns.iter().find(|known| known.name == column.name);
        let known = known.ok_or_else(|| broken(format!("no column {}", column.name)))?;
        if known.classes != column.classes {
            return Err(broken(format!("other classes of {}", column.name)));
        }
        let first = known.first_group as usize + 1;
        groups.extend(first..first + known.classes.len());
    }
    let of = |site: &Site| {
        let found = summaries.iter().find(|summary| summary.site == *site);
        found.map(|summary| summary.select(&groups)).ok_or_else(|| broken(format!("no {site}")))
    };
    own.sites.iter().map(of).collect()
}

/// Puts the tables of a point where readers find all points as one: `data/TABLE/AXIS=VALUE/…`.
fn place(out: &Path, point: &Point, from: &Path) -> Result<()> {
    for table in [RANKINGS, NEURONS, CONTEXTS] {
        let mut folder = out.join(DATA).join(table.trim_end_matches(".parquet"));
        folder.extend(point.values.iter().map(|(axis, value)| format!("{axis}={value}")));
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
        let (from, to) = (from.join(table), folder.join(table));
        let temporary = folder.join(format!(".{table}.new"));
        let io = |error| Error::io(&temporary, "write")(error);
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        // The same bytes under two names; a file system without links gets a copy.
        if fs::hard_link(&from, &temporary).is_err() {
            fs::copy(&from, &temporary).map_err(io)?;
            fs::File::open(&temporary).and_then(|file| file.sync_all()).map_err(io)?;
        }
        fs::rename(&temporary, &to).map_err(Error::io(&to, "rename"))?;
        // Two names of one file: the rename does nothing then, and leaves the other.
        let _ = fs::remove_file(&temporary);
        crate::artifact::atomic::sync_folder(&folder)?;
    }
    Ok(())
}

/// `3-7, 12`, the first of them.
pub(super) fn ranges(blocks: &[u32]) -> String {
    let mut runs: Vec<[u32; 2]> = Vec::new();
    for &block in blocks {
        match runs.last_mut() {
            Some([_, last]) if *last + 1 == block => *last = block,
            _ => runs.push([block, block]),
        }
    }
    let run = |[first, last]: &[u32; 2]| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let mut named: Vec<String> = runs.iter().take(NAMED).map(run).collect();
    if runs.len() > NAMED {
        named.push(format!("and {} more runs of blocks", runs.len() - NAMED));
    }
    named.join(", ")
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.

    #[test]
    fn missing_blocks_are_named_by_runs() {
        assert_eq!(super::ranges(&[3, 4, 5, 9, 11, 12]), "3-5, 9, 11-12");
        let many: Vec<u32> = (0..40).map(|block| 2 * block).collect();
        assert!(super::ranges(&many).ends_with("22, and 28 more runs of blocks"));
    }
}
