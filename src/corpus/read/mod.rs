//! Files to documents, one at a time: memory does not grow with the corpus.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use self::source::Source;
use super::config::{CorpusConfig, Format};
use super::document::Document;
use crate::error::{Error, Result};

mod conllu;
mod jsonl;
pub mod open;
pub mod parallel;
mod parquet;
pub mod source;
mod text;

/// Text in one document; longer ones are cut, which also keeps their rows within
/// [`crate::id::RowId::MAX_PLACE`].
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;

/// What a reader finds next.
pub(crate) enum Unit {
    /// A document, and where it begins if one can jump there.
    Document(Document, Option<u64>),
    /// Something unreadable that was skipped.
    Bad {
        /// `line 12`, `row 3`.
        place: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Unit {
    /// A bad line.
    fn bad_line(number: u64, what: impl Into<String>) -> Self {
        Self::Bad { place: format!("line {number}"), what: what.into() }
    }
}

/// A part of a file that is either good or can be said what is wrong with.
type Checked<T> = std::result::Result<T, String>;

/// A file of one format, read from front to back.
pub(crate) trait FileReader: Send {
    /// The next thing in it; none at its end.
    fn next(&mut self) -> Result<Option<Unit>>;
}

/// The label columns worth keeping.
#[derive(Clone, Debug, Default)]
pub struct Columns(Option<Arc<BTreeSet<String>>>);

impl Columns {
    /// Every column there is.
    pub fn all() -> Self {
        Self(None)
    }

    /// Only these.
    pub fn only<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self(Some(Arc::new(names.into_iter().map(Into::into).collect())))
    }

    /// Whether to keep a column.
    pub fn wants(&self, column: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(column))
    }

    /// Whether to keep `feats.KEY`.
    fn wants_feature(&self, key: &str) -> bool {
        self.0
            .as_ref()
            .is_none_or(|names| names.iter().any(|n| n.strip_prefix("feats.") == Some(key)))
    }
}

/// The columns every word has: its lower-cased form, and its position in the sentence from 0.
fn word_labels(columns: &Columns, form: &str, position: usize) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    if columns.wants("form") {
        labels.push(("form".to_owned(), form.to_lowercase()));
    }
    if columns.wants("position") {
        labels.push(("position".to_owned(), position.to_string()));
    }
    labels
}

/// The documents of a corpus in order, numbered from 0.
pub struct Documents {
    sources: Arc<Vec<Source>>,
    config: CorpusConfig,
    columns: Columns,
    reader: Option<Box<dyn FileReader>>,
    file: usize,
    next_ordinal: u64,
    offset: Option<u64>,
    /// False where a plan has already judged the bad lines.
    strict: bool,
    good: u64,
    bad: u64,
    first_bad: Option<(usize, String)>,
}

impl Documents {
    /// From the first document on. Stops at the first bad line unless `corpus.max_bad` allows
    /// some; then they are counted, and [`Documents::judge`] tells at the end.
    pub fn open(config: &CorpusConfig, columns: Columns) -> Result<Self> {
        let sources = Arc::new(source::sources(config)?);
        let mut documents = Self::at(sources, config, columns, Start::default())?;
        documents.strict = config.max_bad <= 0.0;
        Ok(documents)
    }

    /// From a place a plan knows; bad lines are passed over.
    pub(crate) fn at(
        sources: Arc<Vec<Source>>,
        config: &CorpusConfig,
        columns: Columns,
        start: Start,
    ) -> Result<Self> {
        let mut documents = Self {
            sources,
            config: config.clone(),
            columns,
            reader: None,
            file: start.file,
            next_ordinal: start.ordinal,
            offset: None,
            strict: false,
            good: 0,
            bad: 0,
            first_bad: None,
        };
        documents.reader = Some(documents.reader(start.file, start.offset)?);
        Ok(documents)
    }

    fn reader(&self, file: usize, offset: u64) -> Result<Box<dyn FileReader>> {
        let source = &self.sources[file];
        let columns = self.columns.clone();
        let lines = |path: &Path, packing| open::Lines::open(path, packing, offset);
        Ok(match source.format {
            Format::Text => Box::new(text::Text::new(lines(&source.path, source.packing)?)),
            Format::Jsonl => {
                Box::new(jsonl::Jsonl::new(lines(&source.path, source.packing)?, columns))
            }
            Format::Conllu => {
                let lines = lines(&source.path, source.packing)?;
                Box::new(conllu::Conllu::new(lines, self.config.text, columns))
            }
            Format::Parallel => {
                let labels = source.label_path.as_ref().expect("paired when listed");
                let packing = source::packing_of(labels);
                let words = lines(&source.path, source.packing)?;
                Box::new(parallel::Parallel::new(words, lines(labels, packing)?, columns))
            }
            Format::Parquet => Box::new(parquet::Parquet::open(&source.path, &columns)?),
        })
    }

    /// The next document.
    pub fn advance(&mut self) -> Result<Option<Document>> {
        if self.config.max_documents.is_some_and(|most| self.next_ordinal >= most) {
            return Ok(None);
        }
        while let Some(reader) = &mut self.reader {
            match reader.next()? {
                Some(Unit::Document(document, offset)) => {
                    self.offset = offset;
                    return Ok(Some(self.number(document)));
                }
                Some(Unit::Bad { place, what }) => self.note_bad(place, what)?,
                None if self.file + 1 < self.sources.len() => {
                    self.file += 1;
                    self.reader = Some(self.reader(self.file, 0)?);
                }
                None => self.reader = None,
            }
        }
        Ok(None)
    }

    /// Gives a document its number and the labels of its file.
    fn number(&mut self, mut document: Document) -> Document {
        document.ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        self.good += 1;
        let labels = &self.sources[self.file].labels;
        for sentence in &mut document.sentences {
            let wanted = labels.iter().filter(|(column, _)| self.columns.wants(column));
            sentence.labels.extend(wanted.cloned());
        }
        document
    }

    fn note_bad(&mut self, place: String, what: String) -> Result<()> {
        self.bad += 1;
        let what = format!("{place}: {what}");
        if self.strict {
            return Err(Error::input(
                &self.sources[self.file].path,
                what,
                "mend it, or set corpus.max_bad to the share that may be skipped",
            ));
        }
        self.first_bad.get_or_insert((self.file, what));
        Ok(())
    }

    /// Refuses a corpus with too many bad lines. Call it when the last document is read.
    pub fn judge(&self) -> Result<()> {
        let units = self.good + self.bad;
        let share = self.bad as f64 / units.max(1) as f64;
        match &self.first_bad {
            Some((file, what)) if share > self.config.max_bad => Err(Error::input(
                &self.sources[*file].path,
                format!(
                    "{} of {units} documents or lines are unreadable, more than \
                     corpus.max_bad = {}; the first is {what}",
                    self.bad, self.config.max_bad
                ),
                "mend them, or raise corpus.max_bad",
            )),
            _ => Ok(()),
        }
    }

    /// Units skipped so far as unreadable.
    pub fn bad(&self) -> u64 {
        self.bad
    }

    /// Number of the file of the last document.
    pub fn file(&self) -> usize {
        self.file
    }

    /// Where in it the last document begins, if one can jump there.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// Number the next document gets.
    pub(crate) fn next_ordinal(&self) -> u64 {
        self.next_ordinal
    }
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start {
    /// Number of the file.
    pub(crate) file: usize,
    /// Byte in it, 0 for packed files.
    pub(crate) offset: u64,
    /// Number of the document there.
    pub(crate) ordinal: u64,
}
