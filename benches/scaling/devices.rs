//! The pass over devices that only take time: queue, hand-over of states, tree, segments and the disk
//! are those of a run, the states have the sizes of one, and a block is a sleep.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use electrode::accumulate::State as _;
use electrode::accumulate::run::RunStatistics;
use electrode::corpus::batch::Batch;
use electrode::corpus::block::Counts;
use electrode::device::cpu::CpuDevice;
use electrode::device::cpu::statistics::{Activations, update_all};
use electrode::device::forward::Limits;
use electrode::device::rows::BatchRows;
use electrode::device::statistics::StatisticsPlan;
use electrode::engine::fleet::{Fleet, Setup, Slot};
use electrode::engine::pass::{BlockWork, run_pass};
use electrode::engine::share::Underway;
use electrode::engine::states::States;
use electrode::error::Result;
use electrode::hash::{GAMMA, mix};
use electrode::id::{RowId, Site, SiteKind};

use crate::print::{cpu_seconds, line, peak_mib, thread_seconds};

/// Rows that a state has seen: all of it is then filled with values that do not compress.
const ROWS: usize = 2048;
/// Different states, handed out in turns.
const STATES: u64 = 4;

#[derive(Args)]
pub(crate) struct Devices {
    /// How many, one table line each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16, 32, 64])]
    devices: Vec<u32>,
    /// Blocks for each device.
    #[arg(long, default_value_t = 25)]
    blocks: u32,
    /// Median time of a block.
    #[arg(long, default_value_t = 1.5)]
    block_seconds: f64,
    /// Spread of the logarithm of that time.
    #[arg(long, default_value_t = 0.25)]
    sigma: f64,
    /// One device takes so many times as long.
    #[arg(long, default_value_t = 1.0)]
    slow: f64,
    /// Neurons: those of all-MiniLM-L6-v2 at seven hidden states and six MLPs, or 2 x 256.
    #[arg(long, default_value = "minilm", value_parser = ["minilm", "small"])]
    state: String,
    #[arg(long, default_value_t = 17)]
    classes: usize,
    /// Bins of histograms.
    #[arg(long, default_value_t = 0)]
    bins: usize,
    #[arg(long, default_value_t = 20)]
    top: usize,
    /// Seconds between two states on the disk.
    #[arg(long, default_value_t = 20)]
    commit_seconds: u64,
}

/// A device that only takes time.
struct Simulated {
    slow: f64,
}

/// Blocks that take the time they are given and leave a state of the right size.
struct Sleeps {
    seconds: Vec<f64>,
    states: Vec<RunStatistics>,
    /// Devices make themselves known once: the first is the slow one.
    slow: (f64, AtomicBool),
}

impl BlockWork<Simulated> for Sleeps {
    type Block = u32;
    type State = RunStatistics;

    fn blocks(&self) -> u32 {
        u32::try_from(self.seconds.len()).expect("few blocks")
    }

    fn index(&self, block: &u32) -> u32 {
        *block
    }

    fn run(&self, device: &mut Simulated, block: &u32, _: &Underway<'_>) -> Result<RunStatistics> {
        std::thread::sleep(Duration::from_secs_f64(self.seconds[*block as usize] * device.slow));
        // What a device hands over at the end of a block is copied by its own thread.
        Ok(self.states[*block as usize % self.states.len()].clone())
    }
}

pub(crate) fn run(args: &Devices) {
    let plan = plan(args);
    let states: Vec<RunStatistics> = (0..STATES).map(|seed| filled(&plan, seed)).collect();
    let mut bytes = Vec::new();
    states[0].encode(&mut bytes);
    line(&format!(
        "states of {:.1} MB; {} blocks a device of {} s (sigma {}), one device {} times as slow",
        bytes.len() as f64 / 1e6,
        args.blocks,
        args.block_seconds,
        args.sigma,
        args.slow
    ));
    line("| devices | blocks/s | efficiency | tail | host ms a block | collecting thread | MiB |");
    line("|---|---|---|---|---|---|---|");
    for &devices in &args.devices {
        let count = devices * args.blocks;
        let normal = |block: u32| {
            // Twelve uniform numbers: as near to a normal one as a schedule needs.
            let uniform = |i: u64| mix((u64::from(block) * 12 + i + 1).wrapping_mul(GAMMA)) as f64;
            (0..12).map(|i| uniform(i) / u64::MAX as f64).sum::<f64>() - 6.0
        };
        let seconds = |block| args.block_seconds * (args.sigma * normal(block)).exp();
        let work = Sleeps {
            seconds: (0..count).map(seconds).collect(),
            states: states.clone(),
            slow: (args.slow, AtomicBool::new(args.slow == 1.0)),
        };
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        measure(args, &work, &plan, (devices, folder.path()));
    }
}

