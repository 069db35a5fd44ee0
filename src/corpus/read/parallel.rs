//! NeuroX's parallel files: words separated by blanks, and a label file of the same shape. Each
//! line is a document.

use super::open::{Line, Lines};
use super::{Columns, FileReader, Unit, word_labels};
use crate::corpus::document::{Document, Sentence, Word};
use crate::error::{Error, Result};

/// The label column of these files.
pub const COLUMN: &str = "label";

/// Reads a word file and its label file side by side.
pub(super) struct Parallel {
    words: Lines,
    labels: Lines,
    columns: Columns,
}

impl Parallel {
    pub(super) fn new(words: Lines, labels: Lines, columns: Columns) -> Self {
        Self { words, labels, columns }
    }

    /// The two files no longer speak of the same thing: labels after this point would be wrong,
    /// so this is never skipped.
    fn disagree(&self, what: String) -> Error {
        let what = format!("line {}: {what}", self.labels.number().max(self.words.number()));
        let remedy = format!("give it one label per word of {}", self.words.path().display());
        Error::input(self.labels.path(), what, remedy)
    }

    /// The sentence of the current pair of lines.
    fn sentence(&self) -> Result<Sentence> {
        let labels: Vec<&str> = self.labels.text().split_whitespace().collect();
        let forms: Vec<&str> = self.words.text().split_whitespace().collect();
        if labels.len() != forms.len() {
            return Err(self.disagree(format!("{} labels, {} words", labels.len(), forms.len())));
        }
        let mut sentence = Sentence::default();
        for (position, (form, label)) in forms.into_iter().zip(labels).enumerate() {
            if position > 0 {
                sentence.text.push(' ');
            }
            let start = sentence.text.len();
            sentence.text.push_str(form);
            let mut labels = word_labels(&self.columns, form, position);
            if self.columns.wants(COLUMN) {
                labels.push((COLUMN.to_owned(), label.to_owned()));
            }
            let span = start..sentence.text.len();
            sentence.words.push(Word { span, form: form.to_owned(), labels });
        }
        Ok(sentence)
    }
}

impl FileReader for Parallel {
    fn next(&mut self) -> Result<Option<Unit>> {
        loop {
            match (self.words.advance()?, self.labels.advance()?) {
                (Line::End, Line::End) => return Ok(None),
                (Line::End, _) => {
                    let words = self.words.number();
                    return Err(self.disagree(format!("the word file ends after line {words}")));
                }
                (_, Line::End) => {
                    let labels = self.labels.number();
                    return Err(self.disagree(format!("the label file ends after line {labels}")));
                }
                (Line::Bad(what), _) => {
                    return Ok(Some(Unit::bad_line(self.words.number(), what)));
                }
                (_, Line::Bad(what)) => {
                    let what = format!("in the label file: {what}");
                    return Ok(Some(Unit::bad_line(self.labels.number(), what)));
                }
                (Line::Text, Line::Text) => {
                    let sentence = self.sentence()?;
                    if !sentence.words.is_empty() {
                        let sentences = vec![sentence];
                        let document = Document { sentences, ..Document::default() };
                        return Ok(Some(Unit::Document(document, None)));
                    }
                }
            }
        }
    }
}
