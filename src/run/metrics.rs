//! `metrics.jsonl`: how a pass goes on, a JSON object every few seconds, for people, notebooks and
//! `electrode sweep status`. A thread of its own writes it, so that a pass which hangs still shows
//! that it lives. No run fails for want of it, and no result depends on it.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Devices;
use crate::artifact::machine::{resident_memory, utc_now};
use crate::device::cuda::nvml::{GpuState, LIBRARY, Nvml};
use crate::disk::{self, File};

/// File name in the folder of a run.
pub const METRICS: &str = "metrics.jsonl";
/// Between two lines.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// How long the end of an attempt waits for its last line.
const PATIENCE: Duration = Duration::from_secs(2);
/// Suffix of the files whose bytes are [`Sample::state_bytes`].
const STATES: &str = "seg";
/// What is read of the end of a file to find its last line; a line has about 300 bytes, and 200 more
/// for each GPU.
const TAIL: u64 = 1 << 16;

/// A line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// UTC, for people; nothing is ordered by it.
    pub time: String,
    /// Since the attempt began, by the monotonic clock.
    pub seconds: f64,
    /// `preparing`, `calibrating`, `reading`, and `ended` in the last line.
    pub stage: String,
    /// Blocks done of the task or run, those of earlier attempts included and the running ones in
    /// part.
    pub blocks_done: f64,
    /// All of its blocks; 0 until that is known.
    pub blocks: u32,
    /// Blocks of this attempt, as `blocks_done`.
    pub attempt_blocks: f64,
    /// Seconds in which they were done: since the first block was begun.
    pub attempt_seconds: f64,
    /// Tokens of this attempt.
    pub tokens: u64,
    /// Tokens per second since the line before.
    pub tokens_per_second: f64,
    /// Tokens per second over `attempt_seconds`.
    pub mean_tokens_per_second: f64,
    /// Bytes of memory of this process, where the system tells it.
    pub resident_bytes: Option<u64>,
    /// Bytes of states on the disk, of all attempts at the task.
    pub state_bytes: u64,
    /// The machine: its node in a cluster, else its host.
    pub node: String,
    /// What it runs on; each GPU has its place in `gpus` as well.
    pub devices: Vec<String>,
    /// By NVML; empty where the driver does not have it.
    #[serde(default)]
    pub gpus: Vec<Gpu>,
}

/// What a GPU does, by its driver; absent for what that does not say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// As `nvidia-smi -L` prints it.
    pub uuid: String,
    /// Percent of the last sampling period in which a kernel ran.
    pub utilisation: Option<u32>,
    /// Bytes of its memory in use, by all processes.
    pub memory_bytes: Option<u64>,
    /// Watts.
    pub power_watts: Option<f64>,
    /// Joules since the attempt began.
    pub energy_joules: Option<f64>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Clock of the multiprocessors, MHz.
    pub sm_clock_mhz: Option<u32>,
}

/// Writes the lines of one attempt until it is dropped, which writes the last.
#[derive(Debug)]
pub(super) struct Metrics {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    now: Mutex<Now>,
    ended: Condvar,
}

/// What the pass last said.
#[derive(Clone, Debug, Default)]
struct Now {
    stage: &'static str,
    /// Clock of the first block, and the blocks and tokens that were done before it.
    began: Option<(Instant, f64, u64)>,
    blocks_done: f64,
    blocks: u32,
    tokens: u64,
    devices: Vec<String>,
    uuids: Vec<String>,
    /// The attempt has ended; then the last line was written.
    ended: bool,
    closed: bool,
}

impl Shared {
    /// A panic elsewhere leaves nothing half-said that matters.
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metrics {
    /// Begins a file, or goes on behind the last line of one; `states` is the folder of the attempt's
    /// states. Where no file can be made there will be none.
    pub(super) fn start(path: PathBuf, states: PathBuf) -> Self {
        let now = Now { stage: "preparing", ..Now::default() };
        let shared = Arc::new(Shared { now: Mutex::new(now), ended: Condvar::new() });
        let file = File::append(&path);
        let file =
            file.map_err(|error| tracing::debug!(%error, path = %path.display(), "no metrics"));
        let started = file.ok().and_then(|file| {
            let (writer, shared) = (Writer::new(file, states), Arc::clone(&shared));
            let write = move || {
                writer.write_all(&shared);
                shared.now().closed = true;
                shared.ended.notify_all();
            };
            std::thread::Builder::new().name("metrics".to_owned()).spawn(write).ok()
        });
        shared.now().closed |= started.is_none();
        Self { shared }
    }

    /// Says what the pass runs on.
    pub(super) fn runs_on(&self, devices: &Devices) {
        let mut now = self.shared.now();
        now.stage = "calibrating";
        now.devices = devices.facts().into_iter().map(|device| device.name).collect();
        if let Devices::Cuda(found) = devices {
            now.uuids = found.iter().map(|gpu| gpu.uuid.clone()).collect();
        }
    }

    /// The first block is begun: `done` of `blocks` and `tokens` are those of earlier attempts.
    pub(super) fn begin(&self, (done, blocks): (f64, u32), tokens: u64) {
        let mut now = self.shared.now();
        now.stage = "reading";
        now.began = Some((Instant::now(), done, tokens));
        (now.blocks_done, now.blocks, now.tokens) = (done, blocks, tokens);
    }

    /// How far the pass is, earlier attempts included.
    pub(super) fn note(&self, tokens: u64, blocks_done: f64) {
        let mut now = self.shared.now();
        (now.tokens, now.blocks_done) = (tokens, blocks_done);
    }
}

impl Drop for Metrics {
    /// Waits for the last line, but not for ever: NVML may hang on a GPU that is lost.
    fn drop(&mut self) {
        let mut now = self.shared.now();
        (now.ended, now.stage) = (true, "ended");
        self.shared.ended.notify_all();
        let _ = self.shared.ended.wait_timeout_while(now, PATIENCE, |now| !now.closed);
    }
}

/// The thread's own.
struct Writer {
    file: File,
    states: PathBuf,
    clock: Instant,
    node: String,
    gpus: Option<Gpus>,
    /// Seconds and tokens of the line before.
    before: (f64, u64),
}

/// The GPUs of the attempt, with the joules that each had used when it began.
struct Gpus {
    nvml: Nvml,
    uuids: Vec<String>,
    first: Vec<GpuState>,
}

impl Writer {
    fn new(file: File, states: PathBuf) -> Self {
        let (clock, node) = (Instant::now(), node());
        Self { file, states, clock, node, gpus: None, before: (0.0, 0) }
    }

