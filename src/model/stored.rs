//! A checkpoint as it is stored, for those who write another one: every tensor with its bytes,
//! where each weight is kept, and the keys of `config.json` that count blocks and neurons.

use std::path::Path;

use super::header::{Entry, Header};
use super::mapped::Mapped;
use super::open::Model;
use super::spec::Param;
use super::weights::{data_of, open_file};
use crate::error::{Error, Result};

/// One tensor of a checkpoint, as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct StoredTensor<'a> {
    /// Its name in the checkpoint.
    pub name: &'a str,
    /// `F32`, `BF16`, …
    pub dtype: &'a str,
    /// Its shape as stored.
    pub shape: &'a [u64],
    /// Its bytes, row-major.
    pub bytes: &'a [u8],
}

/// Where a weight is kept that is one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPlace {
    /// The tensor's name.
    pub name: String,
    /// A matrix is stored `[in, out]`, not `[out, in]`.
    pub transposed: bool,
}

/// The tensors of any safetensors file, mapped: its header is checked as a checkpoint's is.
pub struct MappedTensors {
    mapped: Mapped,
    header: Header,
}

impl MappedTensors {
    /// Maps a file.
    pub fn open(path: &Path) -> Result<Self> {
        let (mapped, header) = open_file(path)?;
        Ok(Self { mapped, header })
    }

    /// A tensor, if the file has it.
    pub fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let (name, entry) = self.header.tensors.get_key_value(name)?;
        Some(stored(&self.mapped, &self.header, (name, entry)))
    }
}

/// One tensor of a mapped file.
pub(super) fn stored<'a>(
    mapped: &'a Mapped,
    header: &'a Header,
    (name, entry): (&'a String, &'a Entry),
) -> StoredTensor<'a> {
    let bytes = data_of(mapped, header, entry);
    StoredTensor { name, dtype: &entry.dtype, shape: &entry.shape, bytes }
}

impl StoredPlace {
    /// The axis, as stored, that runs over the outputs of a matrix. Vectors have one axis.
    pub fn output_axis(&self, dimensions: usize) -> usize {
        usize::from(self.transposed && dimensions == 2)
    }

    /// The axis, as stored, that runs over the inputs of a matrix.
    pub fn input_axis(&self) -> usize {
        usize::from(!self.transposed)
    }
}

impl Model {
    /// Every tensor of the checkpoint, those that are not run included, in the order of the files.
    pub fn stored_tensors(&self) -> Vec<StoredTensor<'_>> {
        self.weights.stored_tensors()
    }

    /// Where a weight is kept. A tied head is not kept anywhere of its own, and is an error like any
    /// weight that the model does not have.
    pub fn stored_place(&self, param: Param) -> Result<StoredPlace> {
        if param == Param::Head && self.head_is_tied() {
            let what = "the head is the token table".to_owned();
            return Err(Error::Contradiction { what });
        }
        let located = self.locate(param)?;
        match (located.keys(), located.transposed()) {
            ([name], Some(transposed)) => Ok(StoredPlace { name: name.clone(), transposed }),
            (keys, _) => {
                let what = format!("{param:?} is put together from {}", keys.join(", "));
                Err(Error::Contradiction { what })
            }
        }
    }

    /// What the head's last matrix is called where it is not tied, whether or not it is there.
    pub fn head_name(&self) -> Option<String> {
        let (at, prefix) = self.architecture.at(Param::Head, &self.spec.head, self.prefix)?;
        at.names().next().map(|name| format!("{prefix}{name}.weight"))
    }

    /// What the names of a block's tensors begin with, before its number.
    pub fn block_prefix(&self) -> String {
        format!("{}{}", self.prefix, self.architecture.block)
    }

    /// The configuration that the model was opened with.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// Keys of the configuration for the number of blocks, the usual one first.
    pub fn layer_keys(&self) -> &'static [&'static str] {
        self.architecture.layers
    }

    /// Keys of the configuration for the neurons of a block; none where the architecture fixes it.
    pub fn mlp_width_keys(&self) -> &'static [&'static str] {
        self.architecture.mlp_width
    }

    /// For checkpoints with a part that shares the configuration and is not run here (T5's
    /// decoder): the key of its number of blocks.
    pub fn beside(&self) -> Option<&'static str> {
        let beside = self.architecture.beside?;
        let there = |tensor: &StoredTensor<'_>| tensor.name.starts_with(beside.prefix);
        self.stored_tensors().iter().any(there).then_some(beside.layers)
    }
}
