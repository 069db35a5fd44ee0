//! Activations that `electrode extract --corpus` wrote: `layers.{i}.mlp_act`, or another kind of site, a
//! row for each word or token.

use std::path::{Path, PathBuf};

use super::tensor::Dtype;
use crate::error::{Error, Result};
use crate::id::SiteKind;
use crate::model::stored::MappedTensors;

/// A safetensors file, mapped.
pub struct Activations {
    file: MappedTensors,
    path: PathBuf,
    kind: SiteKind,
}

/// One layer's activations.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Words or tokens.
    pub rows: usize,
    /// Neurons, or the columns of all heads.
    pub columns: usize,
    /// Row-major.
    pub values: Vec<f64>,
}

impl Activations {
    /// Maps a file with the neurons of MLPs.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of_kind(path, SiteKind::MlpAct)
    }

    /// Maps a file with a kind of site that has a row for each token.
    pub fn of_kind(path: &Path, kind: SiteKind) -> Result<Self> {
        Ok(Self { file: MappedTensors::open(path)?, path: path.to_path_buf(), kind })
    }

    fn name(&self, layer: usize) -> String {
        format!("layers.{layer}.{}", self.kind.name())
    }

    /// Whether the file has a layer.
    pub fn has(&self, layer: usize) -> bool {
        self.file.tensor(&self.name(layer)).is_some()
    }

    /// The activations of a layer, whose site has `width` columns.
    pub fn layer(&self, layer: usize, width: usize) -> Result<Matrix> {
        let name = self.name(layer);
        let wrong = |what: String| {
            let kind = self.kind.name();
            let remedy = format!("extract again with --corpus FILE --sites 'layers.*.{kind}'");
            Error::input(&self.path, format!("tensor '{name}' {what}"), remedy)
        };
        let tensor = self.file.tensor(&name).ok_or_else(|| wrong("is not there".to_owned()))?;
        let (rows, columns) = match tensor.shape {
            &[rows, columns] => (usize::try_from(rows), usize::try_from(columns)),
            other => return Err(wrong(format!("has shape {other:?}, not (rows, columns)"))),
        };
        let (Ok(rows), Ok(columns)) = (rows, columns) else {
            return Err(wrong("is too large".to_owned()));
        };
        if rows == 0 || columns != width {
            let what = format!("has {rows} rows of {columns} columns, a layer has {width}");
            return Err(wrong(what));
        }
        let dtype = Dtype::parse(tensor.dtype)
            .ok_or_else(|| wrong(format!("is of type {}", tensor.dtype)))?;
        let values = dtype.decode(tensor.bytes);
        if values.iter().any(|value| !value.is_finite()) {
            return Err(wrong("has values that are not finite".to_owned()));
        }
        Ok(Matrix { rows, columns, values })
    }
}
