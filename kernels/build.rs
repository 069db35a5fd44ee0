//! The kernels, for embedding: one fatbin per `kernels/<stem>.cu` where nvcc is found (sm_80 and
//! sm_90a machine code, and PTX for what comes later), and always the source with its headers in
//! it, for NVRTC. `ELECTRODE_CUDA` is `auto` (the default), `off` or `require`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{env, fs, thread};

/// Stems of this suffix are Hopper's alone.
const HOPPER: &str = "_sm90";

/// From the package `src/`, where cargo runs this.
const KERNELS: &str = "../kernels";

/// Writes `OUT_DIR/kernels.rs`: `STEMS`, see `src/device/cuda/images.rs`.
fn main() {
    println!("cargo:rerun-if-changed={KERNELS}");
    for name in
        ["ELECTRODE_CUDA", "ELECTRODE_NVCC", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "NVCC_CCBIN"]
    {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let stems = stems();
    let nvcc = match env::var("ELECTRODE_CUDA").as_deref() {
        Ok("off") => None,
        Ok("require") => Some(find_nvcc().expect(
            "ELECTRODE_CUDA=require, but nvcc is in none of ELECTRODE_NVCC, CUDA_HOME, CUDA_PATH, \
             PATH, /usr/local/cuda and VIRTUAL_ENV",
        )),
        Ok("auto") | Err(_) => find_nvcc(),
        Ok(other) => panic!("ELECTRODE_CUDA is {other}; it is auto, off or require"),
    };
    if let Some(nvcc) = &nvcc {
        compile_all(nvcc, &stems, &out);
    }
    let mut text = String::from("pub(super) static STEMS: &[Stem] = &[\n");
    for stem in &stems {
        let source = inline(&path_of(stem), &mut BTreeSet::new());
        let fatbin = match &nvcc {
            Some(_) => format!("Some(include_bytes!({:?}))", out.join(format!("{stem}.fatbin"))),
            None => "None".to_owned(),
        };
        let kernels = kernel_names(&source);
        writeln!(
            text,
            "Stem {{ name: {stem:?}, hopper: {}, fatbin: {fatbin}, source: {source:?}, \
             kernels: &{kernels:?} }},",
            stem.ends_with(HOPPER),
        )
        .expect("a String takes text");
    }
    text += "];\n";
    fs::write(out.join("kernels.rs"), text).expect("OUT_DIR is writable");
}

fn path_of(stem: &str) -> PathBuf {
    Path::new(KERNELS).join(format!("{stem}.cu"))
}

/// File names of `kernels/*.cu` without the ending, in order.
fn stems() -> Vec<String> {
    let entries = fs::read_dir(KERNELS).expect("kernels/ is part of the sources");
    let mut stems: Vec<String> = entries
        .map(|entry| entry.expect("kernels/ is readable").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "cu"))
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    stems.sort();
    stems
}

/// A source with its `#include "..."` lines replaced by those files, each once.
fn inline(path: &Path, seen: &mut BTreeSet<PathBuf>) -> String {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut out = String::new();
    for line in text.lines() {
        let included = line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"'));
        match included.map(|name| path.with_file_name(name)) {
            // The twins of the fake driver are no part of the product.
            Some(file) if file.exists() => {
                if seen.insert(file.clone()) {
                    out += &inline(&file, seen);
                }
            }
            Some(_) => {}
            None if line == "#pragma once" => {}
            None => {
                out += line;
                out.push('\n');
            }
        }
    }
    out
}

/// The entry points: first arguments of `KERNEL(` and `KERNEL_OF(` at the start of a line.
fn kernel_names(source: &str) -> Vec<&str> {
    source
        .lines()
        .filter_map(|line| line.strip_prefix("KERNEL(").or(line.strip_prefix("KERNEL_OF(")))
        .filter_map(|rest| rest.split(',').next())
        .map(str::trim)
        .collect()
}

/// nvcc of the environment, of the usual folder, or of NVIDIA's Python wheels.
fn find_nvcc() -> Option<PathBuf> {
    if let Some(nvcc) = env::var_os("ELECTRODE_NVCC") {
        let nvcc = PathBuf::from(nvcc);
        assert!(nvcc.exists(), "ELECTRODE_NVCC={} does not exist", nvcc.display());
        return Some(nvcc);
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os);
    let homes = homes.map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = env::split_paths(&path).collect();
    let wheels = env::var_os("VIRTUAL_ENV").into_iter().flat_map(|folder| {
        let lib = fs::read_dir(PathBuf::from(folder).join("lib")).into_iter().flatten().flatten();
        lib.map(|python| python.path().join("site-packages/nvidia/cu13/bin")).collect::<Vec<_>>()
    });
    homes
        .chain(path)
        .chain([PathBuf::from("/usr/local/cuda/bin")])
        .chain(wheels)
        .map(|folder| folder.join("nvcc"))
        .find(|nvcc| nvcc.is_file())
}

/// A fatbin of each stem, as many at a time as cargo allows jobs.
fn compile_all(nvcc: &Path, stems: &[String], out: &Path) {
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let queue = Mutex::new(stems.iter());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(stem) = { queue.lock().expect("no thread panics").next() } {
                    compile(nvcc, stem, &out.join(format!("{stem}.fatbin")));
                }
            });
        }
    });
}

fn compile(nvcc: &Path, stem: &str, fatbin: &Path) {
    let targets: &[&str] = if stem.ends_with(HOPPER) {
        &["arch=compute_90a,code=sm_90a"]
    } else {
        &[
            "arch=compute_80,code=sm_80",
            "arch=compute_80,code=compute_80",
            "arch=compute_90a,code=sm_90a",
        ]
    };
    let mut command = Command::new(nvcc);
    command.args(["-std=c++17", "-fatbin", "-Werror", "all-warnings"]);
    for target in targets {
        command.args(["-gencode", target]);
    }
    command.arg(path_of(stem)).arg("-o").arg(fatbin);
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", nvcc.display()));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}\nremedy: mend nvcc, or build with ELECTRODE_CUDA=off",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
