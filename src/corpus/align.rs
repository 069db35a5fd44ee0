//! Words to subword tokens, and tokens to rows (methods.md 1.3).
//!
//! Words and tokens both name bytes of the same text, so nothing is tokenised twice. A token
//! belongs to the word in which its first non-blank byte stands; if it has none (SentencePiece's
//! lone "▁", GPT-2's lone "Ġ"), to the word its end stands in or before. So a token that spans two
//! words ("can not" read as "cannot") belongs to the first, and the other is counted as dropped.
//! Words with the same bytes (the parts of French "du") share their tokens.

use std::ops::Range;

use super::block::{Counts, Row, Sequence};
use super::config::LongText;
use super::document::{Document, Sentence, Word};
use super::labels::LabelIndex;
use super::tokenize::{Encoded, Tokenizer};
use crate::config::{Policy, Pool};
use crate::error::{Error, Result};
use crate::id::RowId;

/// How documents become sequences and rows.
#[derive(Clone, Debug)]
pub struct RowRules {
    /// What a row is.
    pub pool: Pool,
    /// Whether special tokens are rows where tokens are.
    pub special_tokens: Policy,
    /// Whether a row may begin at the first position of a sequence. Sentence maxima and means
    /// then leave that position out; `sentence-first` asks for it by name and always keeps it.
    pub first_position: bool,
    /// Longest sequence, special tokens included.
    pub max_tokens: Option<usize>,
    /// What happens to longer ones.
    pub long: LongText,
}

impl RowRules {
    /// Rows of the words of sequences of at most so many tokens; longer ones are split.
    pub fn of_words(pool: Pool, longest: usize) -> Self {
        Self {
            pool,
            special_tokens: Policy::Exclude,
            first_position: true,
            max_tokens: Some(longest),
            long: LongText::Split,
        }
    }
}

/// The sequences of a document and what was lost on the way. `counts.bad` is left at 0.
pub fn align(
    document: &Document,
    tokenizer: &Tokenizer,
    labels: &LabelIndex,
    rules: &RowRules,
) -> Result<(Vec<Sequence>, Counts)> {
    let room = room(tokenizer, rules)?;
    let mut maker = Maker {
        document,
        tokenizer,
        labels,
        rules,
        room,
        sequences: Vec::new(),
        counts: Counts { documents: 1, ..Counts::default() },
    };
    for (number, sentence) in document.sentences.iter().enumerate() {
        maker.sentence(number, sentence)?;
    }
    maker.counts.sequences = maker.sequences.len() as u64;
    let Maker { sequences, counts, .. } = maker;
    Ok((sequences, counts))
}

/// Tokens of text that fit in one sequence.
fn room(tokenizer: &Tokenizer, rules: &RowRules) -> Result<usize> {
    let Some(most) = rules.max_tokens else { return Ok(usize::MAX) };
    let special = tokenizer.before().len() + tokenizer.after().len();
    most.checked_sub(special).filter(|room| *room > 0).ok_or_else(|| {
        Error::config(
            "corpus.max_tokens",
            format!("{most} tokens leave no room beside {special} special tokens"),
            "raise it",
        )
    })
}

/// A document on its way to sequences.
struct Maker<'a> {
    document: &'a Document,
    tokenizer: &'a Tokenizer,
    labels: &'a LabelIndex,
    rules: &'a RowRules,
    room: usize,
    sequences: Vec<Sequence>,
    counts: Counts,
}

/// A sentence cut into tokens, each with its word.
struct Cut<'a> {
    number: u32,
    sentence: &'a Sentence,
    encoded: Encoded,
    /// Word of each token, by number in the sentence.
    owners: Vec<Option<usize>>,
}

/// One sequence in the making.
struct Piece<'a> {
    cut: &'a Cut<'a>,
    /// Tokens of the sentence it holds.
    content: Range<usize>,
    /// Number of the sequence's first token in its document.
    first_place: u64,
}

