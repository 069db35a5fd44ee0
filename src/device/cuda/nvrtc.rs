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
    let (image, remarks) = compile_with_remarks(name, source, target)?;
    if !remarks.is_empty() {
        tracing::debug!(name, target, remarks, "NVRTC");
    }
    Ok(image)
}

/// The machine code, and what the compiler has to say about the source.
fn compile_with_remarks(name: &str, source: &str, target: &str) -> Result<(Vec<u8>, String)> {
    if !present() {
        return Err(missing());
    }
    let text = CString::new(source).expect("kernels hold no NUL");
    let program = result::create_program(&text, None).map_err(|error| failed(name, &error))?;
    // Unlike nvcc, NVRTC takes the body of a generic lambda for a function of the host otherwise.
    let options = [
        "--std=c++17".to_owned(),
        "--device-as-default-execution-space".to_owned(),
        format!("--gpu-architecture={target}"),
    ];
    // SAFETY: `program` was just made, and is destroyed below, after its last use.
    let compiled = unsafe { result::compile_program(program, &options) };
    // SAFETY: as above.
    let log = unsafe { result::get_program_log(program) }.unwrap_or_default();
    let log: String = log.iter().map(|&c| char::from(c.to_ne_bytes()[0])).collect();
    let log = log.trim_end_matches(['\0', '\n']).to_owned();
    let image = match compiled {
        // SAFETY: as above; `cubin` sizes its buffer by the library's own answer.
        Ok(()) => unsafe { cubin(program) }.map_err(|error| failed(name, &error)),
        Err(error) => Err(failed(&format!("{name}.cu for {target}"), &format!("{error}\n{log}"))),
    };
    // SAFETY: as above.
    if let Err(error) = unsafe { result::destroy_program(program) } {
        tracing::debug!(%error, "nvrtcDestroyProgram");
    }
    Ok((image?, log))
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

#[cfg(test)]
mod tests {
    //! Oracle: the compiler itself. An image must hold each entry point and what it publishes,
    //! which nothing in the source refers to.

    use super::super::images::STEMS;
    use super::*;

    fn holds(image: &[u8], name: &str) -> bool {
        let name = [b"\0", name.as_bytes(), b"\0"].concat();
        image.windows(name.len()).any(|window| window == name)
    }

    #[test]
    fn every_stem_compiles() {
        if !present() {
            eprintln!("skipped: kernels by NVRTC: libnvrtc is not installed");
            return;
        }
        for stem in STEMS {
            for arch in [(8, 0), (9, 0)] {
                if stem.hopper && arch != (9, 0) {
                    continue;
                }
                let target = target(arch);
                let done = compile_with_remarks(stem.name, stem.source, &target);
                let (image, remarks) = done.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(remarks, "", "{} for {target}", stem.name);
                assert!(image.starts_with(b"\x7fELF"), "{} for {target}", stem.name);
                for kernel in stem.kernels {
                    for symbol in [(*kernel).to_owned(), format!("{kernel}_published")] {
                        assert!(holds(&image, &symbol), "{} for {target}: {symbol}", stem.name);
                    }
                }
            }
        }
        eprintln!("{} stems compiled by NVRTC {:?}", STEMS.len(), version().expect("it is there"));
    }

    #[test]
    fn a_failure_says_where() {
        if !present() {
            return;
        }
        let error = compile("wrong", "__global__ void f() {\n  missing();\n}\n", "sm_80");
        let text = error.expect_err("it is wrong").to_string();
        assert!(text.contains("wrong.cu for sm_80") && text.contains("(2)"), "{text}");
        assert!(text.contains("missing"), "{text}");
    }
}
