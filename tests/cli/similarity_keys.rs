//! Keys of similarity files. Oracle: the page that lists them, and the file to try.

use electrode::config::keys::reference;
use electrode::run::similarity::keys;

#[test]
fn the_page_of_similarity_lists_every_key() {
    let page = include_str!("../../docs/similarity.md");
    let reference = reference(keys());
    assert!(page.contains(&reference), "put this into docs/similarity.md:\n{reference}");
}
