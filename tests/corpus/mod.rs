//! The corpus layer: from files to aligned blocks.

use std::path::{Path, PathBuf};

use electrode::config::{Policy, Pool};
use electrode::corpus::align::RowRules;
use electrode::corpus::config::{ConceptConfig, CorpusConfig, LongText};
use electrode::corpus::tokenize::Tokenizer;
use tempfile::TempDir;

mod alignment;
mod bad_input;
mod blocks;
mod readers;
mod real;

/// A corpus configuration over files, with defaults.
fn config(files: &[PathBuf]) -> CorpusConfig {
    let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    toml::from_str(&format!("files = {files:?}")).expect("a plain configuration parses")
}

/// A concept over all classes of a column.
fn concept(column: &str) -> ConceptConfig {
    toml::from_str(&format!("column = {column:?}")).expect("a plain concept parses")
}

/// Writes a file into a temporary folder.
fn write(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("the temporary folder can be written");
    path
}

/// Rules with nothing switched on.
fn rules(pool: Pool) -> RowRules {
    let special_tokens = Policy::Exclude;
    let (max_tokens, long) = (None, LongText::Split);
    RowRules { pool, special_tokens, first_position: true, max_tokens, long }
}

/// A tokenizer that makes a token of each byte, as GPT-2's does without merges; id = byte order
/// in its alphabet. No special tokens.
fn byte_tokenizer(folder: &TempDir) -> Tokenizer {
    let mut alphabet: Vec<char> =
        tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let vocab: serde_json::Map<String, serde_json::Value> =
        alphabet.iter().enumerate().map(|(id, c)| (c.to_string(), id.into())).collect();
    let level = serde_json::json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
    });
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": level, "post_processor": level, "decoder": level,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] }
    });
    Tokenizer::open(&write(folder, "tokenizer.json", json.to_string())).expect("it is complete")
}

/// A WordPiece tokenizer as BERT's: `[CLS]` 1, `[SEP]` 2, letters and digits one by one, `.` and
/// a few words; truncation to 4 and padding to 64 in the file, which must not take effect.
fn bert_tokenizer(folder: &TempDir) -> Tokenizer {
    let mut vocab: Vec<String> =
        ["[UNK]", "[CLS]", "[SEP]", ".", "the", "cat"].into_iter().map(str::to_owned).collect();
    for c in ('a'..='z').chain('0'..='9') {
        vocab.extend([c.to_string(), format!("##{c}")]);
    }
    let vocab: serde_json::Map<String, serde_json::Value> =
        vocab.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
    let special =
        |id: u32, token: &str| serde_json::json!({ "id": token, "ids": [id], "tokens": [token] });
    let json = serde_json::json!({
        "version": "1.0",
        "truncation": { "max_length": 4, "strategy": "LongestFirst", "stride": 0,
                        "direction": "Right" },
        "padding": { "strategy": { "Fixed": 64 }, "direction": "Right", "pad_id": 0,
                     "pad_to_multiple_of": null, "pad_type_id": 0, "pad_token": "[UNK]" },
        "added_tokens": [],
        "normalizer": { "type": "BertNormalizer", "clean_text": true,
                        "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } },
                       { "Sequence": { "id": "A", "type_id": 0 } },
                       { "SpecialToken": { "id": "[SEP]", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } },
                     { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "[CLS]": special(1, "[CLS]"), "[SEP]": special(2, "[SEP]") }
        },
        "decoder": null,
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 100, "vocab": vocab }
    });
    Tokenizer::open(&write(folder, "bert.json", json.to_string())).expect("it is complete")
}

/// A path in the shared data, or `None` with a line that says the test was skipped.
fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")).join(path);
    if !path.exists() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    Some(path)
}
