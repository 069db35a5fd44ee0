//! Who the rows of `extract --corpus` are: one [`WordRow`] for each, with the labels of its word.

use std::collections::BTreeMap;

use crate::artifact::words::WordRow;
use crate::corpus::block::{Counts, Row, Sequence};
use crate::corpus::document::{Document, Sentence, Word};
use crate::corpus::tokenize::Tokenizer;
use crate::error::Result;

/// Columns of words that the table holds itself: the word's number, and its form as written.
const OWN_COLUMNS: [&str; 2] = ["form", "position"];

/// What was extracted, beside the activations.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// One per row of the matrices.
    pub rows: Vec<WordRow>,
    /// Label columns of the rows, in order of first appearance.
    pub columns: Vec<String>,
    /// What was read and what was lost.
    pub counts: Counts,
}

impl Words {
    /// Adds the rows of a chunk. `words_of` holds the same sequences with a row per word, where
    /// the rows of `sequences` are tokens; it is empty where they are words.
    pub(super) fn describe(
        &mut self,
        documents: &[Document],
        (sequences, words_of): (&[Sequence], &[Sequence]),
        tokenizer: &Tokenizer,
    ) -> Result<()> {
        let by_number: BTreeMap<u64, &Document> =
            documents.iter().map(|document| (document.ordinal, document)).collect();
        // Tokens of a sentence cut into several sequences are counted through.
        let (mut sentence_of, mut tokens_before) = (None, 0);
        for (i, sequence) in sequences.iter().enumerate() {
            let document = by_number[&sequence.document];
            let here = Some((sequence.document, sequence.sentence));
            if sentence_of != here {
                (sentence_of, tokens_before) = (here, 0);
            }
            let sentence = &document.sentences[sequence.sentence as usize];
            let earlier = &document.sentences[..sequence.sentence as usize];
            let words_before: usize = earlier.iter().map(|sentence| sentence.words.len()).sum();
            let by_token = !words_of.is_empty() || sentence.words.is_empty();
            for row in &sequence.rows {
                let (position, form, own) = if by_token {
                    let form = tokenizer.decode(&[sequence.tokens[row.first as usize]])?;
                    let word = words_of.get(i).and_then(|words| word_of(words, row));
                    let word = word.and_then(|row| word_at(sentence, row, words_before));
                    tokens_before += 1;
                    (tokens_before - 1, form, word.map_or(&[][..], |(_, word)| &word.labels))
                } else {
                    let (position, word) =
                        word_at(sentence, row, words_before).expect("rows are words");
                    (position, word.form.clone(), &word.labels[..])
                };
                let own = own.iter().filter(|(column, _)| !OWN_COLUMNS.contains(&column.as_str()));
                let labels = self.labels(own.chain(&sentence.labels));
                self.rows.push(WordRow {
                    document: signed(document.ordinal),
                    sentence: i64::from(sequence.sentence),
                    position: signed(position as u64),
                    form,
                    document_id: document.id.clone(),
                    sentence_id: sentence.id.clone(),
                    labels,
                });
            }
        }
        let columns = self.columns.len();
        self.rows.iter_mut().for_each(|row| row.labels.resize(columns, None));
        Ok(())
    }

    /// Values by column; a column not seen before is added.
    fn labels<'a>(
        &mut self,
        own: impl Iterator<Item = &'a (String, String)>,
    ) -> Vec<Option<String>> {
        let mut labels = vec![None; self.columns.len()];
        for (column, value) in own {
            let at = self.columns.iter().position(|known| known == column).unwrap_or_else(|| {
                self.columns.push(column.clone());
                labels.push(None);
                self.columns.len() - 1
            });
            labels[at] = Some(value.clone());
        }
        labels
    }
}

/// The word's row that a token lies in.
fn word_of<'a>(words: &'a Sequence, token: &Row) -> Option<&'a Row> {
    words.rows.iter().find(|word| (word.first..word.first + word.len).contains(&token.first))
}

/// A row's word and its number in the sentence.
fn word_at<'a>(sentence: &'a Sentence, row: &Row, before: usize) -> Option<(usize, &'a Word)> {
    let position = usize::try_from(row.id.place()).ok()?.checked_sub(before)?;
    Some((position, sentence.words.get(position)?))
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).expect("counts are below 2^63")
}
