//! A weight on the host, in one orientation whatever the checkpoint holds.

use super::arch::{Architecture, At};
use super::spec::{AttentionSpec, Param};
use super::weights::Weights;
use crate::error::{Error, Result};

/// Numbers with a shape, row-major. Matrices are `[out, in]`.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Its shape; the product is the length of `data`.
    pub shape: Vec<usize>,
    /// Its values.
    pub data: Vec<f32>,
}

/// Where a weight's tensors are, and how they become one.
#[derive(Debug)]
pub(crate) struct Located {
    keys: Vec<String>,
    order: Order,
    /// Shape of each of `keys` as the checkpoint should hold it.
    stored: Vec<Vec<usize>>,
}

/// How stored values come into the order of [`HostTensor`].
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    /// As they are, one tensor after another.
    Same,
    /// `[in, out]`, to be transposed.
    Transposed,
    /// `[heads, 3, d, …]`, to become `[3, heads, d, …]`.
    ByHead { heads: usize },
}

impl Located {
    /// Looks a weight up. `shape` is what [`super::ModelSpec::shape`] says.
    pub(crate) fn find(
        at: (&'static At, String),
        param: Param,
        shape: &[usize],
        attention: &AttentionSpec,
        weights: &Weights,
    ) -> Self {
        let (at, prefix) = at;
        let suffix = if param.bias_of().is_some() { "bias" } else { "weight" };
        let key = |name: &str| format!("{prefix}{name}.{suffix}");
        let mut keys: Vec<String> = at.names().map(key).collect();
        let (mut order, mut stored) = (Order::Same, vec![shape.to_vec()]);
        match at {
            At::One(_) => {}
            At::Either(..) => {
                let there = keys.iter().position(|key| weights.holds(key)).unwrap_or(0);
                keys = vec![keys.swap_remove(there)];
            }
            At::Conv1d(_) if shape.len() == 2 => {
                order = Order::Transposed;
                stored = vec![vec![shape[1], shape[0]]];
            }
            At::Conv1d(_) => {}
            At::Three(..) => {
                let rows = [attention.heads, attention.kv_heads, attention.kv_heads];
                let part = |heads: usize| {
                    let rows = heads * attention.head_width;
                    std::iter::once(rows).chain(shape[1..].iter().copied()).collect()
                };
                stored = rows.map(part).to_vec();
            }
            At::ByHead(_) => order = Order::ByHead { heads: attention.heads },
        }
        Self { keys, order, stored }
    }

    /// The names in the checkpoint.
    pub(crate) fn keys(&self) -> &[String] {
        &self.keys
    }

    /// Whether matrices are stored `[in, out]`; `None` for what is put together from parts.
    pub(crate) fn transposed(&self) -> Option<bool> {
        match self.order {
            Order::Same if self.keys.len() == 1 => Some(false),
            Order::Transposed => Some(true),
            _ => None,
        }
    }

    /// Whether query, key and value of the first head stand before those of the second.
    pub(crate) fn by_head(&self) -> bool {
        matches!(self.order, Order::ByHead { .. })
    }

    /// Whether matrices are stored `[in, out]`.
    pub(crate) fn is_transposed(&self) -> bool {
        matches!(self.order, Order::Transposed)
    }

    /// Whether all of it is in the checkpoint.
    pub(crate) fn is_there(&self, weights: &Weights) -> bool {
        self.keys.iter().all(|key| weights.holds(key))
    }

    /// Fails unless the checkpoint holds every part with its shape.
    pub(crate) fn check(&self, weights: &Weights) -> Result<()> {
        for (key, shape) in self.keys.iter().zip(&self.stored) {
            let Some(found) = weights.shape(key) else {
                return Err(Error::input(
                    weights.file_of(key),
                    format!("no tensor '{key}' of shape {shape:?}"),
                    "use a complete checkpoint whose config.json belongs to it",
                ));
            };
            let same = found.len() == shape.len()
                && found.iter().zip(shape).all(|(a, b)| usize::try_from(*a) == Ok(*b));
            if !same {
                return Err(Error::input(
                    weights.file_of(key),
                    format!("tensor '{key}' has shape {found:?}, config.json asks for {shape:?}"),
                    "use the config.json that belongs to these weights",
                ));
            }
        }
        Ok(())
    }

    /// Reads it. Call [`Located::check`] first.
    pub(crate) fn read(&self, shape: Vec<usize>, weights: &Weights) -> Result<HostTensor> {
        let mut data = Vec::with_capacity(shape.iter().product());
        for key in &self.keys {
            weights.read(key, &mut data)?;
        }
        let data = match self.order {
            Order::Same => data,
            Order::Transposed => transpose(&data, shape[0], shape[1]),
            Order::ByHead { heads } => split_heads(&data, heads),
        };
        Ok(HostTensor { shape, data })
    }
}

impl Architecture {
    /// Where `param` is kept.
    pub(crate) fn locate(
        &self,
        param: Param,
        spec: &super::ModelSpec,
        prefix: &str,
        weights: &Weights,
    ) -> Option<Located> {
        let shape = spec.shape(param)?;
        let at = self.at(param.bias_of().unwrap_or(param), &spec.head, prefix)?;
        Some(Located::find(at, param, &shape, &spec.attention, weights))
    }
}

/// `[columns, rows]` to `[rows, columns]`.
fn transpose(data: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(data.len());
    for row in 0..rows {
        out.extend((0..columns).map(|column| data[column * rows + row]));
    }
    out
}

/// `[heads, 3, n]` to `[3, heads, n]`.
fn split_heads(data: &[f32], heads: usize) -> Vec<f32> {
    let length = data.len() / (3 * heads);
    let mut out = Vec::with_capacity(data.len());
    for part in 0..3 {
        for head in 0..heads {
            out.extend_from_slice(&data[(head * 3 + part) * length..][..length]);
        }
    }
    out
}
