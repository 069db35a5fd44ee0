//! Every key of the file of a probing run, as data.

use std::sync::LazyLock;

use crate::config::keys::{ANY, INDEX, KEYS as RUN_KEYS, Key, Kind, optional};

/// Those it shares with a run over a corpus.
const SHARED: [&str; 6] = ["name", "out", "model", "corpus", "concepts[]", "capture"];
/// Those that end it.
const LAST: &str = "device";

const OWN: &[Key] = &[
    optional("split.dev", Kind::Number(0.0, 1.0), "share of dev units (0.15)"),
    optional("split.test", Kind::Number(0.0, 1.0), "share of test units (0.15)"),
    optional(
        "split.by",
        Kind::Choice(&["document", "sentence"]),
        "what is never cut in two (`document`)",
    ),
    optional("split.seed", Kind::Integer(0, ANY), "of the draw (0)"),
    optional(
        "split.dev_files",
        Kind::Texts(0),
        "files that are dev, by name; nothing is drawn then",
    ),
    optional("split.test_files", Kind::Texts(0), "files that are test, by name"),
    optional(
        "probes.target",
        Kind::Choice(&["classes", "one-vs-rest", "number"]),
        "one softmax over a column's classes, a yes or no for each, or the number a class stands for (`classes`)",
    ),
    optional(
        "probes.objective",
        Kind::Choice(&["mean", "paper", "neurox"]),
        "mean loss + l1 |W|₁ + l2 |W|₂² (`mean`); the sum of losses instead of the mean (`paper`); \
         l2 |W|₂ (`neurox`)",
    ),
    optional(
        "probes.solver",
        Kind::Choice(&["adam", "fista"]),
        "mini-batches, or full batches to the optimum (`adam`)",
    ),
    optional("probes.epochs", Kind::Integer(1, 100_000), "`adam`: passes (10)"),
    optional("probes.batch", Kind::Integer(1, 1 << 20), "`adam`: rows of a step (128)"),
    optional("probes.rate", Kind::Number(1e-9, 10.0), "`adam`: length of a step (0.001)"),
    optional("probes.shuffle", Kind::Flag, "`adam`: another order at each epoch (`false`)"),
    optional(
        "probes.tolerance",
        Kind::Number(1e-12, 0.1),
        "`fista`: generalised gradient, against that at 0, at which it ends (1e-5)",
    ),
    optional("probes.iterations", Kind::Integer(1, 1_000_000), "`fista`: passes at most (1000)"),
    optional(
        "probes.seeds",
        Kind::Integers(0, ANY),
        "of first weights, orders and control labels ([0])",
    ),
    optional(
        "probes.standardise",
        Kind::Flag,
        "columns at mean 0 and deviation 1 over the training rows (`true`)",
    ),
    optional("probes.each_site", Kind::Flag, "a probe for each site (`true`)"),
    optional("probes.all_sites", Kind::Flag, "a probe on all sites side by side (`false`)"),
    optional(
        "probes.control",
        Kind::Choice(&["same", "uniform", "none"]),
        "control labels as often as the true ones, or each as often (`same`)",
    ),
    optional(
        "probes.orders",
        Kind::Texts(1),
        "how weights become an order of neurons: `mass`, `percent`, `granular`, `mean-abs`, `threshold` \
         ([\"mass\"])",
    ),
    optional(
        "probes.cache",
        Kind::Choice(&["auto", "memory", "disk", "none"]),
        "where activations are between passes; not part of the identity (`auto`)",
    ),
    optional("penalties[].l1", Kind::Number(0.0, 1e9), "weight of |W|₁ (0)"),
    optional("penalties[].l2", Kind::Number(0.0, 1e9), "weight of |W|₂² (0)"),
    optional("methods", Kind::Texts(0), "rankings beside the probes', `NAME[:key=value,…]` (none)"),
    optional(
        "judge.retain",
        Kind::Integers(1, INDEX),
        "sizes at which probes are trained anew on the top of each ranking (none)",
    ),
    optional(
        "judge.ablate",
        Kind::Numbers(0.0, 1.0),
        "shares of neurons kept or taken away under the probe of all (none)",
    ),
    optional("judge.random", Kind::Integer(0, 100), "random sets beside each (1)"),
    optional("judge.bottom", Kind::Flag, "the least important neurons too (`true`)"),
    optional("judge.code_length", Kind::Flag, "online code length (`false`)"),
    optional("judge.delta", Kind::Number(0.0, 1.0), "loss of accuracy for the smallest set (0.01)"),
    optional(
        "judge.overlap",
        Kind::Integers(1, INDEX),
        "sizes at which rankings are compared ([10, 50])",
    ),
    optional(
        "judge.select",
        Kind::Flag,
        "the fewest features of all sites (`feat-select`; needs `probes.all_sites`) (`false`)",
    ),
    optional(
        "judge.layer_delta",
        Kind::Number(0.0, 1.0),
        "what the first sites may lose there of the accuracy of all (0.01)",
    ),
    optional(
        "judge.cluster",
        Kind::Number(0.0, 1.0),
        "distance 1 - |r| at which neurons are clustered there, 0 for not at all (0.3)",
    ),
    optional("output.keep", Kind::Integer(0, INDEX), "neurons kept per ranking, 0 for all (0)"),
];

static ALL: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let shared = |key: &&Key| SHARED.contains(&key.path.split('.').next().unwrap_or(key.path));
    let last = |key: &&Key| key.path.starts_with(LAST);
    RUN_KEYS.iter().filter(shared).chain(OWN).chain(RUN_KEYS.iter().filter(last)).copied().collect()
});

/// All keys, in the order of the reference.
pub fn keys() -> &'static [Key] {
    &ALL
}
