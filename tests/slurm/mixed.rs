//! Events mixed at random, by the dozen at night. Oracle: the undisturbed sweep.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cluster::{alone, ask, at_work, slurm_up, wait, wait_for_node};
use crate::figures::{cases, say};
use crate::sweeps::{MEDIUM, Sweep};

/// splitmix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n
    }
}

/// One event; what it breaks is mended by the caller.
fn disturb(sweep: &Sweep, event: u64, node: &str) {
    let run = |arguments: &[&str]| {
        // The job may have just ended, the node be gone already.
        let _ = std::process::Command::new("scontrol").args(arguments).output();
    };
    match event {
        0 => sweep.live().iter().take(1).for_each(|(job, ..)| run(&["requeue", job])),
        1 => run(&["update", &format!("nodename={node}"), "state=down", "reason=test"]),
        2 => slurm_up(&["node-kill", node]),
        3 => slurm_up(&["node-crash", node]),
        4 => at_work(&sweep.out).into_iter().take(1).for_each(|program| {
            let program = program.to_string();
            let _ = std::process::Command::new("kill").args(["-KILL", &program]).output();
        }),
        _ => at_work(&sweep.out).into_iter().take(1).for_each(|program| {
            let program = program.to_string();
            let _ = std::process::Command::new("kill").args(["-USR1", &program]).output();
        }),
    }
}

#[test]
fn events_at_random() {
    let Some(_whole) = alone() else { return };
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (mut random, rounds) = (Random(seed), cases(0, 80));
    let mut events = 0;
    for round in 0..rounds {
        let sweep = Sweep::plan(&format!("mixed-{round}-{seed}"), MEDIUM, "gpus = 0\n");
        sweep.submit();
        for _ in 0..1 + random.below(4) {
            std::thread::sleep(Duration::from_millis(500 + random.below(6000)));
            let (event, node) = (random.below(6), format!("n{}", random.below(4)));
            let up = ask("sinfo", &["-h", "-n", &node, "-p", "main", "-o", "%T"]);
            if ["idle", "mixed", "allocated"].contains(&up.trim()) {
                disturb(&sweep, event, &node);
                slurm_up(&["start"]);
                let state = format!("nodename={node}");
                let _ = std::process::Command::new("scontrol")
                    .args(["update", &state, "state=resume"])
                    .output();
                events += 1;
            }
        }
        (0..4).for_each(|node| wait_for_node(&format!("n{node}")));
        let resumed = sweep.finish();
        assert!(resumed <= 3, "seed {seed}, round {round}");
        wait("nothing is at work", 60, || at_work(&sweep.out).is_empty());
    }
    if rounds > 0 {
        say("slurm: events mixed at random", events, 0);
    }
}
