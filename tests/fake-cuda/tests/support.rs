//! A device of the fake driver as these tests use it, through the same library as the program.

use std::ffi::{CString, c_void};
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

use cudarc::driver::{DriverError, result, sys};
use fake_cuda::{Fake, Flavour, Order};

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
        fake.set_quiet(true);
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

/// Orders that tests of right kernels run in.
pub(crate) fn orders() -> Vec<Order> {
    let random = (1..4).map(Order::Random);
    [Order::Forward, Order::Reverse].into_iter().chain(random).collect()
}

/// What a mistake leads to.
#[derive(Clone, Copy)]
pub(crate) enum Caught {
    /// The launch fails, and its report holds all of these.
    Report(&'static [&'static str]),
    /// Wrong values or a report, in at least one of the orders.
    Wrong,
}

/// Runs a wrong kernel in several orders, each on a device of its own.
pub(crate) fn expect_caught(
    name: &str,
    caught: Caught,
    run: impl Fn(&Bench) -> Result<bool, String>,
) {
    if fake_cuda::flavour() == Flavour::Thread {
        eprintln!("skipped: {name} is right to be called a race; other flavours look at values");
        return;
    }
    let mut seen = Vec::new();
    for order in orders() {
        let Some(bench) = Bench::new() else { return };
        bench.fake.set_order(Some(order));
        seen.push(run(&bench));
        bench.fake.set_order(None);
        bench.fake.reset(bench.ordinal);
    }
    match caught {
        Caught::Wrong => assert!(seen.iter().any(|run| *run != Ok(true)), "{name}: not seen"),
        Caught::Report(parts) => {
            let whole = |run: &Result<bool, String>| {
                run.as_ref().is_err_and(|report| parts.iter().all(|part| report.contains(part)))
            };
            assert!(seen.iter().any(whole), "{name}: {seen:#?}");
        }
    }
}

/// Whether the library has this flavour; says so if not.
pub(crate) fn needs(flavour: Flavour) -> bool {
    let there = fake().is_some() && fake_cuda::flavour() == flavour;
    if !there {
        eprintln!("skipped: needs a build with the {flavour:?} flavour of fake-cuda");
    }
    there
}

/// Runs a test of this program in a process of its own; what it wrote to stderr.
pub(crate) fn run_child(test: &str, argument: &str) -> String {
    run_child_with(test, argument, &[])
}

/// The same with more of an environment.
pub(crate) fn run_child_with(test: &str, argument: &str, more: &[(&str, &str)]) -> String {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("FAKE_CUDA_CHILD", argument)
        .envs(more.iter().copied())
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .output()
        .expect("this program runs again");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
