//! Puts the git hash into the program. Without a repository of its own (a source archive, or a copy
//! inside someone else's repository) it is "unknown". Kernels are the matter of `kernels/build.rs`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rustc-env=ELECTRODE_GIT_HASH={}", hash().unwrap_or("unknown".to_owned()));
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src");
    // The branch moves without HEAD changing; both files are watched.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
}

/// Twelve digits of the commit, and `-dirty` where tracked files differ from it.
fn hash() -> Option<String> {
    let root = git(&["rev-parse", "--show-toplevel"])?;
    let ours = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    if Path::new(&root).canonicalize().ok()? != Path::new(&ours).canonicalize().ok()? {
        return None;
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    if !output.status.success() {
        return None;
    }
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
