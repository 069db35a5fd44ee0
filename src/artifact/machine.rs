//! Facts about the machine and the moment for the manifest: nothing that tells whose machine it
//! is, so no host name and no user.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::secrets::mask;

/// What a run ran on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Model name of the processor, where the system tells it.
    pub cpu: Option<String>,
    /// Cores the process may use.
    pub cores: u64,
    /// Threads the run used.
    pub threads: u64,
    /// Memory in bytes, where the system tells it.
    pub memory: Option<u64>,
    /// `linux-x86_64`.
    pub system: String,
}

impl Machine {
    /// This machine, for a run with `threads` threads.
    pub fn here(threads: usize) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            threads: threads as u64,
            memory: field(&read("/proc/meminfo"), "MemTotal").and_then(|text| kilobytes(&text)),
            system: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

/// Most memory this process has held at once so far, in bytes, where the system tells it.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&field(&status, "VmHWM")?)
}

/// Memory that this process holds now, in bytes, where the system tells it.
pub fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&field(&status, "VmRSS")?)
}

/// Memory that processes can still get, in bytes, where the system tells it.
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    kilobytes(&field(&text, "MemAvailable")?)
}

/// What every thread of this process waits for, a line for each, as far as the system tells.
pub fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let line = |task: std::fs::DirEntry| {
        let read = |name: &str| {
            let text = std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            text.trim().to_owned()
        };
        let (name, waits, call) = (read("comm"), read("wchan"), read("syscall"));
        format!("thread {} {name}: in {waits}, system call {call}", task.file_name().display())
    };
    tasks.map(line).collect()
}

/// The first `key : value` of a file in /proc.
fn field(text: &str, key: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(k, _)| k.trim() == key)?;
    Some(value.trim().to_string())
}

fn kilobytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Variables that may change speed or numbers. Never all: tokens live in the environment.
const ALLOWED: [&str; 14] = [
    "RAYON_NUM_THREADS",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "RUST_LOG",
    "LANG",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_CPUS_PER_TASK",
    "SLURM_JOB_ID",
    "SLURM_JOB_PARTITION",
    "SLURM_RESTART_COUNT",
];

/// The allowed variables that are set, secrets masked. The home folder becomes `~`: it names the
/// user.
pub fn environment() -> BTreeMap<String, String> {
    let home = std::env::var("HOME").unwrap_or_default();
    select(
        std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        &home,
    )
}

fn select(
    variables: impl Iterator<Item = (String, String)>,
    home: &str,
) -> BTreeMap<String, String> {
    let tidy = |value: &str| match value.strip_prefix(home) {
        Some(rest) if home.len() > 1 && (rest.is_empty() || rest.starts_with('/')) => {
            mask(&format!("~{rest}"))
        }
        _ => mask(value),
    };
    variables
        .filter(|(name, _)| ALLOWED.contains(&name.as_str()))
        .map(|(name, value)| (name, tidy(&value)))
        .collect()
}

/// Now, as `2026-11-23T05:33:00Z`. For people only: nothing is ordered or timed by it.
pub fn utc_now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    utc(seconds)
}

/// Days to a date by Howard Hinnant's `civil_from_days`: years begin in March, so that the leap
/// day is the last of its year.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let day = day - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracle: `date -u -d @SECONDS`.
    #[test]
    fn dates_are_those_of_the_system() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_795_411_980), "2026-11-23T05:33:00Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    /// Oracle: the allow-list, read.
    #[test]
    fn only_allowed_variables_without_secrets_or_home() {
        let pair = |k: &str, v: &str| (k.to_string(), v.to_string());
        let given = [
            pair("HF_TOKEN", "hf_abcdefghijklmnopqrstuvwxyz"),
            pair("HF_HOME", "/srv/someone/hub"),
            pair("HF_HUB_CACHE", "https://me:secret@example.org/x"),
            pair("LANG", "/srv/someoneelse"),
        ];
        let kept = select(given.into_iter(), "/srv/someone");
        assert_eq!(kept.len(), 3);
        assert_eq!(kept["HF_HOME"], "~/hub");
        assert_eq!(kept["HF_HUB_CACHE"], "https://***@example.org/x");
        assert_eq!(kept["LANG"], "/srv/someoneelse");
    }
}
