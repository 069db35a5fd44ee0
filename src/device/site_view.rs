//! An activation lent by the forward pass while it is there.

use super::ops::Ops;
use crate::error::Result;
use crate::id::Site;

/// One site of one batch, on the device, valid until the visitor returns.
pub struct SiteView<'a, O: Ops> {
    /// Which site.
    pub site: Site,
    /// Its values. `[T, N]`; `pooled` and sequence-class `logits` are `[S, N]`; `attn_probs` is
    /// one column, each sequence's `[H, n, n]` end to end.
    pub values: &'a O::Tensor,
}

/// What reads sites while the forward pass makes them.
///
/// The forward pass owns the loop; the visitor gets a borrow, once per wanted site, in forward
/// order.
pub trait SiteVisitor<O: Ops> {
    /// Writes into one site, after its edits and before it is read by anybody: for what depends on
    /// the values that are there in ways no [`Edit`](super::ops::Edit) can say.
    fn change(&mut self, _ops: &O, _site: Site, _values: &mut O::Tensor) -> Result<()> {
        Ok(())
    }

    /// Reads one site.
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()>;
}

/// Reads nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl<O: Ops> SiteVisitor<O> for Nobody {
    fn visit(&mut self, _: &O, _: &SiteView<'_, O>) -> Result<()> {
        Ok(())
    }
}
