//! The page of a sweep, at any time: what its plan, its tasks and its finished points say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::plan::SweepPlan;
use super::status::{Status, TaskStatus};
use crate::artifact::atomic::write_bytes_atomic;
use crate::artifact::machine::utc_now;
use crate::artifact::manifest::MANIFEST;
use crate::error::Result;
use crate::report::overview::{
    FailureRow, NodeRow, Overview, PassRow, PointRow, TaskBox, maps, page,
};

/// File name in the sweep's folder.
pub const OVERVIEW: &str = "overview.html";

/// Writes the page to `path`.
pub fn overview((plan, out): (&SweepPlan, &Path), status: &Status, path: &Path) -> Result<()> {
    let mut overview = Overview {
        name: format!("sweep {}", plan.name),
        facts: facts(plan, status),
        passes: passes(plan, status),
        tasks: status.tasks.iter().map(task).collect(),
        nodes: nodes(status),
        failures: status.tasks.iter().filter_map(failure).collect(),
        ..Overview::default()
    };
    for point in &plan.points {
        let folder = out.join("points").join(&point.name);
        let model = point.config.model.path.clone();
        // Its manifest is the last thing that a run writes before its page.
        let merged = folder.join(MANIFEST).exists();
        if merged {
            overview.maps.append(&mut maps(&folder, (&point.name, &model))?);
        }
        let (name, values, pass) = (point.name.clone(), point.values.clone(), point.pass);
        overview.points.push(PointRow { name, values, model, pass, merged });
    }
    write_bytes_atomic(path, page(&overview).as_bytes())
}

fn facts(plan: &SweepPlan, status: &Status) -> Vec<(String, String)> {
    let (done, all) = status.blocks();
    let by_state = status.by_state();
    let mut facts = vec![
        ("plan".to_owned(), plan.sweep_id.chars().take(12).collect()),
        ("as of".to_owned(), utc_now()),
        ("points".to_owned(), format!("{} from {} passes", plan.points.len(), plan.passes.len())),
        ("tasks".to_owned(), format!("{} of {} done", by_state[0], status.tasks.len())),
        ("blocks".to_owned(), format!("{done} of {all} done")),
        ("tokens".to_owned(), status.tokens().to_string()),
    ];
    let mut add = |name: &str, value: String| facts.push((name.to_owned(), value));
    let attempts = || status.tasks.iter().flat_map(|task| &task.attempts);
    let seconds = attempts().fold(0.0, |sum, attempt| sum + attempt.seconds);
    let hours = seconds / 3600.0;
    let wrong = attempts().filter(|attempt| attempt.exit != 0).count();
    add("attempts", format!("{} ended, {wrong} not with 0; {hours:.2} h", attempts().count()));
    if let Some(seconds) = status.seconds_per_block() {
        add("a block", format!("{seconds:.1} s of an attempt"));
    }
    if let Some(seconds) = status.seconds_left().filter(|_| done < all) {
        add("left", format!("{:.2} h with {} tasks at work", seconds / 3600.0, status.working()));
    }
    if status.energy_joules() > 0.0 {
        add("energy of the GPUs", format!("{:.3} kWh", status.energy_joules() / 3.6e6));
    }
    facts
}

fn passes(plan: &SweepPlan, status: &Status) -> Vec<PassRow> {
    let row = |(number, pass): (usize, &super::Pass)| {
        let tasks = status.tasks.iter().filter(|task| plan.tasks[task.task].pass == number);
        PassRow {
            model: pass.config.model.path.clone(),
            documents: pass.documents,
            bytes: pass.bytes,
            done: tasks.map(|task| u64::from(task.done)).sum(),
            blocks: u64::from(pass.blocks),
            points: plan.points.iter().filter(|point| point.pass == number).count(),
        }
    };
    plan.passes.iter().enumerate().map(row).collect()
}

fn task(task: &TaskStatus) -> TaskBox {
    let (done, blocks) = (task.done, task.blocks);
    TaskBox { state: task.state(), done, blocks, attempts: task.attempts.len() }
}

fn nodes(status: &Status) -> Vec<NodeRow> {
    let mut devices: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for task in &status.tasks {
        for attempt in &task.attempts {
            let known = devices.entry(&attempt.node).or_default();
            known.extend(attempt.devices.iter().map(String::as_str));
        }
        for sample in &task.working {
            let known = devices.entry(&sample.node).or_default();
            known.extend(sample.devices.iter().map(String::as_str));
        }
    }
    let of = |name: &str| -> Vec<String> {
        devices.get(name).into_iter().flatten().map(|&device| device.to_owned()).collect()
    };
    let row = |(name, node): (&str, super::NodeStatus)| NodeRow {
        name: name.to_owned(),
        devices: of(name),
        working: node.working,
        ended: node.ended,
        tokens_per_second: node.tokens_per_second,
        mean_tokens_per_second: node.mean_tokens_per_second,
    };
    status.nodes().into_iter().map(row).collect()
}

fn failure(task: &TaskStatus) -> Option<FailureRow> {
    let attempt = task.failure()?;
    Some(FailureRow {
        task: task.task,
        missing: task.missing_ranges(),
        node: attempt.node.clone(),
        exit: attempt.exit,
        error: attempt.error.clone().unwrap_or_default(),
    })
}
