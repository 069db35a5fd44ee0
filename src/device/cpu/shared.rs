//! One tensor that several threads fill, each its own elements, where these interleave too finely
//! for borrowed pieces.
#![expect(unsafe_code, reason = "what threads write is disjoint by element, not by slice")]

use super::dispatch::multiversion;

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

    /// [`expect`] of some elements.
    pub(super) fn expect(self, at: usize, count: usize) {
        expect(self.0.wrapping_add(at), count);
    }

    /// # Safety
    /// The elements must be inside the tensor and nobody else's.
    pub(super) unsafe fn write(self, at: usize, values: &[f32]) {
        // SAFETY: the caller's promise.
        put(unsafe { std::slice::from_raw_parts_mut(self.0.add(at), values.len()) }, values);
    }

    /// # Safety
    /// The elements must be inside the tensor and nobody else's.
    pub(super) unsafe fn add(self, at: usize, values: &[f32]) {
        // SAFETY: the caller's promise.
        sum(unsafe { std::slice::from_raw_parts_mut(self.0.add(at), values.len()) }, values);
    }

    /// # Safety
    /// The elements must be inside the tensor and nobody else's.
    pub(super) unsafe fn zero(self, at: usize, count: usize) {
        // SAFETY: the caller's promise; all-zero bytes are 0.0.
        unsafe { std::ptr::write_bytes(self.0.add(at), 0, count) }
    }
}

/// Asks for the memory of elements that are soon written: it comes into this core's cache.
#[inline(always)]
pub(super) fn expect<T>(first: *const T, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..count).step_by(64 / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: any address may be asked for; nothing is read through it.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(first.wrapping_add(line).cast()) };
    }
    let _ = (first, count);
}

multiversion! {
    /// `to = values`; the widths of panels and heads are copied without a call.
    pub(super) fn put(to: &mut [f32], values: &[f32]) {
        assert_eq!(to.len(), values.len());
        match to.len() {
            32 => to.first_chunk_mut::<32>().zip(values.first_chunk()).map_or((), |(to, x)| *to = *x),
            64 => to.first_chunk_mut::<64>().zip(values.first_chunk()).map_or((), |(to, x)| *to = *x),
            _ => to.copy_from_slice(values),
        }
    }

    fn sum(to: &mut [f32], values: &[f32]) {
        for (to, value) in to.iter_mut().zip(values) {
            *to += value;
        }
    }
}
