//! Tasks become results: the states of a pass are merged along the fixed tree, once each, and every
//! point gets the folder that a run of its own would have left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::plan::{Folder, SweepPlan};
use super::points::Point;
use super::work::{claim_kind, claimed};
use crate::accumulate::run::RunStatistics;
use crate::accumulate::summary::SiteSummary;
use crate::artifact::atomic::remove_leftovers;
use crate::artifact::machine::utc_now;
use crate::artifact::tables::{CONTEXTS, NEURONS, RANKINGS};
use crate::config::RunConfig;
use crate::corpus::block::{Counts, Labels};
use crate::disk;
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::states::States;
use crate::error::{Error, Result};
use crate::id::Site;
use crate::run::devices::{self, Devices};
use crate::run::folder::RunFolder;
use crate::run::opened::Opened;
use crate::run::{PassFacts, Prepared, Report, finish, pass_plan};

/// The tables of all points, in folders that Parquet readers take for columns.
pub const DATA: &str = "data";
/// Missing blocks that a message names.
const NAMED: usize = 12;

/// Folder of the points of an unfinished sweep.
pub const PARTIAL: &str = "partial";

/// What a merge leaves.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// Folders of the points.
    pub points: Vec<PathBuf>,
    /// What was read for them, over all passes.
    pub tokens: u64,
    /// What is missing of which pass, where that was asked for.
    pub missing: Vec<String>,
}

/// How a sweep is merged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Merging<'a> {
    /// Where contexts are traced; by default what the run file says.
    pub device: Option<&'a str>,
    /// Whether points of passes that miss blocks are written too, in a folder of their own and
    /// marked with what they cover.
    pub partial: bool,
}

/// Merges every pass and writes every point. Unless it is asked for, nothing is written of a pass that
/// misses blocks, which is an error that names them.
pub fn merge(
    (plan, out): (&SweepPlan, &Path),
    merging: Merging<'_>,
    report: Report<'_>,
) -> Result<Merged> {
    let mut merged = Merged::default();
    let mut unfinished = Vec::new();
    for pass in 0..plan.passes.len() {
        if claimed(&Folder(out).pass(pass))?.is_none() {
            let blocks = plan.passes[pass].blocks;
            unfinished.push(format!("all {blocks} blocks of pass {pass} are missing"));
            continue;
        }
        let prepared = plan.prepare(pass, merging.device, None)?;
        claim_kind(&prepared, &Folder(out).pass(pass))?;
        let asked = (plan, out, pass, merging.partial);
        let ended = match &prepared.devices {
            Devices::Cpu => {
                on(&prepared, asked, vec![devices::cpu(prepared.config.model.dtype)], &mut *report)
            }
            Devices::Cuda(found) => {
                let slots = devices::gpus(found, prepared.config.model.dtype);
                on(&prepared, asked, slots, &mut *report)
            }
        };
        match ended {
            Ok(mut done) => {
                merged.points.append(&mut done.points);
                merged.tokens += done.tokens;
                merged.missing.append(&mut done.missing);
            }
            Err(Error::Unfinished { what }) => unfinished.push(what),
            Err(error) => return Err(error),
        }
    }
    if merging.partial && !merged.points.is_empty() {
        merged.missing.append(&mut unfinished);
    }
    match unfinished.is_empty() {
        true => Ok(merged),
        false => {
            let what = format!("{} (`electrode sweep resume` does them)", unfinished.join("; "));
            Err(Error::Unfinished { what })
        }
    }
}

