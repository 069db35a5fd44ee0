//! A sweep file: a run file, and what is varied about it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Value;

use crate::disk;
use crate::error::{Error, Result};

/// Blocks of a task unless the file says otherwise.
const TASK_BLOCKS: u32 = 16;
/// Points of a sweep, at most: beyond that somebody has mistyped a range.
const MOST_POINTS: usize = 100_000;

/// A sweep file, see `docs/sweeps.md`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// What people call it.
    pub name: String,
    /// The folder of the sweep.
    pub out: PathBuf,
    /// The run file with which every point begins.
    pub run: PathBuf,
    /// Blocks of a task, a power of two.
    #[serde(default = "task_blocks")]
    pub task_blocks: u32,
    /// What is varied; every combination is a point.
    #[serde(default)]
    pub axis: Vec<Axis>,
    /// Combinations that are left out: names of values by name of axis, all of which must fit.
    #[serde(default)]
    pub exclude: Vec<BTreeMap<String, String>>,
    /// Changes to some of the points.
    #[serde(default, rename = "override")]
    pub overrides: Vec<Override>,
    /// How it is submitted.
    #[serde(default)]
    pub slurm: SlurmConfig,
}

/// One key, and its values.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// A key of the run file: `model.path`, `statistics.seed`, `concepts.0.column`.
    pub key: String,
    /// What tables call it; the last part of the key unless given.
    pub name: Option<String>,
    /// Its values.
    pub values: Option<Vec<Value>>,
    /// Whole numbers from the first to the last, both included.
    pub range: Option<[i64; 2]>,
    /// Paths that match, in the order of the numbers in their names: checkpoints of a model.
    pub glob: Option<String>,
    /// What each value is called in paths and tables.
    pub names: Option<Vec<String>>,
}

/// A change to the points that fit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Names of values by name of axis, all of which must fit.
    pub when: BTreeMap<String, String>,
    /// Keys of the run file with other values.
    pub set: BTreeMap<String, Value>,
}

/// `[slurm]`: what goes into the job files. Whatever is not here goes through `extra`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlurmConfig {
    /// `--partition`.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
    /// `--time` of a task.
    pub time: Option<String>,
    /// `--gpus-per-task`; 0 for tasks of the processor.
    pub gpus: u32,
    /// `--cpus-per-task`.
    pub cpus: u32,
    /// `--mem`.
    pub memory: Option<String>,
    /// Tasks at a time, `%limit` of the array.
    pub limit: Option<u32>,
    /// Seconds before the time limit at which a task is told to end.
    pub notice: u32,
    /// How often a task that made progress asks to be queued again.
    pub requeues: u32,
    /// Lines for `#SBATCH` as they are: `--constraint=h100`.
    pub extra: Vec<String>,
    /// Lines of shell before the program: modules, a container.
    pub setup: Vec<String>,
    /// The program, as the nodes find it; this one unless given.
    pub program: Option<String>,
}

impl Default for SlurmConfig {
    fn default() -> Self {
        Self {
            partition: None,
            account: None,
            time: None,
            gpus: 1,
            cpus: 4,
            memory: None,
            limit: None,
            notice: 180,
            requeues: 20,
            extra: Vec::new(),
            setup: Vec::new(),
            program: None,
        }
    }
}

impl SlurmConfig {
    /// What becomes a line of a job file, with its key.
    fn lines(&self) -> Vec<(&'static str, &String)> {
        let single = [
            ("slurm.partition", &self.partition),
            ("slurm.account", &self.account),
            ("slurm.time", &self.time),
            ("slurm.memory", &self.memory),
            ("slurm.program", &self.program),
        ];
        let single = single.into_iter().filter_map(|(key, line)| Some((key, line.as_ref()?)));
        let extra = self.extra.iter().map(|line| ("slurm.extra", line));
        let setup = self.setup.iter().map(|line| ("slurm.setup", line));
        single.chain(extra).chain(setup).collect()
    }
}

/// Line and, where one stands there, key of a part of a file.
fn place(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let start = span.map_or(0, |span| span.start.min(text.len()));
    let before = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
    let key = text.lines().nth(before).and_then(|line| Some(line.split_once('=')?.0.trim()));
    key.map_or_else(|| (before + 1).to_string(), |key| format!("{}: {key}", before + 1))
}

fn task_blocks() -> u32 {
    TASK_BLOCKS
}

