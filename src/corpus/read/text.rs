//! Plain text: one document a line. And what all readers of running text share: long texts are
//! cut, so that memory and tokenizer time stay bounded.

use std::collections::VecDeque;

use super::open::{Line, Lines};
use super::{FileReader, MAX_DOCUMENT_BYTES, Unit};
use crate::corpus::document::{Document, Sentence};
use crate::error::Result;

/// Text given to the tokenizer at once; some pre-tokenizers are slow on more.
const MAX_PIECE_BYTES: usize = 1 << 20;

/// Reads `.txt`.
pub(super) struct Text {
    lines: Lines,
    ready: VecDeque<Unit>,
}

impl Text {
    pub(super) fn new(lines: Lines) -> Self {
        Self { lines, ready: VecDeque::new() }
    }
}

impl FileReader for Text {
    fn next(&mut self) -> Result<Option<Unit>> {
        loop {
            if let Some(unit) = self.ready.pop_front() {
                return Ok(Some(unit));
            }
            match self.lines.advance()? {
                Line::End => return Ok(None),
                Line::Bad(what) => return Ok(Some(Unit::bad_line(self.lines.number(), what))),
                Line::Text if self.lines.text().trim().is_empty() => {}
                Line::Text => {
                    let raw = Running { id: None, text: self.lines.text(), labels: Vec::new() };
                    raw.queue(self.lines.seekable_start(), &mut self.ready);
                }
            }
        }
    }
}

/// A document of running text.
pub(super) struct Running<'a> {
    /// The file's name for it.
    pub(super) id: Option<String>,
    /// All of it.
    pub(super) text: &'a str,
    /// Labels of it as a whole.
    pub(super) labels: Vec<(String, String)>,
}

impl Running<'_> {
    /// Makes it one document, or several if it is very long. Only the first has an offset: the
    /// others do not begin where a line does.
    pub(super) fn queue(self, offset: Option<u64>, ready: &mut VecDeque<Unit>) {
        let mut offset = offset;
        let mut document = Document { id: self.id.clone(), ..Document::default() };
        let mut bytes = 0;
        for piece in pieces(self.text) {
            if bytes + piece.len() > MAX_DOCUMENT_BYTES {
                let full = Document { id: self.id.clone(), ..Document::default() };
                let full = std::mem::replace(&mut document, full);
                ready.push_back(Unit::Document(full, offset.take()));
                bytes = 0;
            }
            bytes += piece.len();
            let (text, labels) = (piece.to_owned(), self.labels.clone());
            document.sentences.push(Sentence { text, labels, ..Sentence::default() });
        }
        ready.push_back(Unit::Document(document, offset));
    }
}

/// Cuts text before a blank, or between two characters where there is none. Blank text gives none.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > MAX_PIECE_BYTES {
        let limit = rest.floor_char_boundary(MAX_PIECE_BYTES);
        let cut = rest[..limit].rfind(char::is_whitespace).filter(|at| *at > 0).unwrap_or(limit);
        let (piece, after) = rest.split_at(cut);
        pieces.push(piece);
        rest = after;
    }
    if !rest.trim().is_empty() {
        pieces.push(rest);
    }
    pieces
}

#[cfg(test)]
mod tests {
    //! Oracle: nothing may be lost, so the pieces put together are the text.
    use super::*;

    #[test]
    fn pieces_lose_nothing_and_stay_small() {
        let word = "wörd ".repeat(400_000);
        let unbroken = "ö".repeat(1_500_000);
        for text in [word.as_str(), unbroken.as_str(), "short", "a b"] {
            let cut = pieces(text);
            assert!(cut.iter().all(|piece| piece.len() <= MAX_PIECE_BYTES));
            assert_eq!(cut.concat().trim_end(), text.trim_end());
        }
        assert!(pieces("  ").is_empty());
    }

    #[test]
    fn a_long_text_becomes_several_documents() {
        let text = "abc ".repeat(3 << 20);
        let mut ready = VecDeque::new();
        Running { id: None, text: &text, labels: Vec::new() }.queue(Some(7), &mut ready);
        assert!(ready.len() >= 3, "{} documents", ready.len());
        let offsets: Vec<_> = ready
            .iter()
            .map(|unit| match unit {
                Unit::Document(document, offset) => {
                    let bytes: usize = document.sentences.iter().map(|s| s.text.len()).sum();
                    assert!(bytes <= MAX_DOCUMENT_BYTES);
                    *offset
                }
                Unit::Bad { .. } => panic!("nothing is wrong with it"),
            })
            .collect();
        assert_eq!(offsets[0], Some(7));
        assert!(offsets[1..].iter().all(Option::is_none));
    }
}
