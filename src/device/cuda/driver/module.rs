//! Loaded machine code: modules, their entry points, and descriptors for the copy engine.
#![expect(unsafe_code, reason = "a C library")]

use std::ffi::{CString, c_void};

use cudarc::driver::sys::{self, CUresult};

use super::{Answer, Failure, Ptr, call};

/// An entry point of a module that outlives it.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Function(pub(super) sys::CUfunction);

// SAFETY: the driver's handles may be used from any thread.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Function {
    /// Lets it have so much dynamic shared memory; needed above 48 KB.
    pub(in super::super) fn allow_shared(self, bytes: u32) -> Answer<()> {
        let what = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the module is loaded; a size over the device's is an error of the driver.
        unsafe { call!(cuFuncSetAttribute(self.0, what, bytes.cast_signed())) }
    }
}

/// Machine code on a device; unloaded when dropped.
#[derive(Debug)]
pub(in super::super) struct Module(sys::CUmodule);

// SAFETY: as for `Function`.
unsafe impl Send for Module {}
// SAFETY: as for `Function`.
unsafe impl Sync for Module {}

impl Module {
    /// Loads an image of the driver's own formats: cubin, fatbin, PTX.
    pub(in super::super) fn load(image: &[u8]) -> Answer<Self> {
        // The driver finds the end of PTX by its NUL, and wants 8-byte alignment of the others.
        let mut words = vec![0_u64; image.len() / 8 + 1];
        bytemuck::cast_slice_mut(&mut words)[..image.len()].copy_from_slice(image);
        let mut raw = std::ptr::null_mut();
        // SAFETY: the image is a whole one, or the driver says that it is not.
        unsafe { call!(cuModuleLoadData(&raw mut raw, words.as_ptr().cast::<c_void>())) }?;
        Ok(Self(raw))
    }

    pub(in super::super) fn function(&self, name: &str) -> Answer<Function> {
        let name = CString::new(name).expect("kernels have plain names");
        let mut raw = std::ptr::null_mut();
        // SAFETY: the module is loaded and the name ends with NUL.
        unsafe { call!(cuModuleGetFunction(&raw mut raw, self.0, name.as_ptr())) }?;
        Ok(Function(raw))
    }

    /// Address and size of a variable.
    pub(in super::super) fn global(&self, name: &str) -> Answer<(Ptr, usize)> {
        let name = CString::new(name).expect("kernels have plain names");
        let (mut address, mut bytes) = (0, 0);
        // SAFETY: as above.
        unsafe {
            call!(cuModuleGetGlobal_v2(&raw mut address, &raw mut bytes, self.0, name.as_ptr()))
        }?;
        Ok((Ptr(address), bytes))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded once, unloaded once.
        let _ = unsafe { call!(cuModuleUnload(self.0)) };
    }
}

/// A matrix in device memory, as the copy engine of Hopper wants it described (CUtensorMap).
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct TensorMap {
    words: [u64; 16],
}

/// Describes a bf16 matrix `[rows, cols]` whose rows lie `stride` elements apart, read in boxes of
/// `[box_rows, 64]` that land in shared memory in the 128-byte swizzle. What lies outside reads 0.
pub(in super::super) fn tensor_map(
    start: Ptr,
    (rows, cols, stride): (usize, usize, usize),
    box_rows: u32,
) -> Answer<TensorMap> {
    let mut map = sys::CUtensorMap { opaque: [0; 16] };
    let sizes = [cols as u64, rows as u64];
    let strides = [stride as u64 * 2];
    let (boxes, steps) = ([64, box_rows], [1, 1]);
    // SAFETY: all pointers are to arrays of this frame, of the rank's length.
    unsafe {
        call!(cuTensorMapEncodeTiled(
            &raw mut map,
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            2,
            start.0 as *mut c_void,
            sizes.as_ptr(),
            strides.as_ptr(),
            boxes.as_ptr(),
            steps.as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        ))
    }?;
    Ok(TensorMap { words: map.opaque })
}
