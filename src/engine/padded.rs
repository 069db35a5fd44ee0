//! The ids of `extract --ids`: the padded grid they come in, and the packed batch that is run.

use std::ops::Range;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::capture::grid::Grid;
use crate::device::forward::{ForwardInput, Limits};
use crate::disk;
use crate::error::{Error, Result};
use crate::model::ModelSpec;

/// A padded batch as `extract --ids` reads it; all `[B, S]`.
#[derive(Clone, Debug, Default)]
pub struct PaddedIds {
    /// Rows B.
    pub rows: usize,
    /// Padded length S.
    pub length: usize,
    /// Token ids.
    pub input_ids: Vec<i64>,
    /// 1 = real token; the real tokens of a row are contiguous.
    pub attention_mask: Vec<i64>,
    /// Token types, where given.
    pub token_type_ids: Option<Vec<i64>>,
    /// Positions, where given.
    pub position_ids: Option<Vec<i64>>,
    /// Targets of the loss, where given; `[B]` for sequence classes.
    pub labels: Option<Vec<i64>>,
}

impl PaddedIds {
    /// Reads the safetensors file of the contract.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = disk::read(path).map_err(Error::io(path, "read"))?;
        let remedy = "give a safetensors file with input_ids and attention_mask, (B, S) int64";
        let refuse = |what: String| Error::input(path, what, remedy);
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| refuse(format!("not a safetensors file: {error}")))?;
        let tensor = |name: &str| -> Result<Option<(Vec<usize>, Vec<i64>)>> {
            let Ok(view) = file.tensor(name) else { return Ok(None) };
            let values = match view.dtype() {
                Dtype::I64 => view.data().chunks_exact(8).map(le_i64).collect(),
                Dtype::I32 => view.data().chunks_exact(4).map(le_i32).collect(),
                other => return Err(refuse(format!("{name} is {other:?}, not int64"))),
            };
            Ok(Some((view.shape().to_vec(), values)))
        };
        let (shape, input_ids) =
            tensor("input_ids")?.ok_or_else(|| refuse("no tensor 'input_ids'".into()))?;
        let [rows, length] = shape[..] else {
            return Err(refuse(format!("input_ids has shape {shape:?}, not (B, S)")));
        };
        let grid = |name: &str| -> Result<Option<Vec<i64>>> {
            match tensor(name)? {
                Some((found, _)) if found != shape => {
                    Err(refuse(format!("{name} has shape {found:?}, input_ids {shape:?}")))
                }
                found => Ok(found.map(|(_, values)| values)),
            }
        };
        let all = vec![1; input_ids.len()];
        let ids = Self {
            rows,
            length,
            attention_mask: grid("attention_mask")?.unwrap_or(all),
            token_type_ids: grid("token_type_ids")?,
            position_ids: grid("position_ids")?,
            labels: tensor("labels")?.map(|(_, values)| values),
            input_ids,
        };
        ids.check(&refuse)?;
        Ok(ids)
    }

    fn check(&self, refuse: &impl Fn(String) -> Error) -> Result<()> {
        if self.rows == 0 || self.length == 0 {
            return Err(refuse("input_ids is empty".into()));
        }
        for (row, mask) in self.attention_mask.chunks_exact(self.length).enumerate() {
            let real = mask.iter().filter(|&&m| m == 1).count();
            let runs = mask.chunk_by(|a, b| a == b).filter(|run| run[0] == 1).count();
            if real == 0 || runs != 1 || mask.iter().any(|m| !(0..=1).contains(m)) {
                let what = format!("row {row} of attention_mask has no single run of ones");
                return Err(refuse(what));
            }
        }
        Ok(())
    }

    /// Flat grid index of every real token, in order.
    pub(super) fn real(&self) -> Vec<usize> {
        let ones = self.attention_mask.iter().enumerate();
        ones.filter(|(_, mask)| **mask == 1).map(|(at, _)| at).collect()
    }

    /// Where its tokens stand.
    pub(super) fn grid(&self) -> Grid {
        let (rows, length) = (self.rows, self.length);
        Grid { rows, length, starts: self.starts(), cells: self.real() }
    }

    /// Cumulative lengths of the rows.
    fn starts(&self) -> Vec<u32> {
        let mut starts = vec![0];
        let mut end = 0;
        for mask in self.attention_mask.chunks_exact(self.length) {
            end += u32::try_from(mask.iter().filter(|&&m| m == 1).count()).expect("checked");
            starts.push(end);
        }
        starts
    }
}