/// An axis with its values named.
pub(super) struct Resolved {
    pub(super) key: String,
    pub(super) name: String,
    /// Names and values.
    pub(super) values: Vec<(String, Value)>,
}

/// The names of a point's values, by axis.
pub(super) type Names = BTreeMap<String, String>;

impl SweepConfig {
    /// Reads a sweep file and checks what can be checked without its run file.
    pub fn load(path: &Path) -> Result<Self> {
        let text = disk::read_to_string(path).map_err(Error::io(path, "read"))?;
        let config: Self = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let place = format!("{}:{}", path.display(), place(&text, error.span()));
            let what = error.message().replace('\n', ", ");
            Error::config(place, what, "docs/sweeps.md lists the keys of a sweep file")
        })?;
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let wrong = |key: &str, what: String, remedy: &str| {
            Err(Error::config(format!("{}: {key}", path.display()), what, remedy))
        };
        if !is_name(&self.name) {
            let what = format!("'{}' cannot be part of a job's name", self.name);
            return wrong("name", what, "use letters, digits, '.', '_' and '-'");
        }
        if !self.task_blocks.is_power_of_two() {
            let what = format!("{} is no power of two", self.task_blocks);
            return wrong("task_blocks", what, "use 1, 2, 4, 8, 16, ...");
        }
        let broken = |(_, line): &(&str, &String)| line.contains(['\n', '\r']);
        if let Some((key, line)) = self.slurm.lines().into_iter().find(broken) {
            return wrong(key, format!("{line:?} has a line break"), "one line for each entry");
        }
        Ok(())
    }

    /// Every axis with its values.
    pub(super) fn axes(&self) -> Result<Vec<Resolved>> {
        let axes: Vec<Resolved> = self.axis.iter().map(Axis::resolve).collect::<Result<_>>()?;
        let set = self.overrides.iter().flat_map(|change| change.set.keys());
        if let Some(key) = axes.iter().map(|axis| &axis.key).chain(set).find(|key| is_own(key)) {
            let what = "is what the sweep itself gives each point";
            return Err(Error::config(format!("key '{key}'"), what, "vary another"));
        }
        for (at, axis) in axes.iter().enumerate() {
            let earlier = &axes[..at];
            if earlier.iter().any(|other| other.name == axis.name || other.key == axis.key) {
                let what = format!("'{}' is varied by two axes", axis.name);
                return Err(Error::config("axis", what, "give each a key and a name of its own"));
            }
        }
        let points = axes.iter().try_fold(1_usize, |all, axis| all.checked_mul(axis.values.len()));
        if points.is_none_or(|points| points > MOST_POINTS) {
            let what = format!("more than {MOST_POINTS} points");
            return Err(Error::config("axis", what, "give fewer values"));
        }
        let known: BTreeMap<&str, BTreeSet<&str>> = axes
            .iter()
            .map(|axis| {
                let names = axis.values.iter().map(|(name, _)| name.as_str());
                (axis.name.as_str(), names.collect())
            })
            .collect();
        let excluded = self.exclude.iter().map(|names| ("exclude", names));
        for (key, names) in excluded.chain(self.overrides.iter().map(|one| ("override", &one.when)))
        {
            for (axis, value) in names {
                if !known.get(axis.as_str()).is_some_and(|values| values.contains(value.as_str())) {
                    let what = format!("no axis '{axis}' with a value '{value}'");
                    let known: Vec<String> = known
                        .iter()
                        .map(|(axis, values)| format!("{axis}: {}", join(values)))
                        .collect();
                    let remedy = format!("there are {}", known.join("; "));
                    return Err(Error::config(key, what, remedy));
                }
            }
        }
        Ok(axes)
    }

    /// Whether a combination is left out.
    pub(super) fn excludes(&self, names: &Names) -> bool {
        self.exclude.iter().any(|excluded| fits(excluded, names))
    }
}

/// Whether a sweep sets this key of every point, so that another value of it would be lost.
fn is_own(key: &str) -> bool {
    ["name", "out"].contains(&key)
}

fn join(values: &BTreeSet<&str>) -> String {
    values.iter().copied().take(8).collect::<Vec<_>>().join(", ")
}

/// Whether all of these names are the point's.
pub(super) fn fits(when: &Names, names: &Names) -> bool {
    when.iter().all(|(axis, value)| names.get(axis) == Some(value))
}

