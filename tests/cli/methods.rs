//! `electrode methods` and the page made from it. Oracle: the page as it was read and committed.

use std::path::Path;

use electrode::methods::METHODS;

/// `UPDATE=1 cargo test --test main the_page_of_methods` writes the page again.
#[test]
fn the_page_of_methods_is_current() {
    let made = super::run(&["methods", "--markdown"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/methods.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made.stdout).expect("writes the page");
    }
    let page = std::fs::read_to_string(&path).expect("docs/methods.md is there");
    assert!(page == made.stdout, "docs/methods.md is old: run this test with UPDATE=1");
}

#[test]
fn every_method_says_what_it_computes() {
    for method in METHODS {
        for part in [method.summary, method.formula, method.paper] {
            assert!(!part.is_empty(), "{}", method.name);
        }
    }
}