fn le_i64(bytes: &[u8]) -> i64 {
    i64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

fn le_i32(bytes: &[u8]) -> i64 {
    i64::from(i32::from_le_bytes(bytes.try_into().expect("four bytes")))
}

/// The batch without its pads.
pub(super) struct PackedIds {
    pub(super) tokens: Vec<u32>,
    pub(super) starts: Vec<u32>,
    types: Option<Vec<u32>>,
    pub(super) positions: Option<Vec<u32>>,
    longest: usize,
}

impl PackedIds {
    pub(super) fn new(spec: &ModelSpec, ids: &PaddedIds) -> Result<Self> {
        let real = ids.real();
        let pick = |name: &str, values: &[i64], limit: usize| {
            let check = |&at: &usize| {
                let value = values[at];
                u32::try_from(value).ok().filter(|&v| (v as usize) < limit).ok_or_else(|| {
                    let (row, position) = (at / ids.length, at % ids.length);
                    Error::config(
                        format!("{name}, row {row}, position {position}"),
                        format!("{value} is out of range"),
                        format!("values are 0 to {}", limit.saturating_sub(1)),
                    )
                })
            };
            real.iter().map(check).collect::<Result<Vec<u32>>>()
        };
        let limit = spec.max_tokens.unwrap_or(1 << 20);
        let optional = |name: &str, values: &Option<Vec<i64>>, limit: usize| {
            values.as_ref().map(|values| pick(name, values, limit)).transpose()
        };
        let starts = ids.starts();
        let lengths = starts.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
        let longest = lengths.max().unwrap_or(0);
        if longest > limit {
            let what = format!("a row has {longest} tokens, the model takes {limit}");
            return Err(Error::config("input_ids", what, "cut the rows"));
        }
        let types = spec.embedding.token_types;
        Ok(Self {
            tokens: pick("input_ids", &ids.input_ids, spec.vocab)?,
            types: if types > 0 {
                optional("token_type_ids", &ids.token_type_ids, types)?
            } else {
                None
            },
            positions: optional("position_ids", &ids.position_ids, limit)?,
            starts,
            longest,
        })
    }

    pub(super) fn limits(&self) -> Limits {
        let last = self.positions.iter().flatten().max().map_or(0, |&p| p as usize + 1);
        Limits { tokens: self.tokens.len(), sequence: self.longest.max(last) }
    }

    /// Runs of rows that have at most so many tokens, or one row.
    pub(super) fn parts(&self, most: usize) -> Vec<Range<usize>> {
        let mut parts: Vec<Range<usize>> = Vec::new();
        for row in 0..self.starts.len() - 1 {
            let fits = |part: &Range<usize>| {
                (self.starts[row + 1] - self.starts[part.start]) as usize <= most
            };
            match parts.last_mut() {
                Some(part) if fits(part) => part.end = row + 1,
                _ => parts.push(row..row + 1),
            }
        }
        parts
    }

    pub(super) fn part(&self, rows: Range<usize>) -> Part<'_> {
        let starts = &self.starts[rows.start..=rows.end];
        let tokens = starts[0] as usize..starts[starts.len() - 1] as usize;
        Part {
            first: tokens.start,
            starts: starts.iter().map(|start| start - starts[0]).collect(),
            types: self.types.as_ref().map(|types| &types[tokens.clone()]),
            positions: self.positions.as_ref().map(|positions| &positions[tokens.clone()]),
            tokens: &self.tokens[tokens],
        }
    }
}

/// Some rows of a batch.
pub(super) struct Part<'a> {
    /// Tokens before them.
    pub(super) first: usize,
    pub(super) tokens: &'a [u32],
    starts: Vec<u32>,
    types: Option<&'a [u32]>,
    positions: Option<&'a [u32]>,
}

impl Part<'_> {
    pub(super) fn input(&self) -> ForwardInput<'_> {
        ForwardInput {
            tokens: self.tokens,
            starts: &self.starts,
            token_types: self.types,
            positions: self.positions,
        }
    }
}
