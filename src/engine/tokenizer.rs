//! The tokenizer of a model, as a corpus wants it.

use crate::corpus::tokenize::Tokenizer;
use crate::error::{Error, Result};
use crate::model::Model;

/// Opens the model's tokenizer; with `add_bos`, each sequence begins with the model's BOS id.
pub fn open_tokenizer(model: &Model, add_bos: bool) -> Result<Tokenizer> {
    let tokenizer = Tokenizer::open(&model.tokenizer_path()?)?;
    if !add_bos {
        return Ok(tokenizer);
    }
    match model.spec.bos {
        Some(bos) => Ok(tokenizer.with_bos(bos)),
        None => Err(Error::config(
            "corpus.add_bos",
            "the model's config.json names no bos_token_id",
            "leave add_bos out",
        )),
    }
}