/// One line of the table.
fn measure(
    args: &Devices,
    work: &Sleeps,
    plan: &[(Site, Arc<StatisticsPlan>)],
    (devices, folder): (u32, &Path),
) {
    let setup = Setup::new(Limits { tokens: 1, sequence: 1 }, |_: CpuDevice, _| {
        let others = work.slow.1.swap(true, Ordering::Relaxed);
        Ok(Simulated { slow: if others { 1.0 } else { work.slow.0 } })
    });
    let slots = (0..devices).map(|i| Slot::new(i.to_string(), || Ok(CpuDevice::F32)));
    let mut fleet = Fleet::new(slots, setup);
    let states = States::load(folder, [0; 32], plan.to_vec()).expect("an empty folder");
    let mut states = states.commit_every(Duration::from_secs(args.commit_seconds));
    let blocks = work.blocks();
    let (clock, cpu, own) = (Instant::now(), cpu_seconds(), thread_seconds());
    let stop = AtomicBool::new(false);
    run_pass(&mut fleet, work, &mut states, (0..blocks).map(Ok), (&stop, |_| {})).expect("a pass");
    let wall = clock.elapsed().as_secs_f64();
    let (cpu, own) = (cpu_seconds() - cpu, thread_seconds() - own);
    drop(states);
    let (power, ideal) = list_schedule(&work.seconds, devices, args.slow);
    line(&format!(
        "| {devices} | {:.1} | {:.3} | {:.3} | {:.1} | {:.0} % | {:.0} |",
        f64::from(blocks) / wall,
        work.seconds.iter().sum::<f64>() / (power * wall),
        work.seconds.iter().sum::<f64>() / (power * ideal),
        1e3 * cpu / f64::from(blocks),
        100.0 * own / wall,
        peak_mib(),
    ));
}

/// What the devices could do together, in devices of full speed, and how long the blocks take when
/// whoever is free takes the next and all else takes no time.
fn list_schedule(seconds: &[f64], devices: u32, slow: f64) -> (f64, f64) {
    let mut free = vec![0.0_f64; devices as usize];
    let factor = |place: usize| if place == 0 { slow } else { 1.0 };
    for block in seconds {
        let first = |a: &usize, b: &usize| free[*a].total_cmp(&free[*b]);
        let place = (0..free.len()).min_by(first).expect("a device");
        free[place] += block * factor(place);
    }
    let power = (0..free.len()).map(|place| 1.0 / factor(place)).sum();
    (power, free.into_iter().fold(0.0, f64::max))
}

/// What is collected: moments, and whatever else was asked for.
fn plan(args: &Devices) -> Vec<(Site, Arc<StatisticsPlan>)> {
    let (kinds, layers) = match args.state.as_str() {
        "small" => (vec![(SiteKind::MlpAct, 256)], 2),
        _ => (vec![(SiteKind::MlpAct, 1536), (SiteKind::ResidPost, 384)], 6),
    };
    let edge = |bin: usize| (bin as f32 + 0.5) / args.bins as f32 * 2.0 - 1.0;
    let site = |neurons: usize| {
        Arc::new(StatisticsPlan {
            neurons,
            groups: args.classes,
            bins: args.bins,
            edges: (0..neurons).flat_map(|_| (1..args.bins.max(1)).map(edge)).collect(),
            shift: vec![0.0; neurons],
            top: args.top,
            bottom: 0,
            sample: 0,
            sample_seed: 0,
        })
    };
    let embeddings =
        (args.state == "minilm").then(|| (Site::global(SiteKind::Embeddings), site(384)));
    let of_layer = |layer: u32| {
        let site = &site;
        kinds.iter().map(move |&(kind, n)| (Site::of_layer(layer, kind), site(n)))
    };
    embeddings.into_iter().chain((0..layers).flat_map(of_layer)).collect()
}

/// A state that has seen rows of noise, filled as a block is.
fn filled(plan: &[(Site, Arc<StatisticsPlan>)], seed: u64) -> RunStatistics {
    let mut state = RunStatistics::new(plan);
    let rows = ROWS as u64;
    state.counts = Counts { documents: 1, rows, tokens: rows, ..Counts::default() };
    for (at, site) in (0_u64..).zip(&mut state.sites) {
        let own = Arc::clone(&site.plan);
        let number = |i: usize| mix((i as u64 + (at << 40) + (seed << 48) + 1).wrapping_mul(GAMMA));
        let x: Vec<f32> = (0..ROWS * own.neurons)
            .map(|i| (number(i) >> 40) as f32 / (1 << 23) as f32 - 1.0)
            .collect();
        let classes = own.groups as u64;
        let batch = Batch {
            row_ids: (0..rows).map(|row| RowId(seed * rows + row)).collect(),
            groups: (0..rows).map(|row| u32::try_from(row % classes).expect("few")).collect(),
            group_starts: (0..=u32::try_from(ROWS).expect("few")).collect(),
            ..Batch::default()
        };
        let rows = BatchRows::new(&batch, None, own.groups);
        let x = Activations { x: &x, stride: own.neurons };
        update_all(&own, &mut site.statistics, &rows, x);
    }
    state
}
