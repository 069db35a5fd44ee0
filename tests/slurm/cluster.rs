//! The cluster's own commands. Oracle: none of its own.

use std::path::Path;
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// Tests that keep to their nodes run beside each other, others alone.
static WHOLE: RwLock<()> = RwLock::new(());

/// A share of the cluster; none where there is no cluster, which is said.
pub(crate) fn beside() -> Option<RwLockReadGuard<'static, ()>> {
    there().then(|| WHOLE.read().unwrap_or_else(PoisonError::into_inner))
}

/// The whole cluster.
pub(crate) fn alone() -> Option<RwLockWriteGuard<'static, ()>> {
    there().then(|| WHOLE.write().unwrap_or_else(PoisonError::into_inner))
}

fn there() -> bool {
    let asked = std::env::var_os("ELECTRODE_SLURM").is_some_and(|value| value == "1");
    if !asked {
        use std::io::Write as _;
        let line: &[u8] =
            b"skipped: sweeps on a real Slurm: ELECTRODE_SLURM=1 and .ci/slurm-up are for it\n";
        std::io::stdout().write_all(line).expect("stdout takes a line");
    }
    asked
}

/// What a command says; tried again while the controller does not answer.
pub(crate) fn ask(command: &str, arguments: &[&str]) -> String {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let output = Command::new(command).args(arguments).output().expect("it starts");
        if output.status.success() {
            return String::from_utf8(output.stdout).expect("UTF-8");
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(Instant::now() < until, "{command} {arguments:?}: {said}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// `.ci/slurm-up` with these arguments.
pub(crate) fn slurm_up(arguments: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/slurm-up");
    let output = Command::new(path).args(arguments).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "slurm-up {arguments:?}: {said}");
}

/// Waits until something is so.
pub(crate) fn wait(what: &str, seconds: u64, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(seconds);
    while !is() {
        assert!(Instant::now() < until, "not in {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A node takes jobs again.
pub(crate) fn wait_for_node(node: &str) {
    wait(&format!("{node} is back"), 60, || {
        let state =
            ask("sinfo", &["--noheader", "--nodes", node, "--partition", "main", "-o", "%T"]);
        ["idle", "mixed", "allocated"].contains(&state.trim())
    });
}

/// The programs at work whose command lines name a path.
pub(crate) fn at_work(path: &Path) -> Vec<u32> {
    let path = path.display().to_string();
    let of = |entry: std::fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (line.contains(" sweep ") && line.contains(&path)).then_some(pid)
    };
    std::fs::read_dir("/proc").expect("there").flatten().filter_map(of).collect()
}
