//! Words, tokens and rows. Oracles: rows worked out by hand on a BERT-like tokenizer of letters;
//! on a byte tokenizer, the bytes themselves.

use electrode::config::{Policy, Pool};
use electrode::corpus::align::{RowRules, align};
use electrode::corpus::block::{Column, Counts, Labels, Sequence};
use electrode::corpus::config::LongText;
use electrode::corpus::document::{Document, Sentence, Word};
use electrode::corpus::labels::LabelIndex;
use electrode::corpus::tokenize::Tokenizer;
use electrode::id::RowId;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{bert_tokenizer, byte_tokenizer, concept, rules};

/// A sentence of words with blanks between them; each word's `form` label is itself.
fn sentence(forms: &[&str]) -> Sentence {
    let mut sentence = Sentence { text: forms.join(" "), ..Sentence::default() };
    let mut at = 0;
    for form in forms {
        let labels = vec![("form".to_owned(), (*form).to_owned())];
        let span = at..at + form.len();
        at = span.end + 1;
        sentence.words.push(Word { span, form: (*form).to_owned(), labels });
    }
    sentence
}

fn document(sentences: Vec<Sentence>) -> Document {
    Document { ordinal: 5, id: None, sentences }
}

fn run(document: &Document, tokenizer: &Tokenizer, rules: &RowRules) -> (Vec<Sequence>, Counts) {
    align(document, tokenizer, &LabelIndex::default(), rules).expect("it aligns")
}

/// (place, first, len) of all rows.
fn rows(sequences: &[Sequence]) -> Vec<(u64, u32, u32)> {
    let rows = sequences.iter().flat_map(|sequence| &sequence.rows);
    rows.map(|row| (row.id.place(), row.first, row.len)).collect()
}

#[test]
fn word_pools() {
    let folder = TempDir::new().expect("temp");
    let bert = bert_tokenizer(&folder);
    // [CLS] the d ##o ##g . [SEP]   [CLS] a cat [SEP]
    let document = document(vec![sentence(&["The", "dog", "."]), sentence(&["a", "cat"])]);
    let of = |pool| rows(&run(&document, &bert, &rules(pool)).0);
    assert_eq!(of(Pool::First), [(0, 1, 1), (1, 2, 1), (2, 5, 1), (3, 1, 1), (4, 2, 1)]);
    assert_eq!(of(Pool::Last), [(0, 1, 1), (1, 4, 1), (2, 5, 1), (3, 1, 1), (4, 2, 1)]);
    assert_eq!(of(Pool::Mean), [(0, 1, 1), (1, 2, 3), (2, 5, 1), (3, 1, 1), (4, 2, 1)]);
    let (sequences, counts) = run(&document, &bert, &rules(Pool::Last));
    assert_eq!(sequences[0].tokens.len(), 7, "truncation and padding of the file are off");
    assert_eq!((sequences[0].tokens[0], sequences[0].tokens[6]), (1, 2));
    assert_eq!((sequences[1].sentence, sequences[1].document), (1, 5));
    assert_eq!(sequences[1].rows[0].id, RowId::new(5, 3));
    assert_eq!((counts.words, counts.rows, counts.tokens, counts.sequences), (5, 5, 11, 2));
}

#[test]
fn token_rows_and_special_tokens() {
    let folder = TempDir::new().expect("temp");
    let bert = bert_tokenizer(&folder);
    let document = document(vec![sentence(&["the", "dog"]), sentence(&["cat"])]);
    let mut rules = rules(Pool::None);
    let (sequences, counts) = run(&document, &bert, &rules);
    // Places count the document's tokens, special ones too: 0..6, then 6..9.
    assert_eq!(rows(&sequences), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 4, 1), (7, 1, 1)]);
    assert_eq!((counts.excluded_rows, counts.rows, counts.tokens), (4, 5, 9));
    rules.special_tokens = Policy::Include;
    assert_eq!(run(&document, &bert, &rules).1.rows, 9);
    rules.first_position = false;
    let counts = run(&document, &bert, &rules).1;
    assert_eq!((counts.rows, counts.excluded_rows), (7, 2));
    // Text without words has token rows under word pools too.
    let plain = Sentence { text: "the dog".to_owned(), ..Sentence::default() };
    let plain = self::document(vec![plain]);
    assert_eq!(
        rows(&run(&plain, &bert, &super::rules(Pool::Last)).0),
        [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 4, 1)]
    );
}

