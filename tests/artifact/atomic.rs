//! Oracle: the folder's own listing.

use std::io::Write;
use std::path::Path;

use electrode::artifact::atomic::{remove_leftovers, write_atomic, write_bytes_atomic};
use electrode::artifact::rows::NeuronRow;
use electrode::artifact::tables::write_neurons;
use electrode::error::Error;

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("lists");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("lists").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn an_error_leaves_nothing_and_the_old_file_stays() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let path = folder.path().join("result.bin");
    let fail = |path: &Path| {
        let failed = write_atomic(path, |writer| {
            writer.write_all(&[7; 1 << 20]).expect("a temporary file takes a megabyte");
            Err::<(), _>(Error::config("a", "b", "c"))
        });
        assert!(matches!(failed, Err(Error::Config { .. })));
    };
    fail(&path);
    assert_eq!(names(folder.path()), Vec::<String>::new());
    write_bytes_atomic(&path, b"first").expect("writes");
    fail(&path);
    assert_eq!(std::fs::read(&path).expect("reads"), b"first");
    write_bytes_atomic(&path, b"second").expect("writes");
    assert_eq!(std::fs::read(&path).expect("reads"), b"second");
    assert_eq!(names(folder.path()), ["result.bin"]);
}

#[test]
fn a_panic_of_the_row_source_leaves_nothing() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let path = folder.path().join("neurons.parquet");
    let rows = std::iter::from_fn(|| -> Option<NeuronRow> { panic!("a broken invariant") });
    let result = std::panic::catch_unwind(|| write_neurons(&path, "run", rows));
    assert!(result.is_err());
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn a_missing_folder_is_named() {
    let path = Path::new("no/such/folder/result.bin");
    let error = write_bytes_atomic(path, b"x").expect_err("there is no such folder");
    assert!(error.to_string().contains("no/such/folder/result.bin"), "{error}");
    assert_eq!(error.exit_code(), 74);
}

#[test]
fn leftovers_of_killed_processes_go_and_nothing_else() {
    let folder = tempfile::tempdir().expect("makes a folder");
    for name in [".electrode-Ab12.tmp", ".electrode-Ab12", "a.tmp", "neurons.parquet"] {
        std::fs::write(folder.path().join(name), b"x").expect("writes");
    }
    assert_eq!(remove_leftovers(folder.path()).expect("removes"), 1);
    assert_eq!(names(folder.path()), [".electrode-Ab12", "a.tmp", "neurons.parquet"]);
}

/// Results are for whoever the umask allows, as files of other programs are.
#[cfg(unix)]
#[test]
fn the_file_has_the_permissions_of_other_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("makes a folder");
    let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
    write_bytes_atomic(&ours, b"x").expect("writes");
    std::fs::write(&plain, b"x").expect("writes");
    let mode = |path: &Path| std::fs::metadata(path).expect("stands").permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}

#[cfg(unix)]
#[test]
fn a_link_is_followed_and_a_device_is_refused() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    std::fs::write(&target, b"old").expect("writes");
    std::os::unix::fs::symlink("target", &link).expect("links");
    write_bytes_atomic(&link, b"new").expect("writes");
    assert!(link.is_symlink());
    assert_eq!(std::fs::read(&target).expect("reads"), b"new");
    let refused = write_bytes_atomic(Path::new("/dev/null"), b"x").expect_err("no file");
    assert_eq!(refused.exit_code(), 2);
    assert!(refused.to_string().contains("not a regular file"), "{refused}");
    assert!(!std::fs::metadata("/dev/null").expect("it is there").is_file());
}
