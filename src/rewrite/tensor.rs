//! One stored tensor in memory, and what can be done to it along an axis. Values keep their type:
//! what is moved is moved as bytes, what is computed is computed in f64 and rounded once.

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::model::stored::StoredTensor;

/// A type that weights are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::Bf16),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    pub(super) fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    pub(super) fn decode(self, bytes: &[u8]) -> Vec<f64> {
        let pairs = || bytes.as_chunks::<2>().0.iter().copied();
        match self {
            Self::F32 => {
                let fours = bytes.as_chunks::<4>().0.iter();
                fours.map(|&b| f64::from(f32::from_le_bytes(b))).collect()
            }
            Self::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f64()).collect(),
            Self::Bf16 => pairs().map(|b| bf16::from_le_bytes(b).to_f64()).collect(),
        }
    }

    /// Rounds to nearest, ties to even.
    pub(super) fn encode(self, values: &[f64]) -> Vec<u8> {
        #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what is wanted")]
        match self {
            Self::F32 => values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|&x| f16::from_f64(x).to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|&x| bf16::from_f64(x).to_le_bytes()).collect(),
        }
    }
}

/// Takes part of one neuron's weights to another: `to += factor * from`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Merge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) factor: f64,
}

/// One change of a tensor. Slices are what has one index along an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Only these slices remain, in this order.
    Keep { axis: usize, indices: Vec<usize> },
    /// These slices become 0.
    Zero { axis: usize, indices: Vec<usize> },
    /// These slices become these bytes.
    Put { axis: usize, slices: Vec<(usize, Vec<u8>)> },
    /// Slices are added to others, as they were before the step.
    Merge { axis: usize, merges: Vec<Merge> },
    /// A vector is added to a vector.
    Add { values: Vec<f64> },
    /// w := w - u (u . w) along the axis, with u of length 1.
    Project { axis: usize, direction: Vec<f64> },
}

/// A tensor that is being changed, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

/// How an axis cuts a row-major tensor: `[outer, count, inner]`.
#[derive(Clone, Copy)]
struct Cut {
    outer: usize,
    count: usize,
    inner: usize,
}

impl Cut {
    fn new(shape: &[usize], axis: usize) -> Self {
        Self {
            outer: shape[..axis].iter().product(),
            count: shape[axis],
            inner: shape[axis + 1..].iter().product(),
        }
    }

    /// Where the pieces of a slice begin, in elements; each has `inner`.
    fn pieces(self, index: usize) -> impl Iterator<Item = usize> {
        (0..self.outer).map(move |outer| (outer * self.count + index) * self.inner)
    }
}

/// The shape after the steps.
pub(super) fn shape_after(shape: &[usize], steps: &[Step]) -> Vec<usize> {
    let mut shape = shape.to_vec();
    for step in steps {
        if let Step::Keep { axis, indices } = step {
            shape[*axis] = indices.len();
        }
    }
    shape
}

impl Tensor {
    /// A copy of what is stored; an error if its values are of a type that is not computed with.
    pub(super) fn of(stored: &StoredTensor<'_>) -> Result<Self> {
        let dtype = Dtype::parse(stored.dtype).ok_or_else(|| {
            let what = format!("type {}; F32, F16 and BF16 can be changed", stored.dtype);
            Error::config(format!("tensor '{}'", stored.name), what, "save the model in float32")
        })?;
        let size = |&n: &u64| usize::try_from(n).expect("it is mapped");
        Ok(Self {
            name: stored.name.to_owned(),
            dtype,
            shape: stored.shape.iter().map(size).collect(),
            bytes: stored.bytes.to_vec(),
        })
    }

    pub(super) fn values(&self) -> Vec<f64> {
        self.dtype.decode(&self.bytes)
    }

    /// The bytes of one slice.
    pub(super) fn slice(&self, axis: usize, index: usize) -> Vec<u8> {
        let cut = Cut::new(&self.shape, axis);
        let (width, length) = (self.dtype.bytes(), cut.inner * self.dtype.bytes());
        cut.pieces(index).flat_map(|at| &self.bytes[at * width..][..length]).copied().collect()
    }