#[test]
fn first_position_of_decoders() {
    let folder = TempDir::new().expect("temp");
    let bytes = byte_tokenizer(&folder);
    // Tokens: a b | _ c
    let document = document(vec![sentence(&["ab", "c"])]);
    let at = |pool| {
        let mut rules = rules(pool);
        rules.first_position = false;
        let (sequences, counts) = run(&document, &bytes, &rules);
        (rows(&sequences), counts.excluded_rows)
    };
    assert_eq!(at(Pool::First), (vec![(1, 2, 1)], 1));
    assert_eq!(at(Pool::Last), (vec![(0, 1, 1), (1, 3, 1)], 0));
    assert_eq!(at(Pool::Mean), (vec![(1, 2, 2)], 1));
    assert_eq!(at(Pool::SentenceMean), (vec![(0, 1, 3)], 0));
    assert_eq!(at(Pool::SentenceFirst), (vec![(0, 0, 1)], 0));
    assert_eq!(at(Pool::None), (vec![(1, 1, 1), (2, 2, 1), (3, 3, 1)], 1));
    // With a BOS the first position is no longer a word's.
    let bos = bytes.with_bos(250);
    let (sequences, _) = run(&document, &bos, &rules(Pool::First));
    assert_eq!((sequences[0].tokens[0], rows(&sequences)), (250, vec![(0, 1, 1), (1, 3, 1)]));
}

#[test]
fn sentence_pools() {
    let folder = TempDir::new().expect("temp");
    let bert = bert_tokenizer(&folder);
    let document = document(vec![sentence(&["the", "dog"]), sentence(&["cat"])]);
    let of = |pool| rows(&run(&document, &bert, &rules(pool)).0);
    assert_eq!(of(Pool::SentenceFirst), [(0, 0, 1), (1, 0, 1)]);
    assert_eq!(of(Pool::SentenceLast), [(0, 4, 1), (1, 1, 1)]);
    assert_eq!(of(Pool::SentenceMean), [(0, 1, 4), (1, 1, 1)]);
    assert_eq!(of(Pool::SentenceMax), [(0, 1, 4), (1, 1, 1)]);
}

#[test]
fn long_sentences() {
    let folder = TempDir::new().expect("temp");
    let bert = bert_tokenizer(&folder);
    let document = document(vec![sentence(&["the", "dog", "cat", "horse", "a"])]);
    // Room for 4 beside [CLS] and [SEP]: the dog | cat | hors(e) | (e) a
    let mut rules = rules(Pool::Mean);
    rules.max_tokens = Some(6);
    let (sequences, counts) = run(&document, &bert, &rules);
    let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.tokens.len()).collect();
    assert_eq!(lengths, [6, 3, 6, 4]);
    assert!(sequences.iter().all(|s| s.tokens[0] == 1 && s.tokens.last() == Some(&2)));
    assert_eq!(rows(&sequences), [(0, 1, 1), (1, 2, 3), (2, 1, 1), (4, 2, 1)]);
    assert_eq!((counts.words, counts.rows, counts.truncated_words), (5, 4, 1));
    rules.long = LongText::Truncate;
    let (sequences, counts) = run(&document, &bert, &rules);
    assert_eq!(sequences.len(), 1);
    assert_eq!((counts.rows, counts.truncated_words), (2, 3));
    rules.max_tokens = Some(2);
    let error = align(&document, &bert, &LabelIndex::default(), &rules).expect_err("no room");
    assert!(error.to_string().contains("corpus.max_tokens"), "{error}");
}

#[test]
fn words_without_tokens_are_counted() {
    let folder = TempDir::new().expect("temp");
    let bert = bert_tokenizer(&folder);
    // BERT's normaliser deletes control characters, and with them the word.
    let document = document(vec![sentence(&["the", "\u{1}", "cat"]), sentence(&["\u{1}"])]);
    let (sequences, counts) = run(&document, &bert, &rules(Pool::Last));
    assert_eq!(rows(&sequences), [(0, 1, 1), (2, 2, 1)]);
    assert_eq!((counts.dropped_words, counts.sentences, counts.sequences), (2, 2, 1));
}

