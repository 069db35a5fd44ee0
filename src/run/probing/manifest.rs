//! `manifest.json` of a probing run.

use super::{Kept, Probing};
use crate::artifact::machine::{Machine, environment};
use crate::artifact::manifest::{
    ClassFacts, CorpusFacts, FORMAT, FileFacts, LabelFacts, Manifest, PlanFacts, Program,
    SiteFacts, Timings, hash_json,
};
use crate::corpus::block::Counts;
use crate::error::Result;
use crate::hash::hex;
use crate::probe::rows::RowTable;
use crate::probe::split::Part;
use crate::run::folder::RunFolder;
use crate::run::probing::tasks::Tasks;
use crate::run::provenance::{corpus_files, model_facts};

/// Writes it; `outputs` are the other files of the folder.
pub(super) fn write(
    probing: &Probing,
    folder: &RunFolder,
    (table, tasks): (&RowTable, &Tasks),
    (timings, kept, more): (Timings, Kept, &[String]),
    outputs: &[&str],
) -> Result<()> {
    let prepared = &probing.prepared;
    let places = probing.places();
    let neurons = places.iter().map(|place| place.width as u64).sum();
    let counts: Counts = table.counts;
    let blocks = u64::from(prepared.blocks());
    let model = (&prepared.model, &prepared.model_files[..]);
    let parts = Part::ALL.map(|part| format!("{} {}", table.count(part), part.name()));
    let mut notes = vec![format!("rows: {}", parts.join(", ")), format!("activations were {kept}")];
    for label in &tasks.labels {
        let unseen = label.unseen[Part::Dev as usize] + label.unseen[Part::Test as usize];
        if unseen > 0 {
            let title = label.title();
            notes.push(format!(
                "{unseen} dev and test rows of {title} have a class that no training row has: \
                 they count as wrong"
            ));
        }
    }
    notes.extend_from_slice(more);
    Manifest {
        format: FORMAT.to_owned(),
        run_id: hex(&probing.run_id),
        electrode: Program::default(),
        config_hash: hash_json(&probing.config.identity()),
        config: serde_json::to_value(&probing.config).expect("plain data"),
        model: model_facts(model, &probing.config.model, neurons)?,
        corpus: CorpusFacts { files: corpus_files(prepared), counts },
        labels: tasks.labels.iter().map(|label| facts(label, tasks)).collect(),
        sites: places
            .iter()
            .map(|place| SiteFacts { site: place.name.clone(), neurons: place.width as u64 })
            .collect(),
        plan: PlanFacts { blocks, hash: prepared.plan.hash(), done: blocks },
        machine: Machine::here(rayon::current_num_threads()),
        devices: prepared.devices.facts(),
        timings,
        environment: environment(),
        notes,
        outputs: outputs
            .iter()
            .map(|name| FileFacts::output(folder.path(), name))
            .collect::<Result<_>>()?,
    }
    .write(folder.path())
}

/// Notes of devices that were given up.
pub(super) fn lost(devices: &[String]) -> impl Iterator<Item = String> {
    devices.iter().map(|name| format!("device {name} failed on the way"))
}

fn facts(label: &super::tasks::Label, tasks: &Tasks) -> LabelFacts {
    let task = &tasks.list[label.task];
    let classes = label.classes.len();
    let counts = Part::ALL.map(|part| match classes {
        0 => Vec::new(),
        _ => task.part(part).counts(classes),
    });
    let class = |(at, name): (usize, &String)| ClassFacts {
        name: name.clone(),
        rows: counts.iter().map(|counts| counts[at]).sum(),
        ranked: true,
    };
    LabelFacts {
        column: label.title(),
        min_count: 1,
        classes: label.classes.iter().enumerate().map(class).collect(),
    }
}