    fn put(&mut self, axis: usize, index: usize, slice: &[u8]) {
        let cut = Cut::new(&self.shape, axis);
        let (width, length) = (self.dtype.bytes(), cut.inner * self.dtype.bytes());
        assert_eq!(slice.len(), cut.outer * length, "a slice of {}", self.name);
        for (at, piece) in cut.pieces(index).zip(slice.chunks_exact(length)) {
            self.bytes[at * width..][..length].copy_from_slice(piece);
        }
    }

    /// Makes one change. Indices are checked by whoever made the step.
    pub(super) fn apply(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Keep { axis, indices } => self.keep(*axis, indices),
            Step::Zero { axis, indices } => {
                let nothing = vec![0; self.bytes.len() / self.shape[*axis]];
                indices.iter().for_each(|&index| self.put(*axis, index, &nothing));
            }
            Step::Put { axis, slices } => {
                slices.iter().for_each(|(index, slice)| self.put(*axis, *index, slice));
            }
            Step::Merge { axis, merges } => return self.merge(*axis, merges),
            Step::Add { values } => {
                let sums: Vec<f64> = self.values().iter().zip(values).map(|(a, b)| a + b).collect();
                return self.set(&sums);
            }
            Step::Project { axis, direction } => return self.project(*axis, direction),
        }
        Ok(())
    }

    fn set(&mut self, values: &[f64]) -> Result<()> {
        self.bytes = self.dtype.encode(values);
        check_finite(self.dtype, &self.bytes, &self.name)
    }

    fn keep(&mut self, axis: usize, indices: &[usize]) {
        let cut = Cut::new(&self.shape, axis);
        let length = cut.inner * self.dtype.bytes();
        let mut bytes = Vec::with_capacity(cut.outer * indices.len() * length);
        for outer in 0..cut.outer {
            for index in indices {
                let at = (outer * cut.count + index) * length;
                bytes.extend_from_slice(&self.bytes[at..at + length]);
            }
        }
        self.bytes = bytes;
        self.shape[axis] = indices.len();
    }

    fn merge(&mut self, axis: usize, merges: &[Merge]) -> Result<()> {
        let cut = Cut::new(&self.shape, axis);
        let before = self.values();
        let mut after = before.clone();
        for merge in merges {
            for (from, to) in cut.pieces(merge.from).zip(cut.pieces(merge.to)) {
                for i in 0..cut.inner {
                    after[to + i] += merge.factor * before[from + i];
                }
            }
        }
        self.set(&after)
    }

    fn project(&mut self, axis: usize, direction: &[f64]) -> Result<()> {
        let cut = Cut::new(&self.shape, axis);
        assert_eq!(direction.len(), cut.count, "a direction for {}", self.name);
        let mut values = self.values();
        for block in values.chunks_exact_mut(cut.count * cut.inner) {
            let mut dots = vec![0.0; cut.inner];
            for (row, u) in block.chunks_exact(cut.inner).zip(direction) {
                dots.iter_mut().zip(row).for_each(|(dot, w)| *dot += u * w);
            }
            for (row, u) in block.chunks_exact_mut(cut.inner).zip(direction) {
                row.iter_mut().zip(&dots).for_each(|(w, dot)| *w -= u * dot);
            }
        }
        self.set(&values)
    }
}

/// float16 ends at 65504: what goes beyond is no weight any more.
pub(super) fn check_finite(dtype: Dtype, bytes: &[u8], name: &str) -> Result<()> {
    let bad = dtype.decode(bytes).iter().filter(|value| !value.is_finite()).count();
    if bad == 0 {
        return Ok(());
    }
    let what = format!("{bad} values would not be finite in {}", dtype.name());
    let remedy = "make smaller changes, or save the model in float32 first";
    Err(Error::config(format!("tensor '{name}'"), what, remedy))
}
