//! Arrays that `extract` writes: a shape and its values.

use safetensors::Dtype;

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
