//! Values of another run, from a file that `extract --ids` wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::grid::Grid;
use crate::disk;
use crate::error::{Error, Result};

/// Files that were read, each once.
#[derive(Default)]
pub(super) struct Patches {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

/// What is taken from a tensor.
pub(super) struct Wanted<'a> {
    pub(super) grid: &'a Grid,
    /// Width of the site, and which of its columns.
    pub(super) width: usize,
    pub(super) columns: Option<&'a [u32]>,
    /// Rows of the site: tokens, or sequences where it has a row for each.
    pub(super) rows: &'a [u32],
    pub(super) per_sequence: bool,
}

impl Patches {
    /// The values of the wanted rows and columns, row-major.
    pub(super) fn values(
        &mut self,
        (file, tensor): (&Path, &str),
        wanted: &Wanted<'_>,
    ) -> Result<Vec<f32>> {
        let refuse = |what: String, remedy: &str| Err(Error::input(file, what, remedy));
        if !self.files.contains_key(file) {
            let bytes = disk::read(file).map_err(Error::io(file, "read"))?;
            self.files.insert(file.to_path_buf(), bytes);
        }
        let read = match SafeTensors::deserialize(&self.files[file]) {
            Ok(read) => read,
            Err(error) => {
                return refuse(format!("not a safetensors file: {error}"), "write it with extract");
            }
        };
        let Ok(view) = read.tensor(tensor) else {
            let names = read.names().join(", ");
            return refuse(format!("no tensor '{tensor}'"), &format!("it has {names}"));
        };
        if view.dtype() != Dtype::F32 {
            return refuse(
                format!("'{tensor}' is {:?}", view.dtype()),
                "give float32, as extract does",
            );
        }
        let Grid { rows, length, .. } = *wanted.grid;
        let outer = if wanted.per_sequence { vec![rows] } else { vec![rows, length] };
        let shape = view.shape();
        let inner = shape.iter().skip(outer.len()).product::<usize>();
        if !shape.starts_with(&outer) || inner != wanted.width {
            let expected = [&outer[..], &[wanted.width]].concat();
            let what = format!("'{tensor}' has shape {shape:?}, this batch needs {expected:?}");
            return refuse(what, "extract it from ids of the same shape, at the same site");
        }
        let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let values: Vec<f32> = view.data().chunks_exact(4).map(number).collect();
        let mut taken = Vec::new();
        for &row in wanted.rows {
            let row = row as usize;
            let cell = if wanted.per_sequence { row } else { wanted.grid.cells[row] };
            let from = &values[cell * wanted.width..][..wanted.width];
            match wanted.columns {
                None => taken.extend_from_slice(from),
                Some(columns) => taken.extend(columns.iter().map(|&at| from[at as usize])),
            }
            let count = wanted.columns.map_or(wanted.width, <[u32]>::len);
            let new = &taken[taken.len() - count..];
            if let Some(at) = new.iter().position(|x| !x.is_finite()) {
                let neuron = wanted.columns.map_or(at, |columns| columns[at] as usize);
                let place = match wanted.per_sequence {
                    true => format!("row {row}"),
                    false => format!("row {}, position {}", cell / length, cell % length),
                };
                let what = format!("'{tensor}' is {} at {place}, neuron {neuron}", new[at]);
                return refuse(what, "look for what went wrong in the run that wrote it");
            }
        }
        Ok(taken)
    }
}