fn on<O: Device>(
    prepared: &Prepared,
    (plan, out, pass, partial): (&SweepPlan, &Path, usize, bool),
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
    let coverage = Coverage::new(pass, (blocks.blocks, &states.missing(blocks.blocks)));
    let broken = |coverage: Coverage| Error::Unfinished { what: coverage.what };
    let state = match (coverage.is_whole(), partial) {
        (true, _) => {
            let whole = states.finish(blocks.blocks)?;
            // What was killed while it wrote a note. An attempt that lives on, with nothing left to
            // do, only fails to leave its own.
            for folder in folders.iter().skip(1).chain([&folder.pass(pass)]) {
                remove_leftovers(folder)?;
            }
            whole
        }
        (false, false) => return Err(broken(coverage)),
        (false, true) => match states.fold()? {
            Some(state) => state,
            None => return Err(broken(coverage)),
        },
    };
    let (counts, summaries) = state.finish();
    if coverage.is_whole() {
        check_counts(prepared, pass, &counts)?;
    }
    let mut merged = Merged { tokens: counts.tokens, ..Merged::default() };
    let mut opened = BTreeMap::from([(labels_of(&prepared.config), Opened::known(prepared))]);
    for point in plan.points.iter().filter(|point| point.pass == pass) {
        let own = point_of(prepared, point, &mut opened)?;
        let summaries = select(&summaries, (&prepared.plan.labels, &own))?;
        let run_folder = coverage.folder(out, point, &own)?;
        let seconds = clock.elapsed().as_secs_f64();
        let mut facts = PassFacts {
            start: start.clone(),
            clock,
            tokens: 0,
            seconds,
            resumed: u64::from(coverage.done),
            done: coverage.done,
            partial: (!coverage.is_whole()).then(|| format!("partial: {}", coverage.what)),
            lost: Vec::new(),
        };
        let finished =
            finish(&own, &run_folder, &mut fleet, (counts, &summaries, &mut facts), &mut *report)?;
        if coverage.is_whole() {
            place(out, point, &finished.folder)?;
        }
        merged.points.push(finished.folder);
    }
    merged.missing.extend((!coverage.is_whole()).then_some(coverage.what));
    Ok(merged)
}

/// The run of a point. Points of a pass read the same text with the same model, so that one that reads
/// the same labels of it too has the same plan, which is made once.
fn point_of(
    prepared: &Prepared,
    point: &Point,
    opened: &mut BTreeMap<String, Opened>,
) -> Result<Prepared> {
    let (config, devices) = (point.config.clone(), prepared.devices.clone());
    let labels = labels_of(&config);
    if let Some(opened) = opened.get(&labels) {
        return Prepared::again(config, devices, opened.clone());
    }
    let own = Prepared::on(config, devices)?;
    opened.insert(labels, Opened::known(&own));
    Ok(own)
}

/// What tells the points of a pass apart in what they read.
fn labels_of(config: &RunConfig) -> String {
    serde_json::to_string(&config.concepts).expect("plain data")
}

/// How much of a pass there is.
struct Coverage {
    done: u32,
    blocks: u32,
    /// Which blocks are missing, in words.
    what: String,
}

impl Coverage {
    fn new(pass: usize, (blocks, missing): (u32, &[u32])) -> Self {
        let what = format!(
            "{} of {blocks} blocks of pass {pass} are missing: {}",
            missing.len(),
            ranges(missing)
        );
        let missing = u32::try_from(missing.len()).expect("blocks are u32");
        Self { done: blocks - missing, blocks, what }
    }

    fn is_whole(&self) -> bool {
        self.done == self.blocks
    }

    /// The folder of a point. That of a part bears the part in its id, which stands in every table,
    /// so that nobody takes it for the whole; a part merged earlier makes room for it.
    fn folder(&self, out: &Path, point: &Point, own: &Prepared) -> Result<RunFolder> {
        if self.is_whole() {
            let folder = RunFolder::open(own)?;
            folder.claim(own)?;
            return Ok(folder);
        }
        let path = out.join(PARTIAL).join(&point.name);
        match disk::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(&path, "remove")(error));
            }
            _ => {}
        }
        let id = format!("{}+{}of{}", own.run_id_hex(), self.done, self.blocks);
        let folder = RunFolder::open_at(path, id)?;
        folder.own()?;
        Ok(folder)
    }
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
        disk::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
        let (from, to) = (from.join(table), folder.join(table));
        let temporary = folder.join(format!(".{table}.new"));
        let io = |error| Error::io(&temporary, "write")(error);
        match disk::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        // The same bytes under two names; a file system without links gets a copy.
        if disk::hard_link(&from, &temporary).is_err() {
            disk::copy(&from, &temporary).map_err(io)?;
        }
        disk::rename(&temporary, &to).map_err(Error::io(&to, "rename"))?;
        // Two names of one file: the rename does nothing then, and leaves the other.
        let _ = disk::remove_file(&temporary);
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
