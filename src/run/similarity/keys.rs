//! Every key of the file of `electrode similarity`, as data.

use std::sync::LazyLock;

use crate::config::keys::{ANY, KEYS as RUN_KEYS, Key, Kind, optional, required};

/// Those it shares with a run over a corpus.
const SHARED: [&str; 5] = ["name", "out", "model", "corpus", "capture"];
/// Of these, those that it can do without: there may be `[[models]]` with sites of their own.
const NOT_NEEDED: [&str; 2] = ["model.path", "capture.sites"];
/// Those that end it.
const LAST: &str = "device";

const OWN: &[Key] = &[
    optional("models[].name", Kind::Text, "what tables call it (the last part of its path)"),
    required("models[].path", Kind::Text, "as `model.path`, for each of several"),
    optional("models[].dtype", Kind::Choice(&["f32", "bf16"]), "of its forward pass (`f32`)"),
    optional("models[].sites", Kind::Texts(1), "its sites (those of `[capture]`)"),
    optional(
        "similarity.rows",
        Kind::Integer(0, 1 << 20),
        "words of a uniform sample, at least 16, instead of the whole corpus (0)",
    ),
    optional("similarity.seed", Kind::Integer(0, ANY), "of the sample (0)"),
    optional(
        "similarity.share",
        Kind::Number(0.01, 1.0),
        "share of variance that SVCCA and PWCCA keep (0.99)",
    ),
    optional(
        "similarity.rbf",
        Kind::Number(0.0, 1e6),
        "RBF-CKA of a sample: bandwidth as a share of the median distance between rows, 0 for none (0)",
    ),
    optional(
        "similarity.thresholds",
        Kind::Numbers(0.0, 1.0),
        "distances 1 - |r| at which clusters of neurons are cut ([0.3, 0.5, 0.7])",
    ),
    optional(
        "similarity.pairs",
        Kind::Choice(&["all", "same"]),
        "every site with every other, or between models those of one name and within models \
         successive layers (`all`)",
    ),
];

static ALL: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let shared = |key: &&Key| SHARED.contains(&key.path.split('.').next().unwrap_or(key.path));
    let last = |key: &&Key| key.path.starts_with(LAST);
    let ease =
        |key: &Key| Key { required: key.required && !NOT_NEEDED.contains(&key.path), ..*key };
    let before = RUN_KEYS.iter().filter(shared).map(ease);
    before.chain(OWN.iter().copied()).chain(RUN_KEYS.iter().filter(last).copied()).collect()
});

/// All keys, in the order of the reference.
pub fn keys() -> &'static [Key] {
    &ALL
}
