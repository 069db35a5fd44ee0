//! A CUDA driver for machines without a GPU: `libcuda.so.1` runs our kernels, compiled as host C++,
//! with one fiber per CUDA thread. What it is for and how to steer it: README.md.

use std::ffi::{CStr, CString, c_char, c_int, c_longlong, c_ulonglong, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const OUT: &str = env!("FAKE_CUDA_OUT");
const COMPILER: &str = env!("FAKE_CUDA_COMPILER");
const SANITIZE: &str = env!("FAKE_CUDA_SANITIZE");
const PRELOAD: &str = env!("FAKE_CUDA_PRELOAD");

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}
const RTLD_NOW: c_int = 2;
const RTLD_GLOBAL: c_int = 0x100;

/// Which checks the library was built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// None but the engine's own.
    Plain,
    /// Addresses and undefined behaviour.
    Address,
    /// Races between CUDA threads.
    Thread,
}

/// The order in which the threads of a block take turns, and the blocks of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they are numbered.
    Forward,
    /// From the last to the first.
    Reverse,
    /// Drawn from this seed at every switch.
    Random(u64),
}

/// What a device has done since the start, or since [`Fake::reset`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernels launched.
    pub launches: u64,
    /// Bytes copied between the host and the device.
    pub copied: u64,
    /// Bytes allocated now.
    pub allocated: u64,
}

/// The fake driver, loaded into this process.
#[derive(Debug)]
pub struct Fake {
    library: usize,
}

/// Loads the driver, once per process, so that a later `dlopen("libcuda.so.1")` or
/// `dlopen("libcuda.so")` by any part of the program finds it. `None` where the build found no C++
/// compiler. Every process of a test calls this before it touches CUDA.
pub fn install() -> Option<&'static Fake> {
    static FAKE: OnceLock<Fake> = OnceLock::new();
    if COMPILER.is_empty() {
        return None;
    }
    Some(FAKE.get_or_init(|| {
        if flavour() != Flavour::Plain {
            let there = std::env::var("LD_PRELOAD").is_ok_and(|list| list.contains(PRELOAD));
            assert!(there, "the fake driver is built for a sanitizer: set LD_PRELOAD={PRELOAD}");
        }
        // The second library is a name for the first; both stay loaded.
        let library = open(&Path::new(OUT).join("libcuda.so.1"));
        open(&Path::new(OUT).join("libcuda.so"));
        Fake { library }
    }))
}

fn open(path: &Path) -> usize {
    let name = CString::new(path.to_str().expect("a UTF-8 path")).expect("no zeros in a path");
    // SAFETY: a library of our own, whose initialisers only set up memory.
    let library = unsafe { dlopen(name.as_ptr(), RTLD_NOW | RTLD_GLOBAL) };
    if library.is_null() {
        // SAFETY: after a failure dlerror gives a string that lives until the next call.
        let why = unsafe { CStr::from_ptr(dlerror()) };
        panic!("{}: {}", path.display(), why.to_string_lossy());
    }
    library as usize
}

/// Why tests that need the driver are skipped, if they are.
pub fn reason_for_none() -> &'static str {
    "no C++ compiler was found when fake-cuda was built (CXX, g++ or c++)"
}

/// What the library was built with.
pub fn flavour() -> Flavour {
    match SANITIZE {
        "address" => Flavour::Address,
        "thread" => Flavour::Thread,
        _ => Flavour::Plain,
    }
}

/// The library that a process has to preload in a sanitized flavour.
pub fn preload() -> Option<&'static Path> {
    if PRELOAD.is_empty() { None } else { Some(Path::new(PRELOAD)) }
}

/// For `LD_LIBRARY_PATH` of processes that a test starts: the fake driver.
pub fn library_dir() -> &'static Path {
    Path::new(OUT)
}

/// A driver that only says that it is a stub (cuInit gives 34).
pub fn stub_dir() -> PathBuf {
    library_dir().join("stub")
}

/// A driver with a device and hardly any function.
pub fn old_dir() -> PathBuf {
    library_dir().join("old")
}

/// The same for the kernels with planted mistakes.
pub fn mutants() -> PathBuf {
    library_dir().join("mutants")
}

/// And for those that run one wrapper each (`tests/kernels/cuda/conformance/`).
pub fn conformance() -> PathBuf {
    library_dir().join("conformance")
}

