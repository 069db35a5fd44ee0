//! The plan of a sweep: its points, the passes they share, and the tasks that passes are cut into.
//! Written once; everything else only reads it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::config::{SlurmConfig, SweepConfig};
use super::points::{Point, points};
use crate::artifact::sealed::{read_sealed, write_sealed};
use crate::artifact::secrets::first_masked;
use crate::config::RunConfig;
use crate::disk;
use crate::engine::segment::RunId;
use crate::error::{Error, Result};
use crate::hash::hex;
use crate::run::folder::lock;
use crate::run::opened::Opened;
use crate::run::prepare::parse_methods;
use crate::run::{Devices, Prepared};

/// File name of the plan.
pub const SWEEP: &str = "sweep.json";
/// Held while a plan is written or submitted.
const LOCK: &str = "sweep.lock";
/// What planning found of a pass, in its folder: tasks need not read corpus and model to know them.
const OPENED: &str = "opened.json";
/// Of this layout.
const FORMAT: &str = "electrode-sweep/1";

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepPlan {
    format: String,
    /// Hash of everything that may change a number of any point.
    pub sweep_id: String,
    /// What people call it.
    pub name: String,
    /// Every combination.
    pub points: Vec<Point>,
    /// What is read for them.
    pub passes: Vec<Pass>,
    /// What a job does at a time.
    pub tasks: Vec<Task>,
    /// How it is submitted.
    pub slurm: SlurmConfig,
    /// What was found of each pass, while it is planned.
    #[serde(skip)]
    opened: Vec<Option<Opened>>,
}

/// A corpus read by a model, once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pass {
    /// The run that it is, without methods.
    pub config: RunConfig,
    /// [`Prepared::id_anywhere`] in hex.
    pub id: String,
    /// Blocks of the corpus.
    pub blocks: u32,
    /// Its documents and bytes of text.
    pub documents: u64,
    /// See `documents`.
    pub bytes: u64,
    /// Bytes of the state of a task on disk, before compression.
    pub state_bytes: u64,
}

/// Some blocks of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Number of the pass.
    pub pass: usize,
    /// Its first block.
    pub first: u32,
    /// The block behind its last.
    pub end: u32,
}

impl SweepPlan {
    /// Expands a sweep file and opens every model and corpus once; refuses what cannot work. Nothing
    /// is written.
    pub fn make(config: &SweepConfig) -> Result<Self> {
        let (points, passes) = points(config)?;
        for point in &points {
            parse_methods(&point.config)?;
        }
        let mut hasher = blake3::Hasher::new();
        let (mut planned, mut tasks, mut opened) = (Vec::new(), Vec::new(), Vec::new());
        for (number, mut pass) in passes.into_iter().enumerate() {
            pass.out = PathBuf::from(format!("passes/{number:04}"));
            let begun = SystemTime::now();
            let prepared = Prepared::on(pass.clone(), Devices::Cpu)?;
            opened.push(Opened::of(&prepared, begun)?);
            let state = crate::run::memory_plan(&prepared, prepared.limits.tokens)?.state;
            hasher.update(&prepared.id_anywhere());
            planned.push(Pass {
                id: hex(&prepared.id_anywhere()),
                blocks: prepared.blocks(),
                documents: prepared.plan.documents,
                bytes: prepared.plan.bytes,
                state_bytes: state,
                config: pass,
            });
            let blocks = prepared.blocks();
            let step = config.task_blocks as usize;
            tasks.extend((0..blocks).step_by(step).map(|first| {
                let end = first.saturating_add(config.task_blocks).min(blocks);
                Task { pass: number, first, end }
            }));
        }
        for point in &points {
            hasher.update(point.config.identity().to_string().as_bytes());
            hasher.update(format!("{} {}", point.name, point.pass).as_bytes());
        }
        hasher.update(&config.task_blocks.to_le_bytes());
        let plan = Self {
            format: FORMAT.to_owned(),
            sweep_id: hasher.finalize().to_hex().to_string(),
            name: config.name.clone(),
            points,
            passes: planned,
            tasks,
            slurm: config.slurm.clone(),
            opened,
        };
        plan.refuse_secrets()?;
        Ok(plan)
    }

    /// The plan and the job files are read by whoever reads the results.
    fn refuse_secrets(&self) -> Result<()> {
        let value = serde_json::to_value(self).expect("plain data");
        let Some(text) = first_masked(&value) else { return Ok(()) };
        let what = format!("'{text}' holds what looks like a token or a password");
        let remedy = "leave it in the environment, or read it from a file of your own in slurm.setup; \
                      rename a folder that is called so";
        Err(Error::config(SWEEP, what, remedy))
    }

