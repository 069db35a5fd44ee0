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
    /// Reads one site.
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()>;

    /// Reads one site that is edited, before that: only of sites that have edits.
    fn visit_unedited(&mut self, _ops: &O, _view: &SiteView<'_, O>) -> Result<()> {
        Ok(())
    }
}

/// Reads nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl<O: Ops> SiteVisitor<O> for Nobody {
    fn visit(&mut self, _: &O, _: &SiteView<'_, O>) -> Result<()> {
        Ok(())
    }
}