impl Axis {
    fn resolve(&self) -> Result<Resolved> {
        let place = |key: &str| format!("axis '{}': {key}", self.key);
        let name = self
            .name
            .clone()
            .unwrap_or_else(|| self.key.rsplit('.').next().unwrap_or(&self.key).to_owned());
        if !is_name(&name) {
            let what = format!("'{name}' cannot be part of a path");
            return Err(Error::config(
                place("name"),
                what,
                "use letters, digits, '.', '_' and '-'",
            ));
        }
        let points = self.range.map(|[first, last]| last.saturating_sub(first));
        if points.is_some_and(|points| points >= MOST_POINTS as i64) {
            let what = format!("more than {MOST_POINTS} values");
            return Err(Error::config(place("range"), what, "give fewer values"));
        }
        let values = match (&self.values, self.range, &self.glob) {
            (Some(values), None, None) => values.clone(),
            (None, Some([first, last]), None) => (first..=last).map(Value::from).collect(),
            (None, None, Some(pattern)) => matching(pattern, &place("glob"))?,
            _ => {
                let what = "needs one of values, range and glob";
                return Err(Error::config(place("values"), what, "give exactly one of them"));
            }
        };
        if values.is_empty() {
            return Err(Error::config(place("values"), "there is none", "give at least one"));
        }
        let names = match &self.names {
            Some(names) if names.len() != values.len() => {
                let what = format!("{} names for {} values", names.len(), values.len());
                return Err(Error::config(place("names"), what, "give one for each value"));
            }
            Some(names) => names.clone(),
            None => values.iter().enumerate().map(|(at, value)| named(at, value)).collect(),
        };
        let mut seen = BTreeSet::new();
        for name in &names {
            if !is_name(name) || !seen.insert(name) {
                let what = format!("'{name}' is no name, or the name of two values");
                let remedy = "give names of letters, digits, '.', '_' and '-', each its own";
                return Err(Error::config(place("names"), what, remedy));
            }
        }
        Ok(Resolved {
            key: self.key.clone(),
            name,
            values: names.into_iter().zip(values).collect(),
        })
    }
}

/// Paths that match, in natural order: `step-200` before `step-1000`.
fn matching(pattern: &str, place: &str) -> Result<Vec<Value>> {
    let wrong = |what: String| Error::config(place, what, "write it as checkpoints/step-*");
    let found = glob::glob(pattern).map_err(|error| wrong(format!("'{pattern}': {error}")))?;
    let mut paths = Vec::new();
    for path in found {
        let path = path.map_err(|error| wrong(error.to_string()))?;
        paths.push(path.display().to_string());
    }
    if paths.is_empty() {
        return Err(wrong(format!("'{pattern}' matches nothing")));
    }
    paths.sort_by_cached_key(|path| natural(path));
    Ok(paths.into_iter().map(Value::from).collect())
}

/// Text and numbers in turns.
fn natural(text: &str) -> Vec<(String, u128)> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(letters);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, after) = after.split_at(digits);
        parts.push((word.to_owned(), number.parse().unwrap_or(0)));
        rest = after;
    }
    parts
}

/// What a value is called: the last part of a path, a number as it is, else its place.
fn named(at: usize, value: &Value) -> String {
    match value {
        Value::String(text) => {
            let last = text.trim_end_matches('/').rsplit('/').next().unwrap_or(text);
            if is_name(last) { last.to_owned() } else { at.to_string() }
        }
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        _ => at.to_string(),
    }
}

/// What may stand in a path, a job's name and a table without a thought.
fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.is_empty()
        && text.len() <= 100
        && text.chars().all(allowed)
        && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.

    use super::*;

    #[test]
    fn checkpoints_are_in_the_order_of_their_numbers() {
        let mut names = vec!["step-1000", "step-200", "step-30/a", "other"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["other", "step-30/a", "step-200", "step-1000"]);
    }

    #[test]
    fn values_are_named_after_what_they_are() {
        assert_eq!(named(3, &Value::from("models/tiny-gpt2-en/")), "tiny-gpt2-en");
        assert_eq!(named(3, &Value::from(7)), "7");
        assert_eq!(named(3, &Value::from("layers.*.mlp_act")), "3");
        assert!(!is_name("../up") && !is_name("a b") && !is_name("") && is_name("a-1.5_x"));
    }
}