    /// Writes the plan into the sweep's folder. The same plan there already is left as it is; another
    /// is never replaced.
    pub fn write(&self, folder: &Path) -> Result<()> {
        disk::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let _lock = Folder(folder).lock()?;
        let path = folder.join(SWEEP);
        if !path.exists() {
            // First what saves tasks their time, so that it is there once there is a plan.
            for (number, opened) in self.opened.iter().enumerate() {
                let (pass, Some(opened)) = (Folder(folder).pass(number), opened) else { continue };
                disk::create_dir_all(&pass).map_err(Error::io(&pass, "create"))?;
                opened.write(&pass.join(OPENED))?;
            }
            return write_sealed(&path, self);
        }
        let there = Self::read(folder)?;
        if there.sweep_id == self.sweep_id {
            return Ok(());
        }
        let what = format!(
            "the folder holds sweep {}, this is {}: the files, models or corpora changed",
            &there.sweep_id[..12],
            &self.sweep_id[..12]
        );
        let remedy = "choose another out, or delete this folder";
        Err(Error::config(path.display().to_string(), what, remedy))
    }

    /// Reads the plan of a sweep's folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(SWEEP);
        let bytes = match disk::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let remedy = "make it with `electrode sweep plan FILE`";
                let place = folder.display().to_string();
                return Err(Error::config(place, "holds no sweep", remedy));
            }
            other => other.map_err(Error::io(&path, "read"))?,
        };
        let remedy = "plan the sweep again into another folder";
        let damaged = |what: String| Error::input(&path, what, remedy);
        let plan: Self = read_sealed(&path, &bytes, remedy)?;
        if plan.format != FORMAT {
            return Err(damaged(format!("'{}' is not {FORMAT}", plan.format)));
        }
        plan.check().map_err(|what| damaged(what.to_owned()))?;
        Ok(plan)
    }

    /// Whether tasks, passes and points belong together.
    fn check(&self) -> std::result::Result<(), &'static str> {
        let mut next = vec![0; self.passes.len()];
        for task in &self.tasks {
            let blocks = self.passes.get(task.pass).ok_or("a task has no pass")?.blocks;
            if task.first != next[task.pass] || task.end <= task.first || task.end > blocks {
                return Err("tasks do not cover each block once");
            }
            next[task.pass] = task.end;
        }
        if next.iter().zip(&self.passes).any(|(next, pass)| *next != pass.blocks) {
            return Err("tasks do not cover each block once");
        }
        match self.points.iter().any(|point| point.pass >= self.passes.len()) {
            true => Err("a point has no pass"),
            false => Ok(()),
        }
    }

    /// The run of a pass, opened here; it must be the one that was planned.
    /// With `out`, corpus and model are not read for it if their times are those of the plan.
    pub(super) fn prepare(
        &self,
        number: usize,
        device: Option<&str>,
        out: Option<&Path>,
    ) -> Result<Prepared> {
        let pass = &self.passes[number];
        let mut config = pass.config.clone();
        if let Some(device) = device {
            config.device.name = Some(device.to_owned());
        }
        let devices = Devices::choose(config.device.name.as_deref())?;
        let opened = out.and_then(|out| Opened::read(&Folder(out).pass(number).join(OPENED)));
        let prepared = match opened {
            Some(opened) => Prepared::again(config, devices, opened)?,
            None => Prepared::on(config, devices)?,
        };
        if hex(&prepared.id_anywhere()) == self.passes[number].id {
            return Ok(prepared);
        }
        let what = "model, tokenizer, corpus or program changed since the sweep was planned";
        let remedy = "plan the sweep again into another folder";
        Err(Error::config(format!("pass {number}"), what, remedy))
    }
}

/// Where everything of a sweep stands.
pub(super) struct Folder<'a>(pub(super) &'a Path);

impl Folder<'_> {
    /// Nobody else plans or submits while this lives: two that look at the queue at once would both
    /// find it empty.
    pub(super) fn lock(&self) -> Result<disk::File> {
        lock(&self.0.join(LOCK), || {
            let place = self.0.display().to_string();
            let what = "another program plans or submits this sweep";
            Error::config(place, what, "wait for it, then see `electrode sweep status`")
        })
    }

    pub(super) fn pass(&self, pass: usize) -> PathBuf {
        self.0.join(format!("passes/{pass:04}"))
    }

    /// What attempts of a task leave, however many work at a time.
    pub(super) fn task(&self, plan: &SweepPlan, task: usize) -> PathBuf {
        self.pass(plan.tasks[task].pass).join(format!("tasks/{task:06}"))
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    pub(super) fn jobs(&self) -> PathBuf {
        self.0.join("jobs")
    }
}

/// A run id as its bytes.
pub(super) fn id_bytes(hex: &str) -> Option<RunId> {
    let byte = |at: usize| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    bytes?.try_into().ok()
}
