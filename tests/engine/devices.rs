//! Sixty-four devices that only take time. Oracle: a clock that goes from one end of a block to the next,
//! so that how busy the devices are is exact whatever else the machine does; for the bits, one device.
//! `benches/scaling` measures the same with states of real size on the real clock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use electrode::accumulate::State as _;
use electrode::accumulate::run::RunStatistics;
use electrode::corpus::block::Counts;
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::Limits;
use electrode::device::statistics::StatisticsPlan;
use electrode::engine::fleet::{Fleet, Setup, Slot};
use electrode::engine::pass::{BlockWork, run_pass};
use electrode::engine::share::{Underway, share};
use electrode::engine::states::States;
use electrode::error::Result;
use electrode::hash::{GAMMA, mix};
use electrode::id::{Site, SiteKind};

type Plan = Vec<(Site, Arc<StatisticsPlan>)>;

const LIMITS: Limits = Limits { tokens: 1, sequence: 1 };

/// Time that passes only while every device is asleep, or has nothing left to do.
struct Clock {
    inside: Mutex<Inside>,
    changed: Condvar,
    devices: usize,
    blocks: usize,
}

#[derive(Default)]
struct Inside {
    /// Nanoseconds.
    now: u64,
    /// Devices that sleep, by when they wake.
    asleep: BTreeMap<(u64, usize), ()>,
    woken: usize,
}

impl Clock {
    fn sleep(&self, device: usize, nanoseconds: u64) {
        let mut inside = self.inside.lock().expect("nobody panics");
        let until = (inside.now + nanoseconds, device);
        inside.asleep.insert(until, ());
        self.changed.notify_all();
        loop {
            // Who woke takes another block while there is one, and sleeps again.
            let busy = self.devices.min(self.blocks - inside.woken);
            let first = inside.asleep.keys().next() == Some(&until);
            if first && inside.asleep.len() == busy {
                break;
            }
            inside = self.changed.wait(inside).expect("nobody panics");
        }
        inside.asleep.remove(&until);
        inside.now = until.0;
        inside.woken += 1;
        self.changed.notify_all();
    }
}

struct Simulated {
    place: usize,
    done: u64,
}

struct Pass {
    clock: Clock,
    plan: Plan,
    /// Device 0 takes so many times as long.
    slow: f64,
    /// Nanoseconds of work done, as a device of full speed counts them.
    work: Mutex<f64>,
}

/// Lognormal, median a second: a function of the device and how many it has done, for which block it
/// takes at the same moment as another is not settled.
fn seconds(place: usize, done: u64) -> f64 {
    let uniform = |i: u64| mix(((place as u64) << 32 | done << 8 | i).wrapping_mul(GAMMA)) as f64;
    let normal = (1..=12).map(|i| uniform(i) / u64::MAX as f64).sum::<f64>() - 6.0;
    (0.25 * normal).exp()
}

impl BlockWork<Simulated> for Pass {
    type Block = u32;
    type State = RunStatistics;

    fn blocks(&self) -> u32 {
        u32::try_from(self.clock.blocks).expect("few")
    }

    fn index(&self, block: &u32) -> u32 {
        *block
    }

    fn run(&self, device: &mut Simulated, block: &u32, _: &Underway<'_>) -> Result<RunStatistics> {
        let work = 1e9 * seconds(device.place, device.done);
        let slow = if device.place == 0 { self.slow } else { 1.0 };
        device.done += 1;
        *self.work.lock().expect("nobody panics") += work;
        self.clock.sleep(device.place, (work * slow) as u64);
        let mut state = RunStatistics::new(&self.plan);
        state.counts = Counts { documents: 1, tokens: 7, ..Counts::default() };
        // Sums of these depend on their order.
        state.sites[0].statistics.sum[0] = 1.0 / f64::from(block + 3);
        Ok(state)
    }
}