impl Maker<'_> {
    fn sentence(&mut self, number: usize, sentence: &Sentence) -> Result<()> {
        let encoded = self.tokenizer.encode(&sentence.text)?;
        let owners = owners(&sentence.text, &sentence.words, &encoded.spans);
        let number = u32::try_from(number).expect("a document has fewer than 2^32 sentences");
        let cut = Cut { number, sentence, encoded, owners };
        let first_word = self.counts.words;
        self.counts.sentences += 1;
        self.counts.words += sentence.words.len() as u64;
        let pieces = pieces(&cut.owners, self.room, self.rules.long);
        let first_sequence = self.sequences.len();
        if !cut.owners.is_empty() {
            for content in pieces.clone() {
                self.sequence(&cut, content)?;
            }
        }
        if !sentence.words.is_empty() && is_word_pool(self.rules.pool) {
            self.word_rows(&cut, &pieces, first_word, first_sequence)?;
        } else if !sentence.words.is_empty() {
            self.count_lost_words(&cut, &pieces);
        }
        Ok(())
    }

    /// Adds a sequence with the rows that are not words.
    fn sequence(&mut self, cut: &Cut<'_>, content: Range<usize>) -> Result<()> {
        let (before, after) = (self.tokenizer.before(), self.tokenizer.after());
        let tokens = [before, &cut.encoded.tokens[content.clone()], after].concat();
        let piece = Piece { cut, content, first_place: self.counts.tokens };
        let mut rows = Vec::new();
        if self.rules.pool == Pool::None
            || (cut.sentence.words.is_empty() && is_word_pool(self.rules.pool))
        {
            for token in 0..tokens.len() {
                rows.extend(self.token_row(&piece, token)?);
            }
        } else if !is_word_pool(self.rules.pool) {
            rows.extend(self.sentence_row(&piece)?);
        }
        self.counts.tokens += tokens.len() as u64;
        self.counts.rows += rows.len() as u64;
        let (document, sentence) = (self.document.ordinal, cut.number);
        self.sequences.push(Sequence { document, sentence, tokens, rows });
        Ok(())
    }

    /// The row of one token, unless the rules leave it out.
    fn token_row(&mut self, piece: &Piece<'_>, token: usize) -> Result<Option<Row>> {
        let before = self.tokenizer.before().len();
        let content = token.checked_sub(before).filter(|at| *at < piece.content.len());
        let special = content.is_none() && self.rules.special_tokens == Policy::Exclude;
        if special || (token == 0 && !self.rules.first_position) {
            self.counts.excluded_rows += 1;
            return Ok(None);
        }
        let word = content.and_then(|at| piece.cut.owners[piece.content.start + at]);
        let sentence = piece.cut.sentence;
        let word = word.map_or(&[][..], |word| &sentence.words[word].labels[..]);
        let groups = self.labels.groups(word, &sentence.labels);
        let id = self.id(piece.first_place + token as u64)?;
        Ok(Some(Row { id, first: index(token), len: 1, groups }))
    }

    /// The row of a whole sequence; its place is the sequence's number in the document.
    fn sentence_row(&mut self, piece: &Piece<'_>) -> Result<Option<Row>> {
        let before = self.tokenizer.before().len();
        let end = before + piece.content.len();
        let from = if self.rules.first_position { before } else { before.max(1) };
        let run = match self.rules.pool {
            Pool::SentenceFirst => 0..1,
            Pool::SentenceLast => end.saturating_sub(1).max(from)..end,
            _ => from..end,
        };
        if run.is_empty() {
            self.counts.excluded_rows += 1;
            return Ok(None);
        }
        let groups = self.labels.groups(&[], &piece.cut.sentence.labels);
        let id = self.id(self.sequences.len() as u64)?;
        Ok(Some(Row { id, first: index(run.start), len: index(run.len()), groups }))
    }

    /// Gives each word of a sentence its row, in the sequence that holds all of it.
    fn word_rows(
        &mut self,
        cut: &Cut<'_>,
        pieces: &[Range<usize>],
        first_word: u64,
        first_sequence: usize,
    ) -> Result<()> {
        let before = self.tokenizer.before().len();
        for (number, run) in runs(cut).into_iter().enumerate() {
            let Some(piece) = self.holder(&run, pieces) else { continue };
            let run =
                run.start - pieces[piece].start + before..run.end - pieces[piece].start + before;
            let (first, len) = match self.rules.pool {
                Pool::First => (run.start, 1),
                Pool::Last => (run.end - 1, 1),
                _ => (run.start, run.len()),
            };
            if first == 0 && !self.rules.first_position {
                self.counts.excluded_rows += 1;
                continue;
            }
            let word = &cut.sentence.words[number];
            let groups = self.labels.groups(&word.labels, &cut.sentence.labels);
            let id = self.id(first_word + number as u64)?;
            let row = Row { id, first: index(first), len: index(len), groups };
            self.sequences[first_sequence + piece].rows.push(row);
            self.counts.rows += 1;
        }
        Ok(())
    }

    /// Words are counted as lost under every pooling: a token row beside them says less then.
    fn count_lost_words(&mut self, cut: &Cut<'_>, pieces: &[Range<usize>]) {
        for run in runs(cut) {
            self.holder(&run, pieces);
        }
    }

    /// The piece that holds a word's tokens whole; otherwise the word is counted as lost.
    fn holder(&mut self, run: &Range<usize>, pieces: &[Range<usize>]) -> Option<usize> {
        if run.is_empty() {
            self.counts.dropped_words += 1;
            return None;
        }
        let piece = pieces.partition_point(|piece| piece.end <= run.start);
        let holds = pieces.get(piece).is_some_and(|piece| run.end <= piece.end);
        if !holds {
            self.counts.truncated_words += 1;
        }
        holds.then_some(piece)
    }

    /// A row's id; documents are cut by bytes, so only absurd normalisers get past the limit.
    fn id(&self, place: u64) -> Result<RowId> {
        if place > RowId::MAX_PLACE {
            let what = format!("document {} has over 2^24 rows", self.document.ordinal);
            return Err(Error::input(self.tokenizer.path(), what, "cut the document"));
        }
        Ok(RowId::new(self.document.ordinal, place))
    }
}

