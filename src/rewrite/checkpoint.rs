//! A checkpoint that is about to be written: the tensors of another one with the changes asked for,
//! and its configuration. Tensors are read, changed and written one at a time; those without a
//! change go from the mapped file to the new one as they are.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::tensor::{Step, Tensor, shape_after};
use super::writer::{Piece, write_pieces};
use crate::artifact::atomic::{write_bytes_atomic, write_folder_atomic};
use crate::disk;
use crate::error::{Error, Result};
use crate::model::stored::{StoredPlace, StoredTensor};
use crate::model::{Model, Param};

/// What says in the new folder how it came about: a list of edits, the last one last.
pub const HISTORY: &str = "electrode-edit.json";
/// Value of `format` in it.
const FORMAT: &str = "electrode.edit/1";
/// Bytes of tensors from which on a checkpoint is cut into several files, as the Hub's are.
pub const SHARD_BYTES: u64 = 5_000_000_000;
/// A history larger than this is not one.
const MAX_HISTORY: u64 = 10 << 20;

/// Files beside the weights that hold for the new checkpoint too.
const COPIED: [&str; 14] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "generation_config.json",
    "LICENSE",
    "LICENSE.txt",
];

/// See the module.
pub struct Rewrite<'a> {
    model: &'a Model,
    tensors: Vec<Output<'a>>,
    /// Place in `tensors` by the name in the original.
    by_name: HashMap<&'a str, usize>,
    config: Map<String, Value>,
    /// What was asked, for the history.
    edit: Value,
}

/// A tensor of the new checkpoint.
pub(super) struct Output<'a> {
    /// Its name there.
    pub(super) name: String,
    /// `None`: it is left out.
    pub(super) kept: bool,
    pub(super) source: StoredTensor<'a>,
    pub(super) steps: Vec<Step>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Tensors.
    pub tensors: usize,
    /// Those of them whose values or shape differ from the original's.
    pub changed: usize,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Files of weights.
    pub files: usize,
}

