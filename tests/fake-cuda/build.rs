//! Compiles the fake driver and, for each kernel file, an image of host code; all with the C++
//! compiler of the machine. Without one the crate is empty and says so.
//!
//! `FAKECUDA_SANITIZE=address` or `thread` makes the flavours that a sanitizer watches.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::SystemTime;

struct Build {
    compiler: String,
    flags: Vec<String>,
    source: PathBuf,
    kernels: PathBuf,
    out: PathBuf,
}

fn main() {
    for name in ["CXX", "FAKECUDA_SANITIZE"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let kernels = root.join("../../kernels");
    let mutants = root.join("mutants");
    let conformance = root.join("../kernels/cuda/conformance");
    for folder in [&root.join("src"), &kernels, &mutants, &conformance, &root.join("build.rs")] {
        println!("cargo:rerun-if-changed={}", folder.display());
    }
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let sanitize = env::var("FAKECUDA_SANITIZE").unwrap_or_default();
    println!("cargo:rustc-env=FAKE_CUDA_OUT={}", out.display());
    println!("cargo:rustc-env=FAKE_CUDA_SANITIZE={sanitize}");
    let Some(compiler) = compiler() else {
        println!("cargo:rustc-env=FAKE_CUDA_COMPILER=");
        println!("cargo:rustc-env=FAKE_CUDA_PRELOAD=");
        return;
    };
    println!("cargo:rustc-env=FAKE_CUDA_COMPILER={compiler}");
    println!("cargo:rustc-env=FAKE_CUDA_PRELOAD={}", preload(&compiler, &sanitize));
    let build = Build { compiler, flags: flags(&sanitize), source: root.join("src"), kernels, out };
    build.forget_other_flavours();
    build.driver();
    build.other_drivers();
    build.images(&build.kernels.clone(), "images");
    build.images(&mutants, "mutants");
    build.images(&conformance, "conformance");
}

/// `$CXX`, or the usual names, if it runs; the driver needs Linux as well.
fn compiler() -> Option<String> {
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return None;
    }
    let given = env::var("CXX").ok();
    let names = given.into_iter().chain(["g++".to_owned(), "c++".to_owned()]);
    names.into_iter().find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    })
}

/// The sanitizer's own library: a program that is not built for it has to load it first.
fn preload(compiler: &str, sanitize: &str) -> String {
    let name = match sanitize {
        "" => return String::new(),
        "address" => "libasan.so",
        "thread" => "libtsan.so",
        other => panic!("FAKECUDA_SANITIZE is address or thread, not {other}"),
    };
    let asked = Command::new(compiler).arg(format!("-print-file-name={name}")).output();
    let text = asked.expect("the compiler ran before").stdout;
    String::from_utf8(text).expect("a path").trim().to_owned()
}

fn flags(sanitize: &str) -> Vec<String> {
    // Sums in the order of the text, no fused multiplications: what the text says is what runs.
    let mut flags = "-std=c++17 -O2 -fPIC -fno-strict-aliasing -ffp-contract=off -fno-math-errno \
                     -fno-trapping-math -fno-gnu-unique -Wall -Wextra -Wno-unknown-pragmas \
                     -Wno-missing-field-initializers"
        .split_whitespace()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    match sanitize {
        "address" => flags.extend(
            ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1"].map(str::to_owned),
        ),
        // Kernels are instrumented, the driver is not: it says itself what it does.
        "thread" => flags.extend(["-g1", "-DFAKE_TSAN=1"].map(str::to_owned)),
        _ => {}
    }
    flags
}

fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == suffix));
    found.sort();
    found
}

fn stem(path: &Path) -> String {
    path.file_stem().and_then(|name| name.to_str()).expect("a UTF-8 name").to_owned()
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

/// Whether `made` is younger than all of `from`.
fn is_fresh(made: &Path, from: &[PathBuf]) -> bool {
    let Some(time) = changed(made) else { return false };
    from.iter().all(|path| changed(path).is_some_and(|other| other < time))
}

/// Runs all jobs, as many at once as there are processors.
fn in_parallel<T: Sync>(jobs: &[T], work: impl Fn(&T) + Sync) {
    let next = Mutex::new(jobs.iter());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = { next.lock().expect("no job panics holding it").next() } {
                    work(job);
                }
            });
        }
    });
}

impl Build {
    /// Objects made with other flags are of no use.
    fn forget_other_flavours(&self) {
        let stamp = self.out.join("flags");
        let now = format!("{} {}", self.compiler, self.flags.join(" "));
        if fs::read_to_string(&stamp).is_ok_and(|before| before == now) {
            return;
        }
        for folder in ["objects", "images", "mutants", "conformance", "stub", "old"] {
            let _ = fs::remove_dir_all(self.out.join(folder));
        }
        fs::write(stamp, now).expect("OUT_DIR is writable");
    }