    /// A line at once, one every [`INTERVAL`], and one at the end. A disk that does not take one is
    /// not asked again.
    fn write_all(mut self, shared: &Shared) {
        loop {
            let now = shared.now().clone();
            let ended = now.ended;
            let sample = self.sample(now);
            let mut line = serde_json::to_vec(&sample).expect("names and numbers are always JSON");
            line.push(b'\n');
            if let Err(error) = self.file.write_all(&line) {
                tracing::debug!(%error, "no more metrics");
                return;
            }
            if ended {
                return;
            }
            // Every interval, whatever is noted meanwhile; at once when the attempt ends.
            let waited = shared.ended.wait_timeout_while(shared.now(), INTERVAL, |now| !now.ended);
            drop(waited.map(|(guard, _)| guard));
        }
    }

    fn sample(&mut self, now: Now) -> Sample {
        let seconds = self.clock.elapsed().as_secs_f64();
        let (attempt_seconds, blocks, tokens) = match now.began {
            Some((clock, blocks, tokens)) => {
                let done = now.blocks_done - blocks;
                (clock.elapsed().as_secs_f64(), done, now.tokens.saturating_sub(tokens))
            }
            None => (0.0, 0.0, 0),
        };
        let rate = |tokens: u64, seconds: f64| match seconds > 0.0 {
            true => tokens as f64 / seconds,
            false => 0.0,
        };
        let (last_seconds, last_tokens) = std::mem::replace(&mut self.before, (seconds, tokens));
        Sample {
            time: utc_now(),
            seconds,
            stage: now.stage.to_owned(),
            blocks_done: now.blocks_done,
            blocks: now.blocks,
            attempt_blocks: blocks,
            attempt_seconds,
            tokens,
            tokens_per_second: rate(tokens.saturating_sub(last_tokens), seconds - last_seconds),
            mean_tokens_per_second: rate(tokens, attempt_seconds),
            resident_bytes: resident_memory(),
            state_bytes: bytes_of_states(&self.states),
            node: self.node.clone(),
            gpus: self.look(&now.uuids),
            devices: now.devices,
        }
    }

    /// What the GPUs do now; the library is opened at the first time that there are any.
    fn look(&mut self, uuids: &[String]) -> Vec<Gpu> {
        if uuids.is_empty() {
            return Vec::new();
        }
        if self.gpus.is_none() {
            let names: Vec<&str> = uuids.iter().map(String::as_str).collect();
            let open = |nvml: Nvml| Gpus { first: nvml.read(), nvml, uuids: uuids.to_vec() };
            self.gpus = Nvml::open(LIBRARY, &names).map(open);
        }
        let Some(Gpus { nvml, uuids, first }) = &self.gpus else { return Vec::new() };
        let gpu = |((uuid, first), state): ((&String, &GpuState), GpuState)| Gpu {
            uuid: uuid.clone(),
            utilisation: state.utilisation,
            memory_bytes: state.memory,
            power_watts: state.power,
            energy_joules: state
                .energy
                .zip(first.energy)
                .map(|(now, first)| (now - first).max(0.0)),
            temperature: state.temperature,
            sm_clock_mhz: state.clock,
        };
        uuids.iter().zip(first).zip(nvml.read()).map(gpu).collect()
    }
}

/// The node's own name under Slurm, where several may share a host.
pub(super) fn node() -> String {
    let named = ["SLURMD_NODENAME", "HOSTNAME"].iter().find_map(|name| std::env::var(name).ok());
    named
        .or_else(|| Some(disk::read_to_string("/etc/hostname").ok()?.trim().to_owned()))
        .unwrap_or_default()
}

fn bytes_of_states(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let states = entries.filter(|entry| entry.path().extension().is_some_and(|s| s == STATES));
    states.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// The last whole line of a file, and how long ago something was written to it. None for a file that
/// has no such line: it is only for people.
pub fn last_sample(path: &Path) -> Option<(Sample, Duration)> {
    let mut file = File::open(path).ok()?;
    let data = file.metadata().ok()?;
    file.seek(SeekFrom::Start(data.len().saturating_sub(TAIL))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail).ok()?;
    // A line that is being written, or that a kill cut, has no end.
    let whole = &tail[..tail.iter().rposition(|byte| *byte == b'\n')?];
    let start = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let sample = serde_json::from_slice(&whole[start..]).ok()?;
    // A clock that went back, or that of a file server, makes nothing old.
    Some((sample, data.modified().ok()?.elapsed().unwrap_or_default()))
}
