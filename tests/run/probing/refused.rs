//! Methods at the wrong command, and settings that cannot work. Oracle: the exit code of the README, and
//! the words that a user needs.

use super::super::{Bench, assert_refused};
use super::PLANT;

#[test]
fn methods_of_other_commands_and_wrong_settings_are_refused() {
    for (methods, more, words) in [
        (&["lca"][..], &[][..], &["ranked in any case", "[[penalties]]"][..]),
        (&["gradact"], &[], &["asks the model questions", "electrode stimulate"]),
        (&["topctx"], &[], &["ranks no neurons"]),
        (&["gauss", "gauss"], &[], &["listed twice"]),
        (&["gauss:k=0"], &[], &["k is a whole number from 1"]),
        (&["gaus"], &[], &["did you mean 'gauss'"]),
        (&["sparse:heuristic=best"], &[], &["mean_dif or f_stat"]),
        (&["ccs"], &[], &["two forms of a statement", "ccs:pair=COLUMN"]),
        (&["ccs:pair=feats.Plant"], &[], &["no labels to learn"]),
        (&["ccs:pair=feats.None"], &[], &["feats.None"]),
        (
            &["ccs:pair=feats.Pair"],
            &["concepts=[{column=\"form\", most_frequent=5}]", "probes.control=none"],
            &["form has 5 classes", "a column of two classes"],
        ),
        (
            &["osp"],
            &["probes.target=number", "probes.control=none"],
            &["the target is a number", "target = \"classes\""],
        ),
    ] {
        assert_refused(&PLANT.probe("no", methods, more), 2, words, &PLANT.path("no"));
    }
}

#[test]
fn runs_over_a_corpus_refuse_probing_methods() {
    let bench = Bench::new(60);
    for method in ["gauss", "ridge", "ccs:pair=x"] {
        let done = bench.run("out", &[&format!("methods=[\"{method}\"]")]);
        assert_refused(&done, 2, &["electrode probe", method], &bench.path("out"));
    }
}
