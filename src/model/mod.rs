//! Checkpoints described and mapped: `config.json` to a [`ModelSpec`], safetensors to [`HostTensor`]s.
//! Knows no device and no corpus.

pub mod spec;

pub use spec::*;

/// stub
pub struct HostTensor {
    /// shape
    pub shape: Vec<usize>,
    /// data
    pub data: Vec<f32>,
}
/// stub
pub struct Model {
    /// spec
    pub spec: ModelSpec,
}
impl Model {
    /// stub
    pub fn tensor(&self, _p: Param) -> crate::error::Result<HostTensor> { unreachable!() }
    /// stub
    pub fn has(&self, _p: Param) -> bool { false }
    /// stub
    pub fn tied(&self) -> bool { false }
}
