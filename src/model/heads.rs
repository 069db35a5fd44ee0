//! Where a checkpoint keeps the weights of each attention head: the rows of `Qkv`, which may be one
//! tensor, three, or one that goes head by head.

use super::open::Model;
use super::spec::{LayerParam, Param};
use super::stored::StoredPlace;
use crate::error::Result;

/// Keys of `config.json` for the attention heads of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadKeys {
    /// Query heads.
    pub heads: &'static str,
    /// Key and value heads.
    pub kv_heads: &'static str,
    /// Width of a head.
    pub width: &'static str,
}

/// What a head's rows of `Qkv` make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadPart {
    /// Of a query head, 0..H.
    Query,
    /// Of a key head, 0..K.
    Key,
    /// Of a value head, 0..K.
    Value,
}

/// The rows of one head: `head_width` of them from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadRows {
    /// What they make.
    pub part: HeadPart,
    /// Which head of that kind.
    pub head: usize,
    /// The first row, counted along the outputs of the stored tensor.
    pub first: usize,
}

/// A stored tensor with rows of heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHeads {
    /// Where it is.
    pub place: StoredPlace,
    /// All of its rows, head by head.
    pub rows: Vec<HeadRows>,
}

impl Model {
    /// The tensors that hold the queries, keys and values of a layer, or their biases.
    pub fn stored_heads(&self, layer: usize, bias: bool) -> Result<Vec<StoredHeads>> {
        use HeadPart::{Key, Query, Value};
        let param = if bias { LayerParam::QkvBias } else { LayerParam::Qkv };
        let located = self.locate(Param::Layer(layer, param))?;
        let attention = &self.spec.attention;
        let (heads, kv, width) = (attention.heads, attention.kv_heads, attention.head_width);
        let parts = [(Query, heads), (Key, kv), (Value, kv)];
        let from = |start: usize, (part, count): (HeadPart, usize)| {
            (0..count).map(move |head| HeadRows { part, head, first: start + head * width })
        };
        let rows: Vec<Vec<HeadRows>> = if located.by_head() {
            let one = |at: usize, part: HeadPart| {
                (0..heads).map(move |head| (part, head, (3 * head + at) * width))
            };
            let all = (0..).zip([Query, Key, Value]).flat_map(|(at, part)| one(at, part));
            vec![all.map(|(part, head, first)| HeadRows { part, head, first }).collect()]
        } else if located.keys().len() == parts.len() {
            parts.map(|part| from(0, part).collect()).into()
        } else {
            let starts = [0, heads * width, (heads + kv) * width];
            vec![
                starts.into_iter().zip(parts).flat_map(|(start, part)| from(start, part)).collect(),
            ]
        };
        let transposed = located.is_transposed();
        let stored = |(name, rows): (&String, Vec<HeadRows>)| StoredHeads {
            place: StoredPlace { name: name.clone(), transposed },
            rows,
        };
        Ok(located.keys().iter().zip(rows).map(stored).collect())
    }

    /// Keys of the configuration for the heads of a block; none where the number of heads fixes their
    /// width, or where something else is counted by heads.
    pub fn head_keys(&self) -> Option<HeadKeys> {
        self.architecture.heads
    }
}
