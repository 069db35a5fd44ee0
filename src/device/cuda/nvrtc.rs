//! NVRTC: NVIDIA's run-time compiler, found by name when it is needed.
#![expect(unsafe_code, reason = "a C library")]

use std::ffi::CString;

use cudarc::nvrtc::{result, sys};

use crate::error::{Error, Result};

/// Whether the library is installed. Anything else here panics if it is not.
pub(super) fn present() -> bool {
    // SAFETY: opening libnvrtc runs no code but its own constructors.
    unsafe { sys::is_culib_present() }
}

/// What the machine code is for: code of the exact architecture, so that the versions of PTX and
/// driver need not agree.
pub(super) fn target((major, minor): (u32, u32)) -> String {
    let suffix = if (major, minor) == (9, 0) { "a" } else { "" };
    format!("sm_{major}{minor}{suffix}")
}

/// The version of the compiler.
pub(super) fn version() -> Result<(i32, i32)> {
    if !present() {
        return Err(missing());
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is there, and both pointers are to integers of this frame.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }
        .result()
        .map_err(|error| failed("nvrtcVersion", &error))?;
    Ok((major, minor))
}

/// Compiles a source to machine code.
pub(super) fn compile(name: &str, source: &str, target: &str) -> Result<Vec<u8>> {
    if !present() {
        return Err(missing());
    }
    let text = CString::new(source).expect("kernels hold no NUL");
    let program = result::create_program(&text, None).map_err(|error| failed(name, &error))?;
    let options = ["--std=c++17".to_owned(), format!("--gpu-architecture={target}")];
    // SAFETY: `program` was just made, and is destroyed below, after its last use.
    let compiled = unsafe { result::compile_program(program, &options) };
    let image = match compiled {
        // SAFETY: as above; `cubin` sizes its buffer by the library's own answer.
        Ok(()) => unsafe { cubin(program) }.map_err(|error| failed(name, &error)),
        Err(error) => {
            // SAFETY: as above.
            let log = unsafe { result::get_program_log(program) }.unwrap_or_default();
            let log: String = log.iter().map(|&c| char::from(c.to_ne_bytes()[0])).collect();
            Err(failed(&format!("{name}.cu for {target}"), &format!("{error}\n{log}")))
        }
    };
    // SAFETY: as above.
    if let Err(error) = unsafe { result::destroy_program(program) } {
        tracing::debug!(%error, "nvrtcDestroyProgram");
    }
    image
}

/// # Safety
/// `program` has been compiled and not destroyed.
unsafe fn cubin(program: sys::nvrtcProgram) -> std::result::Result<Vec<u8>, result::NvrtcError> {
    let mut size = 0;
    // SAFETY: the program is alive, as the caller promises.
    unsafe { sys::nvrtcGetCUBINSize(program, &raw mut size) }.result()?;
    let mut image = vec![0_u8; size];
    // SAFETY: the buffer has the size just asked for.
    unsafe { sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()) }.result()?;
    Ok(image)
}

fn missing() -> Error {
    Error::config(
        "device",
        "the kernels are not compiled and NVRTC is not installed",
        "install libnvrtc, or build electrode where nvcc is found",
    )
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Contradiction { what: format!("NVRTC, {what}: {error}") }
}
