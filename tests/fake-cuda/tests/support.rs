//! A device of the fake driver as these tests use it, through the same library as the program.

use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicI32, Ordering};

use cudarc::driver::{DriverError, result, sys};
pub(crate) use fake_cuda::{Fake, Order};

/// The driver, or a line that says why the test is skipped.
pub(crate) fn fake() -> Option<&'static Fake> {
    let fake = fake_cuda::install();
    if fake.is_none() {
        eprintln!("skipped: {}", fake_cuda::reason_for_none());
    }
    fake
}

/// A device that no other test of the process uses: a failure breaks all of a device.
pub(crate) struct Bench {
    pub(crate) fake: &'static Fake,
    pub(crate) ordinal: i32,
}

impl Bench {
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicI32 = AtomicI32::new(0);
        let fake = fake()?;
        result::init().expect("the fake driver starts");
        fake.set_devices(64);
        let ordinal = NEXT.fetch_add(1, Ordering::Relaxed) % 64;
        fake.reset(ordinal);
        let device = result::device::get(ordinal).expect("there are 64");
        // SAFETY: contexts of the fake driver are never destroyed.
        unsafe {
            let context = result::primary_ctx::retain(device).expect("a new context");
            result::ctx::set_current(context).expect("it is live");
        }
        Some(Self { fake, ordinal })
    }

    /// An allocation with these contents.
    pub(crate) fn upload<T: Copy>(&self, values: &[T]) -> Result<u64, DriverError> {
        let to = self.room(std::mem::size_of_val(values))?;
        // SAFETY: the allocation has the size of the values.
        unsafe { result::memcpy_htod_sync(to, values)? };
        Ok(to)
    }

    pub(crate) fn room(&self, bytes: usize) -> Result<u64, DriverError> {
        // SAFETY: the memory is only used through the driver.
        unsafe { result::malloc_sync(bytes) }
    }

    pub(crate) fn download<T: Copy + Default>(
        &self,
        from: u64,
        count: usize,
    ) -> Result<Vec<T>, DriverError> {
        let mut out = vec![T::default(); count];
        // SAFETY: the driver checks the range.
        unsafe { result::memcpy_dtoh_sync(&mut out, from)? };
        Ok(out)
    }

    pub(crate) fn load(&self, image: &std::path::Path) -> Result<sys::CUmodule, DriverError> {
        let bytes = std::fs::read(image).unwrap_or_else(|error| panic!("{image:?}: {error}"));
        // SAFETY: the bytes of a whole image.
        unsafe { result::module::load_data(bytes.as_ptr().cast::<c_void>()) }
    }

    /// Runs a kernel and waits for it.
    pub(crate) fn run<A>(&self, launch: &Launch, arguments: &A) -> Result<(), DriverError> {
        let module = self.load(&launch.image)?;
        let name = CString::new(launch.kernel).expect("no zeros in a name");
        let mut parameters = [std::ptr::from_ref(arguments).cast_mut().cast::<c_void>()];
        // SAFETY: the tests pass the struct that the kernel takes.
        unsafe {
            let function = result::module::get_function(module, name)?;
            if launch.shared > 48 * 1024 {
                let size = i32::try_from(launch.shared).expect("a small size");
                let what =
                    sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                result::function::set_function_attribute(function, what, size)?;
            }
            let stream = std::ptr::null_mut();
            let (grid, block) = ((launch.blocks, 1, 1), (launch.threads, 1, 1));
            result::launch_kernel(function, grid, block, launch.shared, stream, &mut parameters)?;
            result::stream::synchronize(stream)
        }
    }
}

pub(crate) struct Launch {
    pub(crate) image: std::path::PathBuf,
    pub(crate) kernel: &'static str,
    pub(crate) blocks: u32,
    pub(crate) threads: u32,
    pub(crate) shared: u32,
}
