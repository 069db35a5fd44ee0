//! A GPU for the tests: the fake driver's (tests/fake-cuda), or a real one if
//! `ELECTRODE_TEST_GPU=real`.

use std::path::Path;
use std::process::Command;

use electrode::device::cuda::{CudaDevice, Element, Images, probe};

/// The number of devices the fake driver shows.
pub(crate) const DEVICES: u32 = 8;

/// Whether the tests run on a real GPU.
pub(crate) fn real() -> bool {
    std::env::var("ELECTRODE_TEST_GPU").is_ok_and(|value| value == "real")
}

/// Where the kernels' code is; `None` says that CUDA tests are skipped, and why.
pub(crate) fn images() -> Option<Images> {
    static LOADED: std::sync::OnceLock<Option<Images>> = std::sync::OnceLock::new();
    LOADED
        .get_or_init(|| {
            if real() {
                return Some(Images::from_env());
            }
            let Some(fake) = fake_cuda::install() else {
                eprintln!("skipped: tests of kernels: {}", fake_cuda::reason_for_none());
                return None;
            };
            fake.set_devices(DEVICES.cast_signed());
            let images = Images::Folder(fake_cuda::Fake::images().to_path_buf());
            // As a run does, so that each test may stand alone: it is what starts the driver.
            if let Err(missing) = probe(&images) {
                panic!("the fake driver has devices: {missing}");
            }
            Some(images)
        })
        .clone()
}

/// A device of its own for one test.
pub(crate) fn device(element: Element) -> Option<CudaDevice> {
    nth(0, element)
}

/// One of several.
pub(crate) fn nth(index: u32, element: Element) -> Option<CudaDevice> {
    let images = images()?;
    probe(&images).unwrap_or_else(|missing| panic!("{missing}"));
    Some(CudaDevice::open(index, element, &images).expect("the device opens"))
}

/// Runs a test in both types of tensors.
pub(crate) fn on_both(test: impl Fn(&CudaDevice, Element)) {
    for element in [Element::F32, Element::Bf16] {
        if let Some(device) = device(element) {
            test(&device, element);
        }
    }
}

/// Gives a command the fake driver, or one of its siblings, in this folder; false says that tests
/// are skipped, and why.
pub(crate) fn give_driver(command: &mut Command, folder: &Path) -> bool {
    if !fake_cuda::library_dir().join("libcuda.so.1").exists() {
        eprintln!("skipped: {}", fake_cuda::reason_for_none());
        return false;
    }
    command.env("LD_LIBRARY_PATH", folder);
    command.env("ELECTRODE_KERNEL_IMAGES", fake_cuda::Fake::images());
    command.env_remove("CUDA_VISIBLE_DEVICES");
    if let Some(library) = fake_cuda::preload() {
        command.env("LD_PRELOAD", library);
    }
    true
}
