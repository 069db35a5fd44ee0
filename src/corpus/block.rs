//! The unit of commit, resume and merge: a fixed run of documents, tokenised and aligned.

use crate::id::RowId;

/// The label columns of a run, in the order of its `[[concepts]]`, with the ids of their classes.
///
/// Groups are numbered through all columns: class `c` of column `k` is group
/// `columns[k].first_group + c`. Classes are sorted by name.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Labels {
    /// One per concept of the run.
    pub columns: Vec<Column>,
}

/// See [`Labels`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Column {
    /// Its name (`upos`).
    pub name: String,
    /// Its classes by sorted name.
    pub classes: Vec<String>,
    /// Group id of class 0.
    pub first_group: u32,
    /// Rows that must carry a class for it to be ranked.
    pub min_count: u64,
    /// The values are numbers and the classes the numbers themselves (`position`), so that
    /// correlation with the number has a meaning.
    pub numeric: bool,
}

impl Labels {
    /// Number of groups over all columns.
    pub fn groups(&self) -> usize {
        self.columns.iter().map(|column| column.classes.len()).sum()
    }
}

/// One tokenised sequence: what the model runs over without crossing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequence {
    /// Document number in the corpus.
    pub document: u64,
    /// Sentence number inside the document.
    pub sentence: u32,
    /// Token ids, special tokens included.
    pub tokens: Vec<u32>,
    /// What statistics see of it, in order.
    pub rows: Vec<Row>,
}

/// One scored position before pooling: a run of tokens of one sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Who it is: document, and word number in the document (token number where the corpus has
    /// no words or the pooling is `none`).
    pub id: RowId,
    /// First token, counted inside the sequence.
    pub first: u32,
    /// Number of tokens, at least 1.
    pub len: u32,
    /// Group ids it belongs to, ascending, at most one per column.
    pub groups: Vec<u32>,
}

/// What was seen and what was lost on the way, per block; summed over blocks in the manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Documents read.
    pub documents: u64,
    /// Sentences read.
    pub sentences: u64,
    /// Sequences made of them.
    pub sequences: u64,
    /// Words read (0 where the corpus has none).
    pub words: u64,
    /// Tokens run, special tokens included.
    pub tokens: u64,
    /// Rows offered to the statistics.
    pub rows: u64,
    /// Words without a token.
    pub dropped_words: u64,
    /// Words cut off by the length limit.
    pub truncated_words: u64,
    /// Rows left out as special tokens or first positions.
    pub excluded_rows: u64,
    /// Lines or documents skipped as unreadable.
    pub bad: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.documents += other.documents;
        self.sentences += other.sentences;
        self.sequences += other.sequences;
        self.words += other.words;
        self.tokens += other.tokens;
        self.rows += other.rows;
        self.dropped_words += other.dropped_words;
        self.truncated_words += other.truncated_words;
        self.excluded_rows += other.excluded_rows;
        self.bad += other.bad;
    }
}

/// A block, ready to be packed into batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// Its number in the plan, from 0.
    pub index: u32,
    /// Its sequences in corpus order.
    pub sequences: Vec<Sequence>,
    /// What went into it.
    pub counts: Counts,
}