/// SentencePiece's two ways of writing blanks: as a pre-tokenizer (T5), as a normaliser (Llama 2).
#[test]
fn blanks_written_as_tokens() {
    let folder = TempDir::new().expect("temp");
    let scores: Vec<(&str, f64)> =
        [("<unk>", 0.0), ("▁", -2.0), ("▁the", -1.0), ("c", -2.0), ("at", -2.0)].into();
    let metaspace = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "post_processor": null, "decoder": null,
        "pre_tokenizer": { "type": "Metaspace", "replacement": "▁",
                           "prepend_scheme": "always", "split": true },
        "model": { "type": "Unigram", "unk_id": 0, "vocab": scores, "byte_fallback": false }
    });
    let mut llama = metaspace.clone();
    llama["pre_tokenizer"] = serde_json::Value::Null;
    llama["normalizer"] = serde_json::json!({ "type": "Sequence", "normalizers": [
        { "type": "Prepend", "prepend": "▁" },
        { "type": "Replace", "pattern": { "String": " " }, "content": "▁" }
    ] });
    for (name, json) in [("t5.json", metaspace), ("llama.json", llama)] {
        let path = super::write(&folder, name, json.to_string());
        let tokenizer = Tokenizer::open(&path).expect(name);
        // ▁ c at | ▁the | ▁ c at: a lone blank is the beginning of the word after it.
        let document = document(vec![sentence(&["cat", "the", "cat"])]);
        let of = |pool| rows(&run(&document, &tokenizer, &rules(pool)).0);
        assert_eq!(of(Pool::Mean), [(0, 0, 3), (1, 3, 1), (2, 4, 3)], "{name}");
        assert_eq!(of(Pool::Last), [(0, 2, 1), (1, 3, 1), (2, 6, 1)], "{name}");
    }
}

#[test]
fn labels_of_words_sentences_and_missing_ones() {
    let folder = TempDir::new().expect("temp");
    let bert = bert_tokenizer(&folder);
    let column = |name: &str, classes: &[&str], first_group| Column {
        name: name.to_owned(),
        classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        first_group,
        min_count: 1,
        numeric: false,
    };
    let labels = Labels {
        columns: vec![
            column("form", &["cat", "the"], 0),
            column("lang", &["de", "en"], 2),
            column("case", &["Nom", "_"], 4),
        ],
    };
    let mut concepts = vec![concept("form"), concept("lang"), concept("case")];
    concepts[2].missing = electrode::corpus::config::Missing::Class;
    let index = LabelIndex::new(&labels, &concepts);
    let mut sentence = sentence(&["the", "dog", "cat"]);
    sentence.labels = vec![("lang".to_owned(), "en".to_owned())];
    sentence.words[2].labels.push(("case".to_owned(), "Nom".to_owned()));
    let document = document(vec![sentence]);
    let groups = |pool| {
        let (sequences, _) = align(&document, &bert, &index, &rules(pool)).expect("aligns");
        let rows: Vec<_> = sequences[0].rows.iter().map(|row| row.groups.clone()).collect();
        rows
    };
    assert_eq!(groups(Pool::Last), [vec![1, 3, 5], vec![3, 5], vec![0, 3, 4]]);
    assert_eq!(groups(Pool::SentenceMean), [vec![3, 5]]);
    let tokens = [vec![1, 3, 5], vec![3, 5], vec![3, 5], vec![3, 5], vec![0, 3, 4]];
    assert_eq!(groups(Pool::None), tokens);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Each word has a row of just its bytes (after a blank), or is counted as lost.
    #[test]
    fn every_word_is_found_or_counted(
        forms in prop::collection::vec("[^\\s\\p{C}\\p{Z}]{1,9}", 1..30),
        max_tokens in prop::option::of(1_usize..40),
        truncate in any::<bool>(),
    ) {
        let folder = TempDir::new().expect("temp");
        let tokenizer = byte_tokenizer(&folder);
        let forms: Vec<&str> = forms.iter().map(String::as_str).collect();
        let document = document(vec![sentence(&forms)]);
        let mut rules = rules(Pool::Mean);
        rules.max_tokens = max_tokens;
        rules.long = if truncate { LongText::Truncate } else { LongText::Split };
        let (sequences, counts) = run(&document, &tokenizer, &rules);
        prop_assert_eq!(counts.words, forms.len() as u64);
        prop_assert_eq!(counts.rows + counts.truncated_words, counts.words);
        prop_assert_eq!(counts.dropped_words, 0);
        for sequence in &sequences {
            prop_assert!(sequence.tokens.len() <= max_tokens.unwrap_or(usize::MAX));
            for row in &sequence.rows {
                let tokens = &sequence.tokens[row.first as usize..(row.first + row.len) as usize];
                let text = tokenizer.decode(tokens).expect("bytes");
                let place = usize::try_from(row.id.place()).expect("small");
                prop_assert_eq!(text.trim_start(), forms[place]);
                prop_assert_eq!(text.len(), forms[place].len() + usize::from(place > 0));
            }
        }
        if !truncate {
            let all: Vec<u32> = sequences.iter().flat_map(|s| s.tokens.clone()).collect();
            prop_assert_eq!(tokenizer.decode(&all).expect("bytes"), forms.join(" "));
        }
        let fits = |form: &&str| form.len() < max_tokens.unwrap_or(usize::MAX);
        if !truncate && forms.iter().all(fits) {
            prop_assert_eq!(counts.truncated_words, 0);
        }
    }
}
