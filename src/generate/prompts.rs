//! Prompts from text to tokens, and continuations from tokens to text.

use std::path::PathBuf;

use crate::corpus::tokenize::Tokenizer;
use crate::error::{Error, Result};
use crate::model::ModelSpec;
use crate::stimulate::read;

/// Key of the prompt in a file that names none.
const KEY: &str = "prompt";

/// A prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// As it was given.
    pub text: String,
    /// Special tokens before it included.
    pub tokens: Vec<u32>,
}

/// The prompts given as they are, then those of files, which are `FILE.jsonl` or `FILE.jsonl:KEY`.
pub fn read_prompts(
    given: &[String],
    files: &[String],
    (spec, tokenizer): (&ModelSpec, &Tokenizer),
) -> Result<Vec<Prompt>> {
    let mut prompts = Vec::new();
    for (number, text) in given.iter().enumerate() {
        let place = format!("prompt {}", number + 1);
        let error = |what: String, remedy: String| Error::config(place.clone(), what, remedy);
        prompts.push(prompt(text, (spec, tokenizer), &error)?);
    }
    for file in files {
        let (path, key) = file_and_key(file);
        for (line, text) in read::texts(&path, key)? {
            let error = |what: String, remedy: String| {
                Error::input(&path, format!("line {line}: {what}"), remedy)
            };
            prompts.push(prompt(&text, (spec, tokenizer), &error)?);
        }
    }
    if prompts.is_empty() {
        let remedy = "give --prompt TEXT, or --prompts FILE.jsonl with a line for each";
        return Err(Error::config("prompts", "there is none", remedy));
    }
    Ok(prompts)
}

/// A path that is there has no key, whatever its name.
pub fn file_and_key(text: &str) -> (PathBuf, &str) {
    let whole = PathBuf::from(text);
    match text.rsplit_once(':') {
        Some((path, key)) if !whole.exists() && !key.is_empty() && !key.contains('/') => {
            (PathBuf::from(path), key)
        }
        _ => (whole, KEY),
    }
}

fn prompt(
    text: &str,
    (spec, tokenizer): (&ModelSpec, &Tokenizer),
    error: &dyn Fn(String, String) -> Error,
) -> Result<Prompt> {
    let mut tokens = tokenizer.before().to_vec();
    tokens.extend(tokenizer.encode(text)?.tokens);
    if tokens.is_empty() {
        let remedy = "write some text, or begin with the model's BOS by --add-bos";
        return Err(error("it has no token".into(), remedy.into()));
    }
    if let Some(id) = tokens.iter().find(|&&id| id as usize >= spec.vocab) {
        let what = format!("token id {id}, but the model's table has {} rows", spec.vocab);
        return Err(error(what, "use the tokenizer of this model".into()));
    }
    Ok(Prompt { text: text.to_owned(), tokens })
}

/// What was generated, as text: what it adds to its prompt, without tokens that end it.
pub fn continuation_text(
    tokenizer: &Tokenizer,
    (prompt, tokens): (&[u32], &[u32]),
    ends: &[u32],
) -> Result<String> {
    let kept = tokens.iter().rposition(|token| !ends.contains(token)).map_or(0, |at| at + 1);
    // Some tokenizers drop the blank before the first token of all: the prompt goes along.
    let before = tokenizer.decode(prompt)?;
    let whole = tokenizer.decode(&[prompt, &tokens[..kept]].concat())?;
    match whole.strip_prefix(&before) {
        Some(text) => Ok(text.to_owned()),
        // A character that the prompt's last token began.
        None => tokenizer.decode(&tokens[..kept]),
    }
}
