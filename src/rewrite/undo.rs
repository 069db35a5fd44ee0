//! What an edit of columns takes to be undone: a safetensors file with, for each layer, the numbers
//! of the neurons (`layers.3.neurons`, int64), and their columns before and after the edit
//! (`layers.3.before`, `layers.3.after`, `[neurons, D]`, in the type of the checkpoint).

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype as Stored, SafeTensors};
use serde_json::json;

use super::checkpoint::Rewrite;
use super::neurons::{Neurons, check, columns, put_columns};
use super::tensor::Dtype;
use crate::artifact::atomic::write_bytes_atomic;
use crate::disk;
use crate::error::{Error, Result};
use crate::model::Model;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Undo {
    pub(super) layers: Vec<UndoLayer>,
}

/// The columns of one layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct UndoLayer {
    pub(super) layer: usize,
    pub(super) dtype: Dtype,
    /// Neuron, its column before, its column after.
    pub(super) columns: Vec<(usize, Vec<u8>, Vec<u8>)>,
}

impl Undo {
    /// Writes the file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut tensors: Vec<(String, Stored, Vec<usize>, Vec<u8>)> = Vec::new();
        for UndoLayer { layer, dtype, columns } in &self.layers {
            let count = columns.len();
            let numbers = columns.iter().flat_map(|(neuron, ..)| (*neuron as u64).to_le_bytes());
            let before: Vec<u8> = columns.iter().flat_map(|(_, b, _)| b).copied().collect();
            let after: Vec<u8> = columns.iter().flat_map(|(.., a)| a).copied().collect();
            let width = before.len() / dtype.bytes() / count.max(1);
            let name = |what: &str| format!("layers.{layer}.{what}");
            let kind = stored(*dtype);
            tensors.push((name("neurons"), Stored::I64, vec![count], numbers.collect()));
            tensors.push((name("before"), kind, vec![count, width], before));
            tensors.push((name("after"), kind, vec![count, width], after));
        }
        let views = tensors.iter().map(|(name, kind, shape, bytes)| {
            let view = TensorView::new(*kind, shape.clone(), bytes);
            (name.as_str(), view.expect("sizes were made to agree"))
        });
        let bytes = safetensors::serialize(views, None).map_err(|error| Error::Contradiction {
            what: format!("cannot write the columns: {error}"),
        })?;
        write_bytes_atomic(path, &bytes)
    }

    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |what: String| {
            Error::input(path, what, "give a file that `electrode edit --undo-file` wrote")
        };
        let bytes = disk::read(path).map_err(Error::io(path, "read"))?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| wrong(format!("not a safetensors file, or damaged: {error}")))?;
        let mut layers = BTreeMap::new();
        for name in file.names() {
            let layer = name.strip_prefix("layers.").and_then(|rest| rest.strip_suffix(".neurons"));
            if let Some(layer) = layer {
                let number = layer
                    .parse::<usize>()
                    .map_err(|_| wrong(format!("tensor '{name}' names no layer")))?;
                layers.insert(number, UndoLayer::read(&file, number).map_err(wrong)?);
            }
        }
        match layers.is_empty() {
            true => Err(wrong("it holds no columns".to_owned())),
            false => Ok(Self { layers: layers.into_values().collect() }),
        }
    }

    /// The checkpoint with its columns as they were. They must be those that the edit left.
    pub fn restore<'a>(&self, model: &'a Model) -> Result<Rewrite<'a>> {
        let neurons: Neurons = self.layers.iter().map(UndoLayer::neurons).collect();
        check(model, &neurons)?;
        let mut rewrite = Rewrite::new(model, json!({"undo": neurons}))?;
        for UndoLayer { layer, dtype, columns: saved } in &self.layers {
            let now = columns(&rewrite, *layer, saved.iter().map(|(neuron, ..)| *neuron))?;
            let same = now.of.iter().zip(saved).all(|(now, saved)| now.1 == saved.2);
            if now.dtype != *dtype || !same {
                let what =
                    format!("the columns of layer {layer} are not those that the edit wrote");
                let remedy = "give the checkpoint that was written together with the --undo-file";
                return Err(Error::input(&model.folder, what, remedy));
            }
            let before = saved.iter().map(|(neuron, before, _)| (*neuron, before.clone()));
            put_columns(&mut rewrite, *layer, before.collect())?;
        }
        Ok(rewrite)
    }
}

impl UndoLayer {
    fn neurons(&self) -> (usize, std::collections::BTreeSet<usize>) {
        (self.layer, self.columns.iter().map(|(neuron, ..)| *neuron).collect())
    }

    fn read(file: &SafeTensors<'_>, layer: usize) -> std::result::Result<Self, String> {
        let tensor = |what: &str| {
            let name = format!("layers.{layer}.{what}");
            file.tensor(&name).map_err(|_| format!("no tensor '{name}'"))
        };
        let (numbers, before, after) = (tensor("neurons")?, tensor("before")?, tensor("after")?);
        let dtype = [Dtype::F32, Dtype::F16, Dtype::Bf16]
            .into_iter()
            .find(|dtype| stored(*dtype) == before.dtype())
            .ok_or_else(|| format!("columns of type {:?}", before.dtype()))?;
        let numbers: Vec<usize> = match numbers.dtype() {
            Stored::I64 => numbers.data().as_chunks::<8>().0.iter(),
            other => return Err(format!("neurons of type {other:?}")),
        }
        .map(|&bytes| usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX))
        .collect();
        let [rows, width] = *before.shape() else { return Err("columns in no matrix".to_owned()) };
        let same = (after.shape(), after.dtype()) == (before.shape(), before.dtype());
        if !same || rows != numbers.len() || rows == 0 || width == 0 {
            return Err(format!("the tensors of layer {layer} do not fit together"));
        }
        let length = width * dtype.bytes();
        let pairs = before.data().chunks_exact(length).zip(after.data().chunks_exact(length));
        let columns = numbers.into_iter().zip(pairs);
        let columns = columns.map(|(neuron, (b, a))| (neuron, b.to_vec(), a.to_vec())).collect();
        Ok(Self { layer, dtype, columns })
    }
}

fn stored(dtype: Dtype) -> Stored {
    match dtype {
        Dtype::F32 => Stored::F32,
        Dtype::F16 => Stored::F16,
        Dtype::Bf16 => Stored::BF16,
    }
}
