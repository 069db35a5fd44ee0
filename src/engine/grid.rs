//! Packed rows of a batch spread out over the padded grid its ids came in.

use safetensors::Dtype;

use super::ids::PaddedIds;
use crate::id::{Site, SiteKind};
use crate::model::{HeadSpec, ModelSpec};

/// A named array of the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Values,
}

/// See [`Array::values`].
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Activations.
    F32(Vec<f32>),
    /// Numbers of rows.
    I64(Vec<i64>),
}

impl safetensors::View for &Array {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::F32,
            Values::I64(_) => Dtype::I64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        match &self.values {
            Values::F32(values) => bytemuck::cast_slice(values).into(),
            Values::I64(values) => bytemuck::cast_slice(values).into(),
        }
    }

    fn data_len(&self) -> usize {
        match &self.values {
            Values::F32(values) => values.len() * 4,
            Values::I64(values) => values.len() * 8,
        }
    }
}

/// Spreads packed rows out over the padded grid, pads 0.
pub(super) fn on_grid(spec: &ModelSpec, ids: &PaddedIds, site: Site, values: &[f32]) -> Array {
    let (rows, length) = (ids.rows, ids.length);
    let attention = &spec.attention;
    match site.kind {
        SiteKind::AttnProbs => probabilities(attention.heads, ids, values),
        SiteKind::Pooled => {
            Array { shape: vec![rows, values.len() / rows], values: Values::F32(values.to_vec()) }
        }
        SiteKind::Logits if values.len() == rows * spec.site_width(site) && per_sequence(spec) => {
            Array { shape: vec![rows, values.len() / rows], values: Values::F32(values.to_vec()) }
        }
        kind => {
            let real = ids.real();
            let width = values.len() / real.len();
            let mut out = vec![0.0; rows * length * width];
            for (row, at) in values.chunks_exact(width).zip(real) {
                out[at * width..][..width].copy_from_slice(row);
            }
            let mut shape = vec![rows, length];
            match kind {
                SiteKind::HeadOut => shape.extend([attention.heads, attention.head_width]),
                SiteKind::Logits if width == 1 => {}
                _ => shape.push(width),
            }
            Array { shape, values: Values::F32(out) }
        }
    }
}

pub(super) fn per_sequence(spec: &ModelSpec) -> bool {
    matches!(spec.head, HeadSpec::SequenceClasses { .. })
}

/// `[B, H, S, S]`.
fn probabilities(heads: usize, ids: &PaddedIds, values: &[f32]) -> Array {
    let (rows, length) = (ids.rows, ids.length);
    let mut out = vec![0.0; rows * heads * length * length];
    let mut from = 0;
    for (row, mask) in ids.attention_mask.chunks_exact(length).enumerate() {
        let first = mask.iter().position(|&m| m == 1).expect("checked");
        let n = mask.iter().filter(|&&m| m == 1).count();
        for head in 0..heads {
            for query in 0..n {
                let at = ((row * heads + head) * length + first + query) * length + first;
                out[at..at + n].copy_from_slice(&values[from..from + n]);
                from += n;
            }
        }
    }
    Array { shape: vec![rows, heads, length, length], values: Values::F32(out) }
}
