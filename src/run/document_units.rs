//! What the rows of a document are called: words where the corpus has them, tokens or sentences
//! where those are the rows.

use std::collections::BTreeMap;

use super::prepare::Prepared;
use crate::config::Pool;
use crate::corpus::block::Sequence;
use crate::corpus::document::Document;
use crate::error::Result;

/// The rows of one document as text, in order, by their place in the document.
pub(super) struct Units {
    places: BTreeMap<u64, Unit>,
}

/// One row as text.
pub(super) struct Unit {
    /// Sentence number in the document.
    pub(super) sentence: u32,
    /// What a reader sees.
    pub(super) text: String,
}

impl Units {
    /// Units of a document; `sequences` are its own, for rows that are tokens or sentences.
    pub(super) fn new(
        prepared: &Prepared,
        document: &Document,
        sequences: &[Sequence],
    ) -> Result<Self> {
        let words = document.sentences.iter().any(|sentence| !sentence.words.is_empty());
        let by_word = matches!(prepared.rules.pool, Pool::First | Pool::Last | Pool::Mean);
        if words && by_word {
            return Ok(Self::words(document));
        }
        let mut places = BTreeMap::new();
        let by_token = matches!(prepared.rules.pool, Pool::None) || by_word;
        for sequence in sequences {
            for row in &sequence.rows {
                let text = if by_token {
                    prepared.tokenizer.decode(&[sequence.tokens[row.first as usize]])?
                } else {
                    document.sentences[sequence.sentence as usize].text.clone()
                };
                places.insert(row.id.place(), Unit { sentence: sequence.sentence, text });
            }
        }
        Ok(Self { places })
    }

    fn words(document: &Document) -> Self {
        let sentences = document.sentences.iter().zip(0_u32..);
        let words = sentences.flat_map(|(sentence, number)| {
            sentence.words.iter().map(move |word| Unit { sentence: number, text: word.form.clone() })
        });
        Self { places: (0_u64..).zip(words).collect() }
    }

    /// The sentence of a row.
    pub(super) fn sentence(&self, place: u64) -> u32 {
        self.places.get(&place).map_or(0, |unit| unit.sentence)
    }

    /// The rows of the same sentence within `window` on each side of a row, in order: places and
    /// texts, and which of them is the row itself.
    pub(super) fn window(&self, place: u64, window: usize) -> Window {
        let sentence = self.sentence(place);
        let same = |unit: &Unit| unit.sentence == sentence;
        let before = self.places.range(..place).rev().take(window);
        let before: Vec<_> = before.take_while(|(_, unit)| same(unit)).collect();
        let after = self.places.range(place..).take(window + 1);
        let after = after.take_while(|(_, unit)| same(unit));
        let focus = before.len();
        let (places, words) = before
            .into_iter()
            .rev()
            .chain(after)
            .map(|(place, unit)| (*place, unit.text.clone()))
            .unzip();
        Window { places, words, focus }
    }
}

/// Rows around one row.
pub(super) struct Window {
    pub(super) places: Vec<u64>,
    pub(super) words: Vec<String>,
    pub(super) focus: usize,
}