fn plan() -> Plan {
    let plan = StatisticsPlan {
        neurons: 2,
        groups: 1,
        bins: 0,
        edges: Vec::new(),
        shift: vec![0.0; 2],
        top: 0,
        bottom: 0,
        sample: 0,
        sample_seed: 0,
    };
    vec![(Site::of_layer(0, SiteKind::MlpAct), Arc::new(plan))]
}

/// Efficiency, and the bytes of the merged state.
fn pass(devices: usize, blocks: usize, slow: f64) -> (f64, Vec<u8>) {
    let clock = Clock { inside: Mutex::default(), changed: Condvar::new(), devices, blocks };
    let pass = Pass { clock, plan: plan(), slow, work: Mutex::new(0.0) };
    let next = AtomicUsize::new(0);
    let make =
        |_: CpuDevice, _| Ok(Simulated { place: next.fetch_add(1, Ordering::Relaxed), done: 0 });
    let slots = (0..devices).map(|i| Slot::new(i.to_string(), || Ok(CpuDevice::F32)));
    let mut fleet = Fleet::new(slots, Setup::new(LIMITS, make));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut states = States::load(folder.path(), [0; 32], plan()).expect("an empty folder");
    let all = (0..pass.blocks()).map(Ok);
    let stop = AtomicBool::new(false);
    run_pass(&mut fleet, &pass, &mut states, all, (&stop, |_| {})).expect("a pass");
    let mut bytes = Vec::new();
    states.finish(pass.blocks()).expect("every block").encode(&mut bytes);
    let (work, wall) =
        (*pass.work.lock().expect("ended"), pass.clock.inside.lock().expect("ended").now);
    let power = devices as f64 - 1.0 + 1.0 / slow;
    (work / (power * wall as f64), bytes)
}

/// Blocks for each of 64 devices: 25 are 10^8 tokens in blocks of 2^16, 100 are 4 * 10^8.
#[test]
fn sixty_four_devices_are_busy_to_the_end() {
    for (devices, each, slow) in [(1, 25, 1.0), (8, 25, 1.0), (64, 25, 1.0), (64, 100, 2.0)] {
        let (efficiency, _) = pass(devices, devices * each, slow);
        eprintln!(
            "{devices} devices, {each} blocks each, one {slow} times as slow: {efficiency:.3}"
        );
        assert!(efficiency >= 0.95, "{devices} devices: {efficiency}");
        assert!(efficiency <= 1.0 + 1e-6, "{efficiency}: the clock is wrong");
    }
}

#[test]
fn sixty_four_devices_give_the_bits_of_one() {
    let want = pass(1, 333, 1.0).1;
    for slow in [1.0, 7.0] {
        assert!(pass(64, 333, slow).1 == want, "other bits where one is {slow} times as slow");
    }
}

/// Whoever collects may write to the disk for a while: each device can hand over one result meanwhile.
#[test]
fn devices_go_on_while_results_wait() {
    let setup = Setup::new(LIMITS, |_: CpuDevice, _| Ok(()));
    let slots = (0..4).map(|i| Slot::new(i.to_string(), || Ok(CpuDevice::F32)));
    let mut fleet = Fleet::new(slots, setup);
    let begun = AtomicUsize::new(0);
    let work = |(): &mut (), piece: &u32| {
        begun.fetch_add(1, Ordering::Relaxed);
        Ok(*piece)
    };
    let mut done = Vec::new();
    share(&mut fleet, (0..40).map(Ok), work, |piece| {
        let clock = Instant::now();
        // One taken, four that wait, and one in the hands of each.
        while done.is_empty() && begun.load(Ordering::Relaxed) < 9 {
            assert!(clock.elapsed() < Duration::from_secs(60), "devices wait for who collects");
            std::thread::yield_now();
        }
        done.push(piece);
        Ok(())
    })
    .expect("nothing fails");
    done.sort_unstable();
    assert_eq!(done, (0..40).collect::<Vec<u32>>());
}
