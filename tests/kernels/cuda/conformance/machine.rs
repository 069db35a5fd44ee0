//! Runs the cases: on the fake driver, or on the first real GPU.

use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};

use cudarc::driver::{result, sys};

use super::case::{Arguments, Case, Matrix};
use crate::cuda::real;

/// A device with a folder of images, or one image for all stems.
pub(super) struct Machine {
    name: String,
    images: PathBuf,
    hopper: bool,
}

/// As in conformance.cuh, hopper_sm90.cu.
#[repr(C)]
struct ConformanceArgs {
    input: u64,
    out: u64,
    count: u32,
    unused: u32,
}
#[repr(C, align(64))]
struct BoxesArgs {
    map: sys::CUtensorMap,
    rest: ConformanceArgs,
}
#[repr(C, align(64))]
struct ProductArgs {
    maps: [sys::CUtensorMap; 2],
    rest: ConformanceArgs,
}

impl Machine {
    /// The machine of these tests; `None`, and a line that says why, without one.
    pub(super) fn new() -> Option<Self> {
        if !real() {
            return Self::fake();
        }
        match std::env::var_os("ELECTRODE_CONFORMANCE_IMAGES") {
            Some(folder) => Some(Self::open(PathBuf::from(folder))),
            None => {
                eprintln!(
                    "skipped: conformance of this GPU: ELECTRODE_CONFORMANCE_IMAGES names no \
                     images (benches/gpu_build.sh makes them)"
                );
                None
            }
        }
    }

    /// The fake driver's twins, whose tests need no second run beside a real GPU.
    pub(super) fn fake() -> Option<Self> {
        Self::twins(fake_cuda::conformance())
    }

    /// Twins with planted mistakes.
    pub(super) fn mutants() -> Option<Self> {
        Self::twins(fake_cuda::mutants().join("wrappers.bin"))
    }

    fn twins(images: PathBuf) -> Option<Self> {
        if real() {
            return None;
        }
        if fake_cuda::install().is_none() {
            eprintln!("skipped: conformance: {}", fake_cuda::reason_for_none());
            return None;
        }
        Some(Self::open(images))
    }

    fn open(images: PathBuf) -> Self {
        result::init().expect("the driver starts");
        let device = result::device::get(0).expect("there is one");
        let major = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
        // SAFETY: the device is there, and its context is never given back.
        let major = unsafe {
            let context = result::primary_ctx::retain(device).expect("a context");
            result::ctx::set_current(context).expect("it is live");
            result::device::get_attribute(device, major).expect("it is known")
        };
        let name = result::device::get_name(device).expect("it has one");
        Self { name, images, hopper: major == 9 }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn runs(&self, case: &Case) -> bool {
        self.hopper || !case.stem.ends_with("_sm90")
    }

    /// What a case writes.
    pub(super) fn run(&self, case: &Case) -> Vec<u32> {
        let input = Memory::of(&case.input);
        // No word is what a kernel would write by not writing.
        let out = Memory::of(&case.want.iter().map(|_| 0xdead_beef_u32).collect::<Vec<_>>());
        let rest = |count| ConformanceArgs { input: input.0, out: out.0, count, unused: 0 };
        match &case.arguments {
            Arguments::Count(count) => self.launch(case, &rest(*count)),
            Arguments::Boxes(matrix, count) => {
                let (map, _memory) = map(matrix);
                self.launch(case, &BoxesArgs { map, rest: rest(*count) });
            }
            Arguments::Product([a, b], keep) => {
                let ((a, _a_memory), (b, _b_memory)) = (map(a), map(b));
                self.launch(case, &ProductArgs { maps: [a, b], rest: rest(*keep) });
            }
        }
        let mut words = vec![0; case.want.len()];
        // SAFETY: the memory has as many words.
        unsafe { result::memcpy_dtoh_sync(&mut words, out.0) }.expect("a copy");
        words
    }

    fn image(&self, stem: &str) -> Vec<u8> {
        let path = match self.images.is_dir() {
            true => self.images.join(Path::new(stem).with_extension("bin")),
            false => self.images.clone(),
        };
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn launch<A>(&self, case: &Case, arguments: &A) {
        let image = self.image(case.stem);
        // The driver wants more alignment than bytes have.
        let mut words = vec![0_u64; image.len() / 8 + 1];
        bytemuck::cast_slice_mut(&mut words)[..image.len()].copy_from_slice(&image);
        let mut parameters = [std::ptr::from_ref(arguments).cast_mut().cast::<c_void>()];
        let name = CString::new(case.kernel).expect("a plain name");
        let (grid, block, stream) = ((1, 1, 1), (case.threads, 1, 1), std::ptr::null_mut());
        // SAFETY: the struct is the one that the kernel takes, and its pointers outlive the launch.
        let done = unsafe {
            let module = result::module::load_data(words.as_ptr().cast()).expect("an image");
            let function = result::module::get_function(module, name).expect("it has the kernel");
            let what = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            result::function::set_function_attribute(function, what, case.shared.cast_signed())
                .expect("a size that the device has");
            let launched =
                result::launch_kernel(function, grid, block, case.shared, stream, &mut parameters);
            let done = launched.and_then(|()| result::stream::synchronize(stream));
            result::module::unload(module).expect("it is loaded");
            done
        };
        assert_eq!(done, Ok(()), "{} on {}", case.name(), self.name);
    }
}

/// An allocation.
struct Memory(u64);

impl Memory {
    fn of<T: Copy>(values: &[T]) -> Self {
        // SAFETY: the allocation has the size of the values.
        unsafe {
            let to = result::malloc_sync(size_of_val(values)).expect("room");
            result::memcpy_htod_sync(to, values).expect("a copy");
            Self(to)
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated once, and each launch was waited for.
        let _ = unsafe { result::free_sync(self.0) };
    }
}

/// A matrix on the device, and its description for the copy engine: boxes in the 128-byte swizzle.
fn map(matrix: &Matrix) -> (sys::CUtensorMap, Memory) {
    let stride = matrix.columns.next_multiple_of(8);
    let rows = matrix.values.len() / matrix.columns;
    let mut bits = vec![half::bf16::NAN.to_bits(); rows * stride];
    for (to, from) in bits.chunks_exact_mut(stride).zip(matrix.values.chunks(matrix.columns)) {
        for (to, x) in to.iter_mut().zip(from) {
            *to = half::bf16::from_f32(*x).to_bits();
        }
    }
    let memory = Memory::of(&bits);
    let mut map = sys::CUtensorMap { opaque: [0; 16] };
    // SAFETY: arrays of rank 2 that live through the call.
    let done = unsafe {
        sys::cuTensorMapEncodeTiled(
            &raw mut map,
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            2,
            memory.0 as *mut c_void,
            [matrix.columns as u64, rows as u64].as_ptr(),
            [stride as u64 * 2].as_ptr(),
            [64, matrix.box_rows].as_ptr(),
            [1, 1].as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    };
    assert_eq!(done, sys::CUresult::CUDA_SUCCESS);
    (map, memory)
}
