//! What one block computes on its way. A plain forward pass has one set for all its blocks; one
//! whose gradient is wanted has a set for each, and reads them again on the way back.

use super::ops::Ops;
use crate::error::Result;
use crate::model::{BlockSpec, ModelSpec};

/// See the module.
pub(super) struct LayerBuffers<O: Ops> {
    /// Queries, keys, values, `[T, (H + 2K) d]`.
    pub(super) qkv: O::Tensor,
    /// Heads' results, `[T, H d]`.
    pub(super) z: O::Tensor,
    /// Argument of the nonlinearity, `[T, F]`.
    pub(super) pre: O::Tensor,
    /// The neurons, `[T, F]`.
    pub(super) act: O::Tensor,
    /// act(gate) of gated models, `[T, F]`.
    pub(super) gate: Option<O::Tensor>,
    /// What gradients alone need.
    pub(super) kept: Option<Kept<O>>,
}

/// Values that the next step of the forward pass overwrites.
pub(super) struct Kept<O: Ops> {
    /// What the norm of attention read, `[T, D]`: in post-norm blocks the sum with the branch.
    pub(super) attn_norm_in: O::Tensor,
    /// The same of the MLP; none where both branches read one stream.
    pub(super) mlp_norm_in: Option<O::Tensor>,
    /// Queries, keys and values before their own norms.
    pub(super) qkv_raw: Option<O::Tensor>,
    /// The branches before their own norms (sandwich blocks), `[T, D]`.
    pub(super) branches: Option<[O::Tensor; 2]>,
    /// The linear half of a gated MLP, `[T, F]`.
    pub(super) up: Option<O::Tensor>,
}

impl<O: Ops> LayerBuffers<O> {
    /// Buffers for so many tokens.
    pub(super) fn new(ops: &O, spec: &ModelSpec, tokens: usize, keep: bool) -> Result<Self> {
        let room = |cols: usize| ops.tensor(tokens, cols);
        let (attention, neurons) = (&spec.attention, spec.mlp.width);
        let qkv = (attention.heads + 2 * attention.kv_heads) * attention.head_width;
        Ok(Self {
            qkv: room(qkv)?,
            z: room(attention.heads * attention.head_width)?,
            pre: room(neurons)?,
            act: room(neurons)?,
            gate: spec.mlp.gated.then(|| room(neurons)).transpose()?,
            kept: keep.then(|| Kept::new(ops, spec, (tokens, qkv))).transpose()?,
        })
    }

    /// Sets the rows of every buffer for a batch.
    pub(super) fn set_rows(&mut self, ops: &O, tokens: usize) {
        let Self { qkv, z, pre, act, gate, kept } = self;
        for tensor in [qkv, z, pre, act].into_iter().chain(gate) {
            ops.set_rows(tensor, tokens);
        }
        let Some(kept) = kept else { return };
        let branches = kept.branches.iter_mut().flatten();
        let optional = [&mut kept.mlp_norm_in, &mut kept.qkv_raw, &mut kept.up];
        ops.set_rows(&mut kept.attn_norm_in, tokens);
        for tensor in optional.into_iter().flatten().chain(branches) {
            ops.set_rows(tensor, tokens);
        }
    }
}

impl<O: Ops> Kept<O> {
    fn new(ops: &O, spec: &ModelSpec, (tokens, qkv): (usize, usize)) -> Result<Self> {
        let room = |cols: usize| ops.tensor(tokens, cols);
        let parallel = matches!(spec.block, BlockSpec::Parallel | BlockSpec::ParallelSharedNorm);
        let sandwich = spec.block == BlockSpec::Sandwich;
        Ok(Self {
            attn_norm_in: room(spec.width)?,
            mlp_norm_in: (!parallel).then(|| room(spec.width)).transpose()?,
            qkv_raw: spec.attention.qk_norm.is_some().then(|| room(qkv)).transpose()?,
            branches: if sandwich { Some([room(spec.width)?, room(spec.width)?]) } else { None },
            up: spec.mlp.gated.then(|| room(spec.mlp.width)).transpose()?,
        })
    }
}
