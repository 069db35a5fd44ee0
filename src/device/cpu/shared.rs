//! One tensor that several threads fill, each its own elements, where these interleave too finely
//! for borrowed pieces.
#![expect(unsafe_code, reason = "what threads write is disjoint by element, not by slice")]

/// The values of a tensor, lent to all threads of one operation.
#[derive(Clone, Copy)]
pub(super) struct SharedMut(*mut f32);

// SAFETY: it is only written through unsafe functions whose callers promise disjoint elements.
unsafe impl Send for SharedMut {}
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    pub(super) fn new(values: &mut [f32]) -> Self {
        Self(values.as_mut_ptr())
    }

    /// # Safety
    /// The elements must be inside the tensor and nobody else's.
    pub(super) unsafe fn write(self, at: usize, values: &[f32]) {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.0.add(at), values.len()) }
    }

    /// # Safety
    /// The elements must be inside the tensor and nobody else's.
    pub(super) unsafe fn zero(self, at: usize, count: usize) {
        // SAFETY: the caller's promise; all-zero bytes are 0.0.
        unsafe { std::ptr::write_bytes(self.0.add(at), 0, count) }
    }
}
