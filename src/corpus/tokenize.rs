//! A fast tokenizer (`tokenizer.json`) with its truncation and padding switched off.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::disk;
use crate::error::{Error, Result};

/// Largest `tokenizer.json` that is opened. The largest known (250 k tokens, merges spelled out)
/// have 35 MB.
const MAX_BYTES: u64 = 256 << 20;

/// A text any tokenizer for words can cut, to see whether its offsets are of use.
const PROBE: &str = "The cat sat on 3 mats.";

/// A tokenizer and the special tokens it puts around a sequence.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    hash: String,
    before: Vec<u32>,
    after: Vec<u32>,
}

/// The tokens of a text, without special ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Bytes of the text each stands for.
    pub spans: Vec<Range<usize>>,
}

impl Tokenizer {
    /// Opens a `tokenizer.json`, or the one in a model folder.
    pub fn open(path: &Path) -> Result<Self> {
        let path = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
        let bytes = read(&path)?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        let inner = quietly(|| {
            let mut inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| e.to_string())?;
            inner.with_truncation(None).map_err(|error| error.to_string())?;
            inner.with_padding(None);
            Ok(inner)
        });
        let inner = inner.map_err(|what| {
            let what = format!("not a tokenizer that can be used: {what}");
            Error::input(
                &path,
                what,
                "save it again with the `tokenizers` or `transformers` package",
            )
        })?;
        let mut tokenizer = Self { inner, path, hash, before: Vec::new(), after: Vec::new() };
        tokenizer.probe()?;
        Ok(tokenizer)
    }

    /// Looks at what a short text becomes: which special tokens stand around it, and whether
    /// tokens say where they come from.
    fn probe(&mut self) -> Result<()> {
        let encoding = self.call(PROBE, true)?;
        let special = encoding.get_special_tokens_mask();
        let before = special.iter().take_while(|mask| **mask == 1).count();
        let after = special.iter().rev().take_while(|mask| **mask == 1).count();
        let ids = encoding.get_ids();
        let content = ids.len().saturating_sub(before + after);
        self.before = ids[..before].to_vec();
        self.after = ids[before + content..].to_vec();
        let spans = &encoding.get_offsets()[before..before + content];
        let ordered = spans.windows(2).all(|pair| pair[0].0 <= pair[1].0);
        let reach = spans.last().is_some_and(|span| span.1 == PROBE.len());
        if spans.iter().all(|(start, end)| start >= end) || !ordered || !reach {
            return Err(Error::input(
                &self.path,
                "the tokenizer gives no offsets that lead back to the text",
                "convert it to a fast tokenizer: \
                 AutoTokenizer.from_pretrained(…, use_fast=True).save_pretrained(…)",
            ));
        }
        Ok(())
    }

    /// Puts `id` before every sequence, unless the tokenizer does already.
    #[must_use]
    pub fn with_bos(mut self, id: u32) -> Self {
        if self.before.first() != Some(&id) {
            self.before.insert(0, id);
        }
        self
    }

    /// Special tokens before a sequence.
    pub fn before(&self) -> &[u32] {
        &self.before
    }

    /// Special tokens after a sequence.
    pub fn after(&self) -> &[u32] {
        &self.after
    }

    /// BLAKE3 of the file, in hex: part of a run's identity.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id of a token, by its exact spelling in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The spelling of a token in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The tokens a text may be made of: those with a spelling that are not special, ascending.
    pub fn ordinary(&self) -> Vec<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let special = |id: &u32| added.get(id).is_some_and(|token| token.special);
        let around = |id: &u32| self.before.contains(id) || self.after.contains(id);
        let mut ids: Vec<u32> = self.inner.get_vocab(true).into_values().collect();
        ids.retain(|id| !special(id) && !around(id));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Ids there are, added tokens included.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The text of token ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, false).map_err(|error| {
            Error::input(&self.path, format!("cannot decode: {error}"), "check the token ids")
        })
    }

    /// Tokenises a text, without special tokens.
    pub fn encode(&self, text: &str) -> Result<Encoded> {
        let encoding = self.call(text, false)?;
        let tokens = encoding.get_ids().to_vec();
        let spans = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        Ok(Encoded { tokens, spans })
    }

    /// The tokenizer's own call; it panics on some inputs of some made-up tokenizers.
    fn call(&self, text: &str, special: bool) -> Result<tokenizers::Encoding> {
        let encoding = catch_unwind(AssertUnwindSafe(|| self.inner.encode(text, special)));
        let encoding = match encoding {
            Ok(encoding) => encoding.map_err(|error| error.to_string()),
            Err(_) => Err("it panicked".to_owned()),
        };
        encoding.map_err(|what| {
            let beginning: String = text.chars().take(40).collect();
            let what = format!("cannot tokenise the text that begins with {beginning:?}: {what}");
            Error::input(&self.path, what, "check that the tokenizer is the model's own")
        })
    }
}

/// The file's bytes, if there are not too many of them.
fn read(path: &Path) -> Result<Vec<u8>> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let slow =
        ["vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"];
    if !path.exists()
        && let Some(found) = slow.iter().find(|name| folder.join(name).exists())
    {
        return Err(Error::input(
            path,
            format!("missing: the folder has a slow tokenizer only ({found})"),
            "convert it once: python -c \"from transformers import AutoTokenizer as T; \
             T.from_pretrained('FOLDER').save_pretrained('FOLDER')\"",
        ));
    }
    let size = std::fs::metadata(path).map_err(Error::io(path, "read"))?.len();
    if size > MAX_BYTES {
        let what = format!("{size} bytes, more than a tokenizer has ({MAX_BYTES})");
        return Err(Error::input(path, what, "check that it is a tokenizer.json"));
    }
    disk::read(path).map_err(Error::io(path, "read"))
}

/// Runs what may panic on hostile files (tokenizers issue 2094), without a message on stderr.
fn quietly<T>(
    run: impl FnOnce() -> std::result::Result<T, String>,
) -> std::result::Result<T, String> {
    static HOOK: Mutex<()> = Mutex::new(());
    let guard = HOOK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(run));
    set_hook(hook);
    drop(guard);
    result.unwrap_or_else(|_| Err("reading it panics".to_owned()))
}
