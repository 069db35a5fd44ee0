//! Writes tensors as one safetensors file, or as several with an index.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::checkpoint::Written;
use super::tensor::{Step, Tensor};
use crate::artifact::atomic::{write_atomic, write_bytes_atomic};
use crate::error::{Error, Result};
use crate::model::stored::StoredTensor;

/// One tensor to be written.
pub(super) struct Piece<'a> {
    pub(super) name: &'a str,
    pub(super) dtype: &'a str,
    /// After the steps.
    pub(super) shape: Vec<usize>,
    pub(super) source: StoredTensor<'a>,
    pub(super) steps: &'a [Step],
}

impl Piece<'_> {
    /// Its size in the new file; the type of each value is that of the original.
    fn bytes(&self) -> u64 {
        let old: u64 = self.source.shape.iter().product();
        let new: u64 = self.shape.iter().map(|&n| n as u64).product();
        (self.source.bytes.len() as u64 / old.max(1)) * new
    }

    fn write(&self, writer: &mut impl Write, path: &Path) -> Result<()> {
        let write = |writer: &mut dyn Write, bytes: &[u8]| {
            writer.write_all(bytes).map_err(Error::io(path, "write"))
        };
        if self.steps.is_empty() {
            return write(writer, self.source.bytes);
        }
        let mut tensor = Tensor::of(&self.source)?;
        for step in self.steps {
            tensor.apply(step)?;
        }
        assert_eq!(tensor.bytes.len() as u64, self.bytes(), "{}", self.name);
        write(writer, &tensor.bytes)
    }

    fn changes(&self) -> bool {
        !self.steps.is_empty()
    }
}

/// Writes all pieces into `folder`, no file of more than `limit` bytes unless one tensor has more.
pub(super) fn write_pieces(folder: &Path, pieces: &[Piece<'_>], limit: u64) -> Result<Written> {
    let total: u64 = pieces.iter().map(Piece::bytes).sum();
    let written = |files| Written {
        tensors: pieces.len(),
        changed: pieces.iter().filter(|piece| piece.changes()).count(),
        bytes: total,
        files,
    };
    let shards = shards(pieces, limit);
    if let [all] = &shards[..] {
        write_file(&folder.join("model.safetensors"), all)?;
        return Ok(written(1));
    }
    let mut map = BTreeMap::new();
    for (number, shard) in (1..).zip(&shards) {
        let name = format!("model-{number:05}-of-{:05}.safetensors", shards.len());
        write_file(&folder.join(&name), shard)?;
        map.extend(shard.iter().map(|piece| (piece.name, name.clone())));
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    let path = folder.join("model.safetensors.index.json");
    write_bytes_atomic(&path, format!("{index:#}\n").as_bytes())?;
    Ok(written(shards.len()))
}

/// Pieces in order, as many in each file as fit; at least one file.
fn shards<'p, 'a>(pieces: &'p [Piece<'a>], limit: u64) -> Vec<Vec<&'p Piece<'a>>> {
    let mut shards = vec![Vec::new()];
    let mut held = 0;
    for piece in pieces {
        let bytes = piece.bytes();
        if held > 0 && held + bytes > limit {
            shards.push(Vec::new());
            held = 0;
        }
        held += bytes;
        shards.last_mut().expect("there is one").push(piece);
    }
    shards
}

/// Wider types first, so that every tensor begins at a multiple of its width.
fn write_file(path: &Path, pieces: &[&Piece<'_>]) -> Result<()> {
    let mut pieces = pieces.to_vec();
    let width = |piece: &&Piece<'_>| {
        let count: u64 = piece.source.shape.iter().product();
        std::cmp::Reverse(piece.source.bytes.len() as u64 / count.max(1))
    };
    pieces.sort_by_key(width);
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut end = 0;
    for piece in &pieces {
        let start = end;
        end += piece.bytes();
        let entry = json!({
            "dtype": piece.dtype, "shape": piece.shape, "data_offsets": [start, end]
        });
        header.insert(piece.name.to_owned(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    write_atomic(path, |writer| {
        let length = (header.len() as u64).to_le_bytes();
        writer.write_all(&length).map_err(Error::io(path, "write"))?;
        writer.write_all(&header).map_err(Error::io(path, "write"))?;
        pieces.iter().try_for_each(|piece| piece.write(writer, path))
    })
}