    fn run(&self, arguments: &[String]) -> Vec<u8> {
        let output = Command::new(&self.compiler).args(&self.flags).args(arguments).output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", self.compiler));
        assert!(
            output.status.success(),
            "{} {}\n{}",
            self.compiler,
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.out.join(name);
        fs::create_dir_all(&folder).expect("OUT_DIR is writable");
        folder
    }

    /// libcuda.so.1, and libcuda.so which only names it: programs look for either.
    fn driver(&self) {
        let objects = self.folder("objects");
        let headers = files(&self.source, "hpp");
        let sources = files(&self.source, "cpp");
        let object = |source: &PathBuf| objects.join(stem(source) + ".o");
        in_parallel(&sources, |source| {
            let made = object(source);
            let from: Vec<_> = headers.iter().chain([source]).cloned().collect();
            if !is_fresh(&made, &from) {
                self.run(&[
                    "-fvisibility=hidden".into(),
                    "-O3".into(),
                    "-c".into(),
                    source.display().to_string(),
                    "-o".into(),
                    made.display().to_string(),
                ]);
            }
        });
        let mut arguments = vec!["-shared".into(), "-Wl,-soname,libcuda.so.1".into()];
        if self.flags.iter().all(|flag| !flag.starts_with("-fsanitize")) {
            arguments.extend(["-static-libstdc++", "-static-libgcc"].map(str::to_owned));
        }
        arguments.extend(sources.iter().map(|source| object(source).display().to_string()));
        arguments.extend(["-ldl".into(), "-lpthread".into(), "-o".into()]);
        arguments.push(self.out.join("libcuda.so.1").display().to_string());
        self.run(&arguments);
        self.library("", "libcuda.so", &["-Wl,--no-as-needed", "-l:libcuda.so.1"]);
    }

    /// A library from one line of C++, in `folder`.
    fn library(&self, text: &str, name: &str, more: &[&str]) {
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        let to = self.folder(folder).join(file);
        let source = to.with_extension("cpp");
        fs::write(&source, text).expect("OUT_DIR is writable");
        let mut arguments: Vec<String> =
            vec!["-shared".into(), format!("-Wl,-soname,{file}"), source.display().to_string()];
        arguments.extend([format!("-L{}", self.out.display()), "-Wl,-rpath,$ORIGIN".into()]);
        arguments.extend(more.iter().map(|flag| (*flag).to_owned()));
        arguments.extend(["-o".into(), to.display().to_string()]);
        self.run(&arguments);
    }

    /// Drivers that a program must refuse without falling over: the stub that toolkits come with,
    /// and one too old to know most functions.
    fn other_drivers(&self) {
        self.library("extern \"C\" int cuInit(unsigned) { return 34; }", "stub/libcuda.so.1", &[]);
        let old = "extern \"C\" {
            int cuInit(unsigned) { return 0; }
            int cuDriverGetVersion(int* out) { *out = 9000; return 0; }
            int cuDeviceGetCount(int* out) { *out = 1; return 0; }
            int cuDeviceGet(int* out, int i) { *out = i; return 0; }
        }";
        self.library(old, "old/libcuda.so.1", &[]);
    }

    /// One image per kernel file: the file, and the table of its entry points.
    fn images(&self, folder: &Path, name: &str) {
        let to = self.folder(name);
        let mut shared = files(&self.kernels, "cuh");
        shared.extend(files(&self.source, "hpp"));
        shared.extend(files(folder, "cuh"));
        in_parallel(&files(folder, "cu"), |source| {
            let made = to.join(stem(source) + ".bin");
            let from: Vec<_> = shared.iter().chain([source]).cloned().collect();
            if !is_fresh(&made, &from) {
                self.image(source, &made);
            }
        });
    }

    fn image(&self, source: &Path, made: &Path) {
        let include = |folder: &Path| format!("-I{}", folder.display());
        let common = ["-DEL_HOST".to_owned(), include(&self.kernels), include(&self.source)];
        let mut scan = common.to_vec();
        scan.extend(["-DFAKE_SCAN", "-E", "-P", "-xc++"].map(str::to_owned));
        scan.push(source.display().to_string());
        let text = self.run(&scan);
        let names = entry_points(&String::from_utf8_lossy(&text));
        assert!(!names.is_empty(), "{} has no KERNEL", source.display());
        let mut table = format!("#include \"{}\"\n", source.display());
        table += "extern \"C\" const fake::Entry fakecuda_entries[] = {\n";
        for name in &names {
            table += &format!("    fake::Trampoline<&{name}>::entry(\"{name}\"),\n");
        }
        table += "};\nextern \"C\" const unsigned fakecuda_entry_count = ";
        table += &format!("{};\n", names.len());
        let generated = made.with_extension("cpp");
        fs::write(&generated, table).expect("OUT_DIR is writable");
        let mut arguments = common.to_vec();
        if self.flags.iter().any(|flag| flag.contains("FAKE_TSAN")) {
            arguments.push("-fsanitize=thread".to_owned());
        }
        arguments.extend(
            ["-fno-exceptions", "-Wno-unused-function", "-Wno-unused-variable", "-shared"]
                .map(str::to_owned),
        );
        arguments.extend([
            "-Wl,-Bsymbolic".to_owned(),
            generated.display().to_string(),
            format!("-L{}", self.out.display()),
            "-l:libcuda.so.1".to_owned(),
            "-o".to_owned(),
            made.display().to_string(),
        ]);
        self.run(&arguments);
    }
}

/// The functions marked as kernels in preprocessed text.
fn entry_points(text: &str) -> Vec<String> {
    let name = |after: &str| {
        let head = after.split('(').next().unwrap_or_default();
        head.split_whitespace().last().unwrap_or_default().to_owned()
    };
    text.split("FAKE_KERNEL").skip(1).map(name).filter(|name| !name.is_empty()).collect()
}
