//! Train, dev and test: which part of the data a row belongs to. Selection reads train and dev alone.

use serde::{Deserialize, Serialize};

use crate::corpus::plan::Plan;
use crate::error::{Error, Result};
use crate::hash::{GAMMA, mix};

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Weights are fitted here.
    Train,
    /// Penalties, sizes and layers are chosen here.
    Dev,
    /// Reported, never chosen on.
    Test,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Dev, Self::Test];

    /// As tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }
}

/// What is never cut in two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A document of the corpus.
    #[default]
    Document,
    /// A sentence.
    Sentence,
}

/// `[split]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitConfig {
    /// Share of the units that are dev rows.
    pub dev: f64,
    /// Share of the units that are test rows.
    pub test: f64,
    /// What is never cut in two.
    pub by: Unit,
    /// Of the draw.
    pub seed: u64,
    /// Files, by their names without folders, all of whose rows are dev rows. With these or
    /// `test_files`, nothing is drawn.
    pub dev_files: Vec<String>,
    /// Files all of whose rows are test rows.
    pub test_files: Vec<String>,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self {
            dev: 0.15,
            test: 0.15,
            by: Unit::default(),
            seed: 0,
            dev_files: Vec::new(),
            test_files: Vec::new(),
        }
    }
}

/// A split, held against a corpus.
#[derive(Clone, Debug)]
pub struct Split {
    config: SplitConfig,
    /// First document of each file, and its part, where files decide.
    files: Option<Vec<(u64, Part)>>,
}

impl Split {
    /// Refuses names that are no file of the corpus, and shares that leave nothing to learn from.
    pub fn new(config: &SplitConfig, plan: &Plan) -> Result<Self> {
        let by_file = !config.dev_files.is_empty() || !config.test_files.is_empty();
        for (key, names) in
            [("split.dev_files", &config.dev_files), ("split.test_files", &config.test_files)]
        {
            if let Some(absent) =
                names.iter().find(|name| plan.files.iter().all(|file| file.name != **name))
            {
                let known: Vec<_> = plan.files.iter().map(|file| file.name.as_str()).collect();
                let what = format!("the corpus has no file '{absent}'");
                return Err(Error::config(key, what, format!("its files: {}", known.join(", "))));
            }
        }
        if config.dev + config.test >= 1.0 {
            let what = "dev and test together leave nothing to train on";
            return Err(Error::config("split", what, "write dev = 0.15 and test = 0.15"));
        }
        let part = |name: &String| match () {
            () if config.dev_files.contains(name) => Part::Dev,
            () if config.test_files.contains(name) => Part::Test,
            () => Part::Train,
        };
        let files =
            by_file.then(|| plan.files.iter().map(|f| (f.first_document, part(&f.name))).collect());
        Ok(Self { config: config.clone(), files })
    }

    /// The part of a sentence of a document.
    pub fn part(&self, document: u64, sentence: u32) -> Part {
        if let Some(files) = &self.files {
            let after = files.partition_point(|(first, _)| *first <= document);
            return files[after.max(1) - 1].1;
        }
        let unit = match self.config.by {
            Unit::Document => document,
            Unit::Sentence => document << 32 ^ u64::from(sentence),
        };
        let bits = mix(unit.wrapping_add(1).wrapping_mul(GAMMA) ^ mix(self.config.seed));
        let share = (bits >> 11) as f64 / (1_u64 << 53) as f64;
        match share {
            share if share < self.config.test => Part::Test,
            share if share < self.config.test + self.config.dev => Part::Dev,
            _ => Part::Train,
        }
    }
}
