//! The `[corpus]` and `[[concepts]]` parts of a run file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is read and how it is cut into sequences.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusConfig {
    /// Files, folders and globs, read in the order given; a folder means its files by name.
    pub files: Vec<PathBuf>,
    /// By default told from the suffix (`.conllu`, `.jsonl`, `.txt`, `.parquet`; `.gz`, `.zst`
    /// on top of any).
    #[serde(default)]
    pub format: Option<Format>,
    /// `parallel` format: the label files, one per word file and in the same order.
    #[serde(default)]
    pub label_files: Vec<PathBuf>,
    /// A class for everything in a file, as `column = ["class of file 1", …]` (language, domain).
    #[serde(default)]
    pub file_labels: std::collections::BTreeMap<String, Vec<String>>,
    /// CoNLL-U: what the tokenizer reads.
    #[serde(default)]
    pub text: TextSource,
    /// Put the model's BOS id before each sequence when its tokenizer adds none.
    #[serde(default)]
    pub add_bos: bool,
    /// Longest sequence in tokens, special tokens included; by default the model's limit.
    #[serde(default)]
    pub max_tokens: Option<usize>,
    /// What happens to a sentence longer than that.
    #[serde(default)]
    pub long: LongText,
    /// Bytes of text in a block; blocks end at documents.
    #[serde(default = "default_block_bytes")]
    pub block_bytes: u64,
    /// Stop after this many documents (for trying things out).
    #[serde(default)]
    pub max_documents: Option<u64>,
    /// Share of lines or documents that may be unreadable before the run fails.
    #[serde(default)]
    pub max_bad: f64,
}

impl CorpusConfig {
    /// One file (folder, glob), read as its suffix says, with everything else at its default.
    pub fn of_file(path: &std::path::Path) -> Self {
        Self {
            files: vec![path.to_path_buf()],
            format: None,
            label_files: Vec::new(),
            file_labels: std::collections::BTreeMap::new(),
            text: TextSource::default(),
            add_bos: false,
            max_tokens: None,
            long: LongText::default(),
            block_bytes: default_block_bytes(),
            max_documents: None,
            max_bad: 0.0,
        }
    }
}

/// About 2^16 tokens of English, some 10 s of a small model on two cores: what a kill may cost.
fn default_block_bytes() -> u64 {
    1 << 18
}

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One document a line.
    Text,
    /// One JSON object a line: `text`, optional `id`, any other string or number a label.
    Jsonl,
    /// Universal Dependencies, ten columns.
    Conllu,
    /// NeuroX: words separated by blanks, and a label file of the same shape.
    Parallel,
    /// A `text` column, optional `id`, any other string or integer column a label.
    Parquet,
}

/// See [`CorpusConfig::text`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextSource {
    /// The syntactic words joined by blanks ("do n't"), as pre-tokenised input.
    #[default]
    Words,
    /// The sentence as it was written, put together from forms and `SpaceAfter=No`.
    Original,
}

/// See [`CorpusConfig::long`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LongText {
    /// Cut into sequences between words (tokens where there are no words); nothing is lost.
    #[default]
    Split,
    /// Keep the beginning; words beyond it are counted as truncated.
    Truncate,
}

/// One label column and the classes of it that matter.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConceptConfig {
    /// A label column: `upos`, `xpos`, `lemma`, `form`, `position`, `deprel`, `feats.Number`, a JSONL field, …
    pub column: String,
    /// Only these classes; by default all.
    #[serde(default)]
    pub classes: Option<Vec<String>>,
    /// Classes with fewer rows are left out of rankings, and listed.
    #[serde(default = "default_min_count")]
    pub min_count: u64,
    /// Keep the K most frequent classes (needed for `lemma` and `form`).
    #[serde(default)]
    pub most_frequent: Option<usize>,
    /// What a row without a value in this column is.
    #[serde(default)]
    pub missing: Missing,
}

fn default_min_count() -> u64 {
    1
}

/// See [`ConceptConfig::missing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Not labelled: outside this column's statistics.
    #[default]
    Exclude,
    /// A member of the class `_`, against which the others are compared.
    Class,
}
