//! Kernels and their host code in sight of each other: stems agree, and argument structs have the
//! same fields in the same order with types of the same size.
//! Oracle: the two texts. Each check is also shown a text that breaks it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(name: &str, ending: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(name)).expect("a folder of the repository");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| ending.iter().any(|want| e == *want)))
        .collect();
    found.sort();
    found
}

/// Name and size of a field's type.
type Field = (String, &'static str);

fn size(ty: &str) -> &'static str {
    match ty.trim() {
        ty if ty.contains('*') => "pointer",
        "Ptr" => "pointer",
        "u64" => "u64",
        "u32" => "u32",
        "i32" => "i32",
        "float" | "f32" => "f32",
        "TensorMap" => "map",
        "AttentionArgs" => "attention",
        "PastArgs" => "past",
        other => panic!("no argument has type {other:?}"),
    }
}

/// `struct XArgs { ... };` of a kernel file, by name.
fn of_cuda(text: &str) -> BTreeMap<String, Vec<Field>> {
    let mut structs = BTreeMap::new();
    for part in text.split("\nstruct ").skip(1) {
        let (name, rest) = part.split_once('{').expect("a body");
        let name = name.trim().to_owned();
        if !name.ends_with("Args") {
            continue;
        }
        let body = rest.split("\n}").next().expect("a body");
        let lines = body.lines().map(|line| line.split("//").next().unwrap_or(""));
        let fields = lines.flat_map(|line| line.split(';')).map(str::trim);
        let fields = fields.filter(|field| !field.is_empty()).flat_map(|field| {
            // `u32 a, b` and `const T* a`.
            let (ty, _) =
                field.split_once(',').unwrap_or((field, "")).0.rsplit_once(' ').expect("a name");
            let names = field.strip_prefix(ty).expect("it begins so");
            let ty = size(ty);
            names.split(',').map(move |name| (name.trim().to_owned(), ty)).collect::<Vec<_>>()
        });
        structs.insert(name, fields.collect());
    }
    structs
}

/// The struct of each `args! { struct XArgs { ... } }`, by name.
fn of_rust(text: &str) -> BTreeMap<String, Vec<Field>> {
    let mut structs = BTreeMap::new();
    for part in text.split("\nargs! {").skip(1) {
        let rest = part.split_once("struct ").expect("a struct").1;
        let (name, body) = rest.split_once('{').expect("a body");
        let body = body.split('}').next().expect("a body");
        let lines = body.lines().map(|line| line.split("//").next().unwrap_or(""));
        let fields = lines.flat_map(|line| line.split(',')).map(str::trim);
        let fields = fields.filter(|field| !field.is_empty()).map(|field| {
            let (name, ty) = field.split_once(':').expect("a type");
            (name.trim().to_owned(), size(ty))
        });
        structs.insert(name.trim().to_owned(), fields.collect());
    }
    structs
}

fn all(
    paths: &[PathBuf],
    read: impl Fn(&str) -> BTreeMap<String, Vec<Field>>,
) -> BTreeMap<String, Vec<Field>> {
    let mut found = BTreeMap::new();
    for path in paths {
        found.extend(read(&fs::read_to_string(path).expect("readable")));
    }
    found
}

#[test]
fn argument_structs_are_the_same_on_both_sides() {
    let kernels = all(&files("kernels", &["cu", "cuh"]), of_cuda);
    let host = all(&files("src/device/cuda", &["rs"]), of_rust);
    assert!(kernels.len() >= 12, "{:?}", kernels.keys());
    assert_eq!(kernels, host);
    let cuda = "\nstruct AArgs {\n    const u8* x;  // here\n    u32 a, b;\n};\n";
    let rust = "\nargs! {\n    /// Doc.\n    struct AArgs { x: Ptr, a: u32, b: u32 }\n}\n";
    assert_eq!(of_cuda(cuda), of_rust(rust));
    assert_ne!(of_cuda(cuda), of_rust(&rust.replace("a: u32, b: u32", "b: u32, a: u32")));
    assert_ne!(of_cuda(cuda), of_rust(&rust.replace("b: u32", "b: f32")));
}

#[test]
fn every_kernel_file_has_its_host_code() {
    let stem = |path: &PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let host: Vec<String> = files("src/device/cuda", &["rs"]).iter().map(stem).collect();
    for kernel in files("kernels", &["cu"]).iter().map(stem) {
        // `gemm_sm90` and `attention_flash` are further implementations behind the stem's file.
        let found =
            host.iter().any(|host| kernel == *host || kernel.starts_with(&format!("{host}_")));
        assert!(found, "kernels/{kernel}.cu has no file in src/device/cuda");
    }
}
