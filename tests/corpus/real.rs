//! Real treebanks and tokenizers, where they are at hand. Oracles: the `# text =` comments of the
//! treebanks, counts of their lines, and tokens and word numbers that transformers gave
//! (fixtures/forward/minilm-ewt).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use electrode::config::Pool;
use electrode::corpus::align::align;
use electrode::corpus::config::TextSource;
use electrode::corpus::document::{Document, Sentence, Word};
use electrode::corpus::labels::LabelIndex;
use electrode::corpus::plan::Plan;
use electrode::corpus::read::{Columns, Documents};
use electrode::corpus::stream::{BlockRules, BlockStream};
use electrode::corpus::tokenize::Tokenizer;

use super::{concept, config, rules, shared};

/// Numbers of a line-oriented treebank, told from its lines alone.
fn count(path: &Path) -> (u64, u64) {
    let text = std::fs::read_to_string(path).expect("it reads");
    let number = |line: &&str| {
        line.split('\t').next().is_some_and(|id| !id.is_empty() && id.parse::<u32>().is_ok())
    };
    let words = text.lines().filter(number).count() as u64;
    (words, text.lines().filter(|line| line.starts_with("# sent_id")).count() as u64)
}

#[test]
fn treebanks_rebuild_their_text() {
    let mut checked = 0;
    for name in ["en_ewt/dev", "multilingual/de", "multilingual/fr", "multilingual/es"] {
        let Some(path) = shared(&format!("corpora/{name}.conllu")) else { return };
        let comments: Vec<String> = std::fs::read_to_string(&path)
            .expect("it reads")
            .lines()
            .filter_map(|line| line.strip_prefix("# text = ").map(str::to_owned))
            .collect();
        let mut config = config(&[path]);
        config.text = TextSource::Original;
        let documents = Documents::open(&config, Columns::only([""; 0])).expect("it opens");
        let sentences: Vec<Sentence> =
            documents.flat_map(|document| document.expect("it reads").sentences).collect();
        assert_eq!(sentences.len(), comments.len(), "{name}");
        for (sentence, comment) in sentences.iter().zip(&comments) {
            // Some texts keep two blanks in a row, which only MISC tells.
            let comment: Vec<&str> = comment.split_whitespace().collect();
            let text: Vec<&str> = sentence.text.split_whitespace().collect();
            assert_eq!(text, comment, "{name} {:?}", sentence.id);
            checked += 1;
        }
    }
    assert!(checked > 5000, "{checked} sentences");
}

#[test]
fn ewt_through_a_byte_level_tokenizer() {
    let Some(path) = shared("corpora/en_ewt/dev.conllu") else { return };
    let Some(model) = shared("models/tiny-gpt2-en") else { return };
    let (words, sentences) = count(&path);
    for text in [TextSource::Words, TextSource::Original] {
        let mut config = config(std::slice::from_ref(&path));
        config.text = text;
        let concepts = vec![concept("upos"), concept("feats.Number")];
        let plan = Plan::make(&config, &concepts, 2048, 0).expect("it plans");
        assert_eq!((plan.words, plan.sentences), (words, sentences));
        assert_eq!(plan.labels.columns[0].classes.len(), 17);
        let count = u32::try_from(plan.blocks.len()).expect("few");
        let block_rules = BlockRules {
            plan: Arc::new(plan),
            config,
            concepts,
            tokenizer: Arc::new(Tokenizer::open(&model).expect("it opens")),
            rows: rules(Pool::Mean),
        };
        let mut rows = 0;
        let mut dropped = 0;
        for block in BlockStream::start(block_rules, (0..count).collect()).expect("it starts") {
            let block = block.expect("it streams");
            rows += block.counts.rows;
            dropped += block.counts.dropped_words;
        }
        assert_eq!(rows + dropped, words);
        if text == TextSource::Words {
            assert_eq!(dropped, 0, "a blank stands between any two words");
        }
        assert!(dropped * 100 <= words, "{dropped} of {words} words lost");
    }
}

#[test]
fn minilm_tokens_and_words_are_those_of_transformers() {
    let Some(folder) = shared("fixtures/forward/minilm-ewt") else { return };
    let Some(model) = std::env::var_os("ELECTRODE_MINILM") else {
        eprintln!("skipped: ELECTRODE_MINILM does not name the folder of all-MiniLM-L6-v2");
        return;
    };
    let tokenizer = Tokenizer::open(&PathBuf::from(model)).expect("it opens");
    let bytes = std::fs::read(folder.join("expected.safetensors")).expect("it reads");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("it is whole");
    let numbers = |name: &str| -> Vec<i64> {
        let data = tensors.tensor(name).expect("it is there").data();
        data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("8"))).collect()
    };
    let (ids, word_ids, offsets) = (numbers("input_ids"), numbers("word_ids"), numbers("offsets"));
    let text = std::fs::read_to_string(folder.join("sentences.txt")).expect("it reads");
    let sentences: Vec<Sentence> = text
        .lines()
        .map(|line| line.split('\t').nth(2).expect("three columns"))
        .map(|words| {
            let mut at = 0;
            let words_of = words.split(' ').map(|form| {
                let span = at..at + form.len();
                at = span.end + 1;
                Word { span, form: form.to_owned(), labels: Vec::new() }
            });
            Sentence { words: words_of.collect(), text: words.to_owned(), ..Sentence::default() }
        })
        .collect();
    let document = Document { sentences, ..Document::default() };
    let (sequences, counts) =
        align(&document, &tokenizer, &LabelIndex::default(), &rules(Pool::Mean)).expect("aligns");
    assert_eq!((counts.tokens, counts.words, counts.rows), (164, 119, 119));
    let mut first_word = 0;
    for (number, sequence) in sequences.iter().enumerate() {
        let own = usize::try_from(offsets[number]).expect("small")
            ..usize::try_from(offsets[number + 1]).expect("small");
        let tokens: Vec<i64> = sequence.tokens.iter().map(|id| i64::from(*id)).collect();
        assert_eq!(tokens, ids[own.clone()]);
        let mut words = vec![-1; tokens.len()];
        for row in &sequence.rows {
            let place = i64::try_from(row.id.place()).expect("small");
            words[row.first as usize..(row.first + row.len) as usize].fill(place - first_word);
        }
        assert_eq!(words, word_ids[own]);
        first_word += i64::try_from(sequence.rows.len()).expect("small");
    }
}