impl Fake {
    /// One `<stem>.bin` for each `kernels/<stem>.cu`.
    pub fn images() -> &'static Path {
        Path::new(concat!(env!("FAKE_CUDA_OUT"), "/images"))
    }

    fn control(&self, name: &CStr) -> *mut c_void {
        // SAFETY: the library stays loaded, and the name ends in a zero.
        let found = unsafe { dlsym(self.library as *mut c_void, name.as_ptr()) };
        assert!(!found.is_null(), "the fake driver has no {name:?}");
        found
    }

    /// The number of devices from now on (at most 64); before the program counts them.
    pub fn set_devices(&self, count: i32) {
        // SAFETY: the function has this type in state.cpp.
        let call: extern "C" fn(c_int) =
            unsafe { std::mem::transmute(self.control(c"fakecuda_set_devices")) };
        call(count);
    }

    /// After so many more launches every call on the device returns `code` (719: a kernel failed).
    pub fn fail(&self, device: i32, launches: u64, code: i32) {
        // SAFETY: the function has this type in state.cpp.
        let call: extern "C" fn(c_int, c_longlong, c_int) =
            unsafe { std::mem::transmute(self.control(c"fakecuda_fail")) };
        call(device, launches.try_into().unwrap_or(c_longlong::MAX), code);
    }

    /// How much memory the device has.
    pub fn set_memory(&self, device: i32, bytes: u64) {
        // SAFETY: the function has this type in state.cpp.
        let call: extern "C" fn(c_int, c_ulonglong) =
            unsafe { std::mem::transmute(self.control(c"fakecuda_memory")) };
        call(device, bytes);
    }

    /// The order of threads in launches of the calling host thread; `None`: as `FAKECUDA_ORDER` says.
    pub fn set_order(&self, order: Option<Order>) {
        let (name, seed) = match order {
            None => (std::ptr::null(), 0),
            Some(Order::Forward) => (c"forward".as_ptr(), 0),
            Some(Order::Reverse) => (c"reverse".as_ptr(), 0),
            Some(Order::Random(seed)) => (c"random".as_ptr(), seed),
        };
        // SAFETY: the function has this type in state.cpp.
        let call: extern "C" fn(*const c_char, c_ulonglong) =
            unsafe { std::mem::transmute(self.control(c"fakecuda_order")) };
        call(name, seed);
    }

    /// Keeps reports of calls by this host thread from stderr: for tests that expect them.
    pub fn set_quiet(&self, on: bool) {
        // SAFETY: the function has this type in state.cpp.
        let call: extern "C" fn(c_int) =
            unsafe { std::mem::transmute(self.control(c"fakecuda_quiet")) };
        call(c_int::from(on));
    }

    /// Mends the device: no failure, no report, counters at 0, its first memory size.
    pub fn reset(&self, device: i32) {
        // SAFETY: the function has this type in state.cpp.
        let call: extern "C" fn(c_int) =
            unsafe { std::mem::transmute(self.control(c"fakecuda_reset")) };
        call(device);
    }

    /// What the device has done.
    pub fn counters(&self, device: i32) -> Counters {
        // SAFETY: the function has this type in state.cpp and writes three numbers.
        let call: extern "C" fn(c_int, *mut u64) -> c_int =
            unsafe { std::mem::transmute(self.control(c"fakecuda_counters")) };
        let mut out = [0; 3];
        assert_eq!(call(device, out.as_mut_ptr()), 0, "no device {device}");
        Counters { launches: out[0], copied: out[1], allocated: out[2] }
    }

    /// Why the device broke, or what was wrong last in a call on it.
    pub fn report(&self, device: i32) -> String {
        // SAFETY: the function has this type in state.cpp and writes at most as much as it is told.
        let call: extern "C" fn(c_int, *mut u8, usize) -> usize =
            unsafe { std::mem::transmute(self.control(c"fakecuda_report")) };
        let mut text = vec![0; 64 * 1024];
        let length = call(device, text.as_mut_ptr(), text.len()).min(text.len() - 1);
        text.truncate(length);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// What was wrong last in a call of this thread, or of any if this one has seen nothing.
    pub fn last_report(&self) -> String {
        // SAFETY: the function has this type in state.cpp; its string lives until the thread's next call.
        let call: extern "C" fn() -> *const c_char =
            unsafe { std::mem::transmute(self.control(c"fakecuda_last_report")) };
        // SAFETY: a string that ends in a zero.
        unsafe { CStr::from_ptr(call()) }.to_string_lossy().into_owned()
    }
}
