//! A merge of many segments: how long it takes, and in how much memory.
//! Oracle: the sum of what was written, each task once; the limits of design section 5, row 17: 10,000
//! segments in 60 s on two cores and 1 GB. The short form has the same demand for each segment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use electrode::accumulate::run::RunStatistics;
use electrode::corpus::block::Counts;
use electrode::device::statistics::StatisticsPlan;
use electrode::engine::merge::Node;
use electrode::engine::segment::SegmentWriter;
use electrode::engine::states::States;
use electrode::id::{Site, SiteKind};
use rayon::prelude::*;

use crate::data::Random;
use crate::figures::{cases, hold};
use crate::states::{Plan, RUN, bytes};

const LAYERS: u32 = 12;
const NEURONS: usize = 4096;
/// With gaps: what is never more than 48 states of 1.77 MB, thrice for what the allocator does not give
/// back, of the 300 that there are then (531 MB).
const MOST_WITH_GAPS: u64 = 256 << 20;
/// Blocks of a task, which leaves one state for all of them: level 4 of the tree.
const LEVEL: u8 = 4;
/// Processor seconds for a segment: 60 s of two cores for 10,000.
const SECONDS: f64 = 2.0 * 60.0 / 10_000.0;
/// Far below 1 GB, and below the states of the short form together.
const MOST_MEMORY: u64 = 192 << 20;

/// Moments of every neuron over all rows: 36 bytes a neuron, 1.77 MB a state.
fn plan() -> Plan {
    let site = StatisticsPlan {
        neurons: NEURONS,
        groups: 0,
        bins: 0,
        edges: Vec::new(),
        shift: vec![0.0; NEURONS],
        top: 0,
        bottom: 0,
        sample: 0,
        sample_seed: 0,
    };
    let site = Arc::new(site);
    (0..LAYERS).map(|layer| (Site::of_layer(layer, SiteKind::MlpAct), Arc::clone(&site))).collect()
}

/// A state whose sums do not shrink when they are packed, as those of real activations.
fn state(plan: &Plan, task: u32) -> RunStatistics {
    let mut state = RunStatistics::new(plan);
    state.counts = Counts { documents: 16, tokens: 1 + u64::from(task), ..Counts::default() };
    let mut random = Random(u64::from(task) % 7);
    for site in &mut state.sites {
        let own = &mut site.statistics;
        own.rows[0] = 1_000;
        let numbers = own.sum.iter_mut().chain(&mut own.square);
        numbers.for_each(|x| *x = (random.next() >> 11) as f64 / 1e9);
        own.min.iter_mut().chain(&mut own.max).for_each(|x| *x = random.normal());
    }
    state
}

/// More than a file system in memory may hold.
fn on_disk() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Segments of tasks: five tasks in eight segments, for three of them were done twice.
fn write(place: &Path, tasks: &[u32]) -> usize {
    let plan = plan();
    let written: Vec<usize> = tasks
        .par_iter()
        .map(|&task| {
            let (state, folder) = (state(&plan, task), place.join(format!("{task:06}")));
            let payload = bytes(&state);
            let attempts = 1 + usize::from(task % 5 > 1);
            for _ in 0..attempts {
                let mut writer = SegmentWriter::create(&folder, RUN).expect("made");
                let node = Node { level: LEVEL, index: task };
                writer.append(node, &state.counts, &payload).expect("appended");
                writer.sync().expect("synced");
            }
            attempts
        })
        .collect();
    written.into_iter().sum()
}

/// What a merge in a process of its own says: tokens merged or blocks missing, seconds, processor seconds,
/// most bytes of memory.
fn in_a_process_of_its_own(place: &Path, tasks: u32) -> [f64; 4] {
    let program = std::env::current_exe().expect("this one");
    let mut command = Command::new(program);
    command.args(["--exact", "size::merged_by_itself", "--ignored", "--nocapture"]);
    command.env("ELECTRODE_MERGE", place).env("ELECTRODE_TASKS", tasks.to_string());
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.split_once("merged|"));
    let line = line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    let numbers: Vec<f64> =
        line.1.split('|').map(|number| number.parse().expect("a number")).collect();
    numbers.try_into().expect("four of them")
}

#[test]
#[ignore = "half of another test, which starts it as a process"]
fn merged_by_itself() {
    let place = PathBuf::from(std::env::var_os("ELECTRODE_MERGE").expect("where"));
    let tasks: u32 = std::env::var("ELECTRODE_TASKS").expect("how many").parse().expect("a number");
    let mut folders: Vec<PathBuf> =
        (0..tasks).map(|task| place.join(format!("{task:06}"))).collect();
    folders.insert(0, place.join("merged"));
    let clock = Instant::now();
    let blocks = tasks << LEVEL;
    let states: States<RunStatistics> = States::load_all(&folders, RUN, plan()).expect("loads");
    let missing = states.missing(blocks).len() as f64;
    let answer = match missing > 0.0 {
        true => missing,
        false => states.finish(blocks).expect("merges").counts.tokens as f64,
    };
    let (seconds, [processor, memory]) = (clock.elapsed().as_secs_f64(), used());
    use std::io::Write as _;
    let line = format!("merged|{answer}|{seconds}|{processor}|{memory}\n");
    std::io::stdout().write_all(line.as_bytes()).expect("stdout takes a line");
}

/// Processor seconds of this process, and the most memory that it held.
fn used() -> [f64; 2] {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let after = stat.rsplit_once(')').expect("the name ends").1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("ticks")).sum();
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("the high-water mark");
    let kib: f64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    [ticks / 100.0, kib * 1024.0]
}

#[test]
fn many_segments() {
    let tasks = cases(125, 6_250) as u32;
    let place = on_disk();
    let all: Vec<u32> = (0..tasks).collect();
    let segments = write(place.path(), &all);
    let [tokens, seconds, processor, memory] = in_a_process_of_its_own(place.path(), tasks);
    let want = f64::from(tasks) * (f64::from(tasks) + 1.0) / 2.0;
    let limit = SECONDS * segments as f64;
    eprintln!(
        "{segments} segments of {} blocks: {seconds:.2} s, {processor:.2} s of processor (limit {limit:.2}), \
         {:.0} MiB",
        tasks << LEVEL,
        memory / f64::from(1 << 20)
    );
    let mut wrong = Vec::new();
    let checks = [
        (tokens == want, format!("{tokens} tokens, not {want}")),
        (processor <= limit, format!("{processor} s of processor, limit {limit}")),
        (memory <= MOST_MEMORY as f64, format!("{memory} bytes of memory")),
    ];
    wrong.extend(checks.into_iter().filter(|(good, _)| !good).map(|(_, what)| what));
    hold(
        "segments merged at size: each task once, time and memory within limits",
        segments as u64,
        &wrong,
    );
}

/// Gaps keep pairs apart, so that nothing merges into one: what is merged does not pile up in memory.
#[test]
fn gaps_do_not_fill_the_memory() {
    let place = on_disk();
    let tasks = 1_200;
    let there: Vec<u32> = (0..tasks).filter(|task| task % 4 < 2).collect();
    write(place.path(), &there);
    let [missing, _, _, memory] = in_a_process_of_its_own(place.path(), tasks);
    assert_eq!(missing, f64::from((tasks / 2) << LEVEL));
    assert!(memory <= MOST_WITH_GAPS as f64, "{memory} bytes of memory");
}
