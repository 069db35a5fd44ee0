//! What readers make: documents of sentences of words, with labels by column.

use std::ops::Range;

/// A unit of the corpus; never split across blocks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Its number in the corpus, from 0.
    pub ordinal: u64,
    /// The file's own name for it.
    pub id: Option<String>,
    /// Its sentences in order; plain text and JSONL documents have one.
    pub sentences: Vec<Sentence>,
}

/// What becomes one sequence (or several, if it is too long).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sentence {
    /// The file's own name for it (`# sent_id`).
    pub id: Option<String>,
    /// What the tokenizer reads.
    pub text: String,
    /// Byte range in `text`, and surface form, of each word. Empty where the reader knows no
    /// words: rows are then tokens.
    pub words: Vec<Word>,
    /// Labels of the sentence as a whole, by column name.
    pub labels: Vec<(String, String)>,
}

/// One word and its labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Word {
    /// Bytes of `Sentence::text`.
    pub span: Range<usize>,
    /// As written.
    pub form: String,
    /// `(column, value)`; absent columns are missing values.
    pub labels: Vec<(String, String)>,
}