/// Whether rows are words, where the corpus has words.
fn is_word_pool(pool: Pool) -> bool {
    matches!(pool, Pool::First | Pool::Last | Pool::Mean)
}

/// Sequences hold fewer than 2^32 tokens, since documents are cut by bytes.
fn index(n: usize) -> u32 {
    u32::try_from(n).expect("a sequence has fewer than 2^32 tokens")
}

/// The word each token belongs to: the first of several with the same bytes. Words ascend.
fn owners(text: &str, words: &[Word], spans: &[Range<usize>]) -> Vec<Option<usize>> {
    let owner = |span: &Range<usize>| {
        let covered = text.get(span.clone()).unwrap_or("");
        let blank = covered.len() - covered.trim_start().len();
        let at = span.start + blank;
        let inner = words.partition_point(|word| word.span.end <= at);
        let word = words.get(inner)?;
        // A blank token leads to the next word; a visible one between words belongs to none
        // unless it reaches into one.
        let lone = covered.trim().is_empty();
        (lone || word.span.start < span.end).then_some(inner)
    };
    spans.iter().map(owner).collect()
}

/// The tokens of each word, empty where it has none.
fn runs(cut: &Cut<'_>) -> Vec<Range<usize>> {
    let words = &cut.sentence.words;
    let mut runs: Vec<Range<usize>> = vec![0..0; words.len()];
    for (token, owner) in cut.owners.iter().enumerate() {
        let Some(run) = owner.map(|word| &mut runs[word]) else { continue };
        if run.start == run.end {
            *run = token..token + 1;
        } else if run.end == token {
            run.end += 1;
        }
    }
    for word in 1..words.len() {
        if words[word].span == words[word - 1].span {
            runs[word] = runs[word - 1].clone();
        }
    }
    runs
}

/// Cuts a sentence's tokens into runs that fit, before a word's first token where possible.
fn pieces(owners: &[Option<usize>], room: usize, long: LongText) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while owners.len() - start > room {
        let end = start + room;
        if long == LongText::Truncate {
            pieces.push(start..end);
            return pieces;
        }
        let inside = |at: &usize| owners[*at].is_some() && owners[*at] == owners[*at - 1];
        let cut = (start + 1..=end).rev().find(|at| !inside(at)).unwrap_or(end);
        pieces.push(start..cut);
        start = cut;
    }
    pieces.push(start..owners.len());
    pieces
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one span is a list of one span")]
mod tests {
    //! Oracle: cases worked out by hand.
    use super::*;

    fn words(spans: &[Range<usize>]) -> Vec<Word> {
        spans.iter().map(|span| Word { span: span.clone(), ..Word::default() }).collect()
    }

    #[test]
    fn tokens_find_their_words() {
        // "do" "n't" read as "don" "'t"; a token over two words; a blank token; a stray one.
        let text = "don't go";
        let two = words(&[0..2, 2..5, 6..8]);
        assert_eq!(owners(text, &two, &[0..3, 3..5, 5..8]), [Some(0), Some(1), Some(2)]);
        assert_eq!(owners(text, &two, &[0..5, 5..6, 6..8]), [Some(0), Some(2), Some(2)]);
        assert_eq!(
            owners("a , b", &words(&[0..1, 4..5]), &[0..1, 1..3, 3..5]),
            [Some(0), None, Some(1)]
        );
        assert_eq!(owners("a ", &words(&[0..1]), &[0..1, 1..2]), [Some(0), None]);
    }

    #[test]
    fn a_zero_width_token_leads_to_the_next_word() {
        assert_eq!(owners("ab", &words(&[0..2]), &[0..0, 0..2]), [Some(0), Some(0)]);
    }

    #[test]
    fn words_with_the_same_bytes_share_their_tokens() {
        let sentence =
            Sentence { text: "du".into(), words: words(&[0..2, 0..2]), ..Sentence::default() };
        let encoded = Encoded { tokens: vec![1, 2], spans: vec![0..1, 1..2] };
        let owners = owners(&sentence.text, &sentence.words, &encoded.spans);
        let cut = Cut { number: 0, sentence: &sentence, encoded, owners };
        assert_eq!(runs(&cut), [0..2, 0..2]);
    }

    #[test]
    fn long_sentences_are_cut_between_words() {
        let owners = [Some(0), Some(1), Some(1), Some(2), Some(2), Some(2), Some(2), Some(3)];
        assert_eq!(pieces(&owners, 3, LongText::Split), [0..3, 3..6, 6..8]);
        assert_eq!(pieces(&owners, 4, LongText::Split), [0..3, 3..7, 7..8]);
        assert_eq!(pieces(&owners, 3, LongText::Truncate), [0..3]);
        assert_eq!(pieces(&owners, 8, LongText::Split), [0..8]);
        assert_eq!(pieces(&[], 3, LongText::Split), [0..0]);
        assert_eq!(pieces(&[None; 5], 2, LongText::Split), [0..2, 2..4, 4..5]);
    }
}
