//! What a GPU keeps in memory.

use std::sync::Arc;

use super::arena::Buffer;
use super::context::Context;
use super::driver::Ptr;
use crate::error::Result;

/// The type of activations and weights on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Parity mode.
    F32,
    /// Half the bytes, and the matrix units.
    Bf16,
}

impl Element {
    /// Bytes of one.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// The one of a kernel's two entry points, `[f32, bf16]`.
    pub(super) fn pick(self, names: [&'static str; 2]) -> &'static str {
        names[usize::from(self == Self::Bf16)]
    }
}

/// Elements between rows: rows start at multiples of 16 bytes.
pub(super) fn stride(cols: usize) -> usize {
    cols.next_multiple_of(8)
}

/// Activations, row-major, with room for more rows than are in use. What lies between the end of a
/// row and the start of the next means nothing.
#[derive(Debug)]
pub struct Tensor {
    buffer: Buffer,
    rows: usize,
    cols: usize,
    stride: usize,
    capacity: usize,
    element: Element,
}

impl Tensor {
    pub(super) fn new(
        context: &Context,
        element: Element,
        (capacity, cols): (usize, usize),
    ) -> Result<Self> {
        Self::with_stride(context, element, (capacity, cols, stride(cols)))
    }

    /// One column of values end to end.
    pub(super) fn cells(context: &Context, element: Element, capacity: usize) -> Result<Self> {
        Self::with_stride(context, element, (capacity, 1, 1))
    }

    fn with_stride(
        context: &Context,
        element: Element,
        (capacity, cols, stride): (usize, usize, usize),
    ) -> Result<Self> {
        // Kernels may read and write whole packs of 16 bytes.
        let bytes = (capacity * stride * element.size()).next_multiple_of(16);
        let buffer = context.buffer(bytes)?;
        Ok(Self { buffer, rows: 0, cols, stride, capacity, element })
    }

    pub(super) fn set_rows(&mut self, rows: usize) {
        assert!(rows <= self.capacity, "{rows} rows over the planned room");
        self.rows = rows;
    }

    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    pub(super) fn start(&self) -> Ptr {
        self.buffer.start()
    }

    /// Rows in use.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    pub(super) fn element(&self) -> Element {
        self.element
    }

    /// Bytes of the rows in use, gaps included.
    pub(super) fn bytes(&self) -> usize {
        self.rows * self.stride() * self.element.size()
    }
}

/// A weight `[out, in]`, row-major, in the tensors' type, and its bias in f32.
#[derive(Debug)]
pub struct Matrix {
    pub(super) weight: Arc<Buffer>,
    pub(super) out: usize,
    pub(super) inner: usize,
    pub(super) bias: Option<Buffer>,
}

/// A table of rows: in the tensors' type with their stride, or exact: in f32, rows end to end.
#[derive(Debug)]
pub struct Table {
    pub(super) values: Arc<Buffer>,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

/// A short vector of weights, f32.
#[derive(Debug)]
pub struct Vector {
    pub(super) values: Buffer,
    pub(super) len: usize,
}

/// Rows as a device keeps them: converted, and with the gaps filled with zeros.
pub(super) fn upload_rows(
    context: &Context,
    element: Element,
    (rows, cols): (usize, usize),
    values: &[f32],
) -> Result<Buffer> {
    assert_eq!(values.len(), rows * cols);
    let buffer = context.buffer((rows * stride(cols) * element.size()).next_multiple_of(16))?;
    write_rows(context, element, (cols, stride(cols)), values, &buffer)?;
    Ok(buffer)
}

/// Sets the rows in use.
pub(super) fn write(context: &Context, x: &mut Tensor, values: &[f32]) -> Result<()> {
    assert_eq!(values.len(), x.rows * x.cols);
    write_rows(context, x.element, (x.cols, x.stride), values, &x.buffer)
}

fn write_rows(
    context: &Context,
    element: Element,
    (cols, stride): (usize, usize),
    values: &[f32],
    to: &Buffer,
) -> Result<()> {
    match element {
        Element::F32 if stride == cols => context.write(to, values),
        Element::F32 => context.write(to, &padded(values, (cols, stride), |x| x)),
        Element::Bf16 => {
            let bits = |x| half::bf16::from_f32(x).to_bits();
            context.write(to, &padded(values, (cols, stride), bits))
        }
    }
}

/// Rows converted, with zeros between.
fn padded<T: Copy + Default>(
    values: &[f32],
    (cols, stride): (usize, usize),
    convert: impl Fn(f32) -> T,
) -> Vec<T> {
    let cols = cols.max(1);
    let mut out = vec![T::default(); values.len() / cols * stride];
    for (to, from) in out.chunks_exact_mut(stride.max(1)).zip(values.chunks_exact(cols)) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = convert(*from);
        }
    }
    out
}

impl Matrix {
    pub(super) fn new(
        context: &Context,
        element: Element,
        (out, weight): (usize, &[f32]),
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        let inner = weight.len().checked_div(out).unwrap_or(0);
        let weight = Arc::new(upload_rows(context, element, (out, inner), weight)?);
        Self::with_bias(context, (weight, out, inner), bias)
    }

    /// Shares the table's memory.
    pub(super) fn tied(context: &Context, table: &Table, bias: Option<&[f32]>) -> Result<Self> {
        Self::with_bias(context, (Arc::clone(&table.values), table.rows, table.cols), bias)
    }

    fn with_bias(
        context: &Context,
        (weight, out, inner): (Arc<Buffer>, usize, usize),
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        assert!(bias.is_none_or(|bias| bias.len() == out));
        let bias = bias.map(|bias| context.buffer_of(bias)).transpose()?;
        Ok(Self { weight, out, inner, bias })
    }
}

impl Table {
    pub(super) fn new(
        context: &Context,
        element: Element,
        rows: usize,
        values: &[f32],
    ) -> Result<Self> {
        let cols = values.len().checked_div(rows).unwrap_or(0);
        let values = Arc::new(upload_rows(context, element, (rows, cols), values)?);
        Ok(Self { values, rows, cols })
    }

    pub(super) fn exact(context: &Context, rows: usize, values: &[f32]) -> Result<Self> {
        let cols = values.len().checked_div(rows).unwrap_or(0);
        Ok(Self { values: Arc::new(context.buffer_of(values)?), rows, cols })
    }
}

/// The rows in use, on the host, as f32.
pub(super) fn read(context: &Context, x: &Tensor, out: &mut Vec<f32>) -> Result<()> {
    let (stride, values) = (x.stride(), x.rows() * x.stride());
    out.clear();
    match x.element() {
        Element::F32 => {
            out.resize(values, 0.0);
            context.download(x.buffer(), out)?;
        }
        Element::Bf16 => {
            let mut bits = vec![0_u16; values];
            context.download(x.buffer(), &mut bits)?;
            out.extend(bits.iter().map(|bits| half::bf16::from_bits(*bits).to_f32()));
        }
    }
    if stride != x.cols() {
        for row in 1..x.rows() {
            out.copy_within(row * stride..row * stride + x.cols(), row * x.cols());
        }
        out.truncate(x.rows() * x.cols());
    }
    Ok(())
}
