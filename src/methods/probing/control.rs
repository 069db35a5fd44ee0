//! Control tasks (Hewitt & Liang 2019): every word type gets a random label. A probe that learns those as
//! well as the real ones has memorised words.

use crate::error::{Error, Result};
use crate::hash::{GAMMA, blake3_of_bytes, mix};

/// Where control labels are drawn from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrawnFrom {
    /// The shares of the real labels (`sample_from = same`).
    #[default]
    Labels,
    /// All classes alike.
    Uniform,
}

/// Settings of a control task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlSettings {
    /// Changes every label.
    pub seed: u64,
    /// Where labels are drawn from.
    pub from: DrawnFrom,
    /// Whether `The` and `the` are two types.
    pub case_sensitive: bool,
}

impl Default for ControlSettings {
    fn default() -> Self {
        Self { seed: 0, from: DrawnFrom::Labels, case_sensitive: true }
    }
}

/// Labels of word types: a function of type, seed and distribution alone, so that shards agree without
/// talking to one another.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlTask {
    settings: ControlSettings,
    /// Rows of the classes up to and including each.
    cumulative: Vec<u64>,
}

impl ControlTask {
    /// `counts`: rows of each class of the real task, over all shards.
    ///
    /// Refuses fewer than two classes with rows: there is nothing to draw.
    pub fn new(counts: &[u64], settings: ControlSettings) -> Result<Self> {
        if counts.iter().filter(|&&count| count > 0).count() < 2 {
            return Err(Error::config(
                "control",
                format!("{} classes, of which fewer than two have rows", counts.len()),
                "label rows of at least two classes",
            ));
        }
        let mut sum = 0;
        let weight = |&count: &u64| match settings.from {
            DrawnFrom::Labels => count,
            DrawnFrom::Uniform => 1,
        };
        let add = |count: &u64| {
            sum += weight(count);
            sum
        };
        Ok(Self { settings, cumulative: counts.iter().map(add).collect() })
    }

    /// The control label of a word type.
    pub fn label(&self, word: &str) -> u32 {
        let hex = match self.settings.case_sensitive {
            true => blake3_of_bytes(word.as_bytes()),
            false => blake3_of_bytes(word.to_lowercase().as_bytes()),
        };
        let hash = u64::from_str_radix(&hex[..16], 16).expect("hashes are hexadecimal");
        let bits = mix(hash ^ mix(self.settings.seed.wrapping_add(GAMMA)));
        let total = self.cumulative.last().copied().unwrap_or(0);
        let place = (u128::from(bits) * u128::from(total)) >> 64;
        self.cumulative.partition_point(|&sum| u128::from(sum) <= place) as u32
    }
}

/// Right answers by whether their word type was seen in training. Types that only the test has get fresh
/// labels in a control task, where no probe can be better than chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// Rows of types seen in training, and of these the right ones.
    pub seen: (u64, u64),
    /// Rows of other types, and of these the right ones.
    pub fresh: (u64, u64),
}

impl Accuracy {
    /// Adds a row.
    pub fn add(&mut self, type_was_seen: bool, right: bool) {
        let part = if type_was_seen { &mut self.seen } else { &mut self.fresh };
        part.0 += 1;
        part.1 += u64::from(right);
    }

    /// Over all rows; 0 without any.
    pub fn overall(&self) -> f64 {
        share((self.seen.0 + self.fresh.0, self.seen.1 + self.fresh.1))
    }

    /// Over rows of types seen in training; 0 without any.
    pub fn on_seen(&self) -> f64 {
        share(self.seen)
    }
}

fn share((rows, right): (u64, u64)) -> f64 {
    if rows > 0 { right as f64 / rows as f64 } else { 0.0 }
}

/// Accuracy on the task minus accuracy on its control.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selectivity {
    /// Over all rows.
    pub overall: f64,
    /// Over rows of types seen in training.
    pub on_seen: f64,
}

impl Selectivity {
    /// Of a probe of each task, trained alike.
    pub fn of(task: &Accuracy, control: &Accuracy) -> Self {
        Self {
            overall: task.overall() - control.overall(),
            on_seen: task.on_seen() - control.on_seen(),
        }
    }
}