impl<'a> Rewrite<'a> {
    /// All of `model`, unchanged so far. `edit` is kept in the new folder's history.
    pub fn new(model: &'a Model, edit: Value) -> Result<Self> {
        let path = model.config_path();
        let text = disk::read(path).map_err(Error::io(path, "read"))?;
        let config = serde_json::from_slice(&text).map_err(|error| {
            Error::config(
                path.display().to_string(),
                format!("not JSON: {error}"),
                "fetch it again",
            )
        })?;
        let output = |source: StoredTensor<'a>| {
            let name = source.name.to_owned();
            Output { name, kept: true, source, steps: Vec::new() }
        };
        let tensors: Vec<_> = model.stored_tensors().into_iter().map(output).collect();
        let by_name = tensors.iter().enumerate().map(|(at, one)| (one.source.name, at)).collect();
        Ok(Self { model, tensors, by_name, config, edit })
    }

    pub(super) fn model(&self) -> &'a Model {
        self.model
    }

    pub(super) fn tensors_mut(&mut self) -> &mut [Output<'a>] {
        &mut self.tensors
    }

    /// A copy of a weight as it is stored, and where.
    pub(super) fn original(&self, param: Param) -> Result<(StoredPlace, Tensor)> {
        let place = self.model.stored_place(param)?;
        let at = self.at(&place.name)?;
        Ok((place, Tensor::of(&self.tensors[at].source)?))
    }

    /// Adds a change of the tensor that holds a weight; `step` is made for where it is stored.
    pub(super) fn change(
        &mut self,
        param: Param,
        step: impl FnOnce(&StoredPlace, usize) -> Step,
    ) -> Result<()> {
        let place = self.model.stored_place(param)?;
        self.change_at(&place, step)
    }

    /// As [`Self::change`], of a tensor that may be a part of a weight.
    pub(super) fn change_at(
        &mut self,
        place: &StoredPlace,
        step: impl FnOnce(&StoredPlace, usize) -> Step,
    ) -> Result<()> {
        let at = self.at(&place.name)?;
        let output = &mut self.tensors[at];
        output.steps.push(step(place, output.source.shape.len()));
        Ok(())
    }

    fn at(&self, name: &str) -> Result<usize> {
        self.by_name.get(name).copied().ok_or_else(|| Error::Contradiction {
            what: format!("tensor '{name}' was there when the checkpoint was opened"),
        })
    }

    /// A copy of a tensor under a second name.
    pub(super) fn copy_of(&mut self, param: Param, name: &str) -> Result<()> {
        let place = self.model.stored_place(param)?;
        let source = self.tensors[self.at(&place.name)?].source;
        self.tensors.push(Output { name: name.to_owned(), kept: true, source, steps: Vec::new() });
        Ok(())
    }

    /// A value of the configuration that is there and not `null`.
    pub(super) fn setting(&self, key: &str) -> Option<&Value> {
        self.config.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.config.insert(key.to_owned(), value.into());
    }

    /// Sets a number that the configuration may have under several names: all that are there, or
    /// else the usual one.
    pub(super) fn set_count(&mut self, keys: &[&str], count: usize) {
        let there: Vec<&str> =
            keys.iter().copied().filter(|key| self.setting(key).is_some()).collect();
        for key in if there.is_empty() { &keys[..1] } else { &there[..] } {
            self.set(key, count);
        }
    }

    /// Writes the new checkpoint to `out`, which must not exist yet, in files of at most
    /// `shard_bytes`. The folder appears whole or not at all, and only if it opens as a model.
    pub fn write(self, out: &Path, shard_bytes: u64) -> Result<Written> {
        self.check_outside(out)?;
        let history = self.history()?;
        write_folder_atomic(out, |folder| {
            let pieces: Vec<Piece<'_>> =
                self.tensors.iter().filter(|one| one.kept).map(Output::piece).collect();
            let written = write_pieces(folder, &pieces, shard_bytes)?;
            let config = folder.join("config.json");
            write_bytes_atomic(&config, &pretty(&Value::Object(self.config.clone())))?;
            for name in COPIED {
                let from = self.model.folder.join(name);
                if from.is_file() {
                    let bytes = disk::read(&from).map_err(Error::io(&from, "read"))?;
                    write_bytes_atomic(&folder.join(name), &bytes)?;
                }
            }
            write_bytes_atomic(&folder.join(HISTORY), &pretty(&history))?;
            self.model.check_unchanged()?;
            Model::open_with_config(folder, &config).map_err(|error| Error::Contradiction {
                what: format!("the new checkpoint does not open as a model: {error}"),
            })?;
            Ok(written)
        })
    }

    /// The original's folder stays as it is, so nothing is put into it either.
    fn check_outside(&self, out: &Path) -> Result<()> {
        let home = self.model.folder.canonicalize();
        let beside = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.canonicalize(),
            _ => Path::new(".").canonicalize(),
        };
        match (home, beside) {
            (Ok(home), Ok(beside)) if beside.starts_with(&home) => Err(Error::config(
                out.display().to_string(),
                "lies inside the model's own folder, which is never touched",
                "give a folder elsewhere",
            )),
            _ => Ok(()),
        }
    }

    /// The original's history and this edit.
    fn history(&self) -> Result<Value> {
        let path = self.model.folder.join(HISTORY);
        let mut edits = match fs::metadata(&path) {
            Ok(found) if found.is_file() && found.len() <= MAX_HISTORY => {
                let text = disk::read(&path).map_err(Error::io(&path, "read"))?;
                let old: Value = serde_json::from_slice(&text).unwrap_or_default();
                old["edits"].as_array().cloned().unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let file = |(name, bytes, sha256): (String, u64, String)| json!({"name": name, "bytes": bytes, "sha256": sha256});
        let files: Vec<Value> = self.model.hashes()?.into_iter().map(file).collect();
        edits.push(json!({
            "edit": self.edit,
            "model": self.model.folder,
            "files": files,
            "electrode": env!("CARGO_PKG_VERSION"),
        }));
        Ok(json!({"format": FORMAT, "edits": edits}))
    }
}

impl Output<'_> {
    fn piece(&self) -> Piece<'_> {
        let size = |&n: &u64| usize::try_from(n).expect("it is mapped");
        let shape: Vec<usize> = self.source.shape.iter().map(size).collect();
        Piece {
            name: &self.name,
            dtype: self.source.dtype,
            shape: shape_after(&shape, &self.steps),
            source: self.source,
            steps: &self.steps,
        }
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
