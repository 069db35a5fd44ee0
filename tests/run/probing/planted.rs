//! Oracle: how the labels were made (O-plant). One neuron alone decides them, so that every method must
//! rank it first, and a probe of it alone must order all rows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use electrode::artifact::probing::{CodeRow, MethodRow, ProbeRow, SubsetRow};
use electrode::artifact::rows::RankingRow;
use electrode::artifact::table::{Record, read_table};
use electrode::artifact::tables::read_rankings;

use super::{PLANT, SITE};

/// Whose rankings and small probes are read below.
const METHODS: [&str; 13] = [
    "gauss:k=5,rows=900",
    "gauss:k=3,covariance=mle,diagonal,by=accuracy",
    "massmean",
    "massmean:whiten",
    "sparse:k=4",
    "sparse:k=4,heuristic=f_stat",
    "sparse:k=4,heuristic=mi",
    "sparse:k=4,heuristic=lr,rows=500,candidates=32",
    "sparse:k=4,telescope,rows=500,candidates=16",
    "osp:k=2,candidates=10,rows=400",
    "latent-probe:k=3,rows=300,epochs=150,candidates=32",
    "ccs:pair=feats.Pair,calibrate=platt,restarts=2",
    "probeless",
];
/// Their probes read all neurons, or they have none.
const WHOLE: [&str; 3] = ["massmean", "ccs", "probeless"];

fn rows<R: Record>(folder: &Path, name: &str) -> Vec<R> {
    read_table(&folder.join(name)).expect("it was written")
}

fn run(out: &str, more: &[&str]) -> std::path::PathBuf {
    let done = PLANT.probe(out, &METHODS, more);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    PLANT.path(out)
}

#[test]
fn every_method_finds_the_neuron_and_test_labels_change_nothing() {
    let folder = run("out", &[]);
    let rankings = read_rankings(&folder.join("rankings.parquet")).expect("written");
    neuron_is_first(&rankings);
    differences_are_those_of_a_loop(&rankings);
    let methods: Vec<MethodRow> = rows(&folder, "methods.parquet");
    small_probes_know_it(&methods);
    one_size_is_chosen(&methods);
    the_rest_of_the_folder(&folder);
    // The same words, with other labels on test rows.
    let files = format!("corpus.files=[\"{}/*.conllu\"]", PLANT.path("flipped-corpus").display());
    let other = run("other", &[&files]);
    assert_eq!(rankings, read_rankings(&other.join("rankings.parquet")).expect("written"));
    let flipped: Vec<MethodRow> = rows(&other, "methods.parquet");
    let of = |rows: &[MethodRow], part: &str| -> Vec<MethodRow> {
        rows.iter().filter(|row| row.part == part).cloned().collect()
    };
    assert_eq!(of(&methods, "dev"), of(&flipped, "dev"));
    assert_ne!(of(&methods, "test"), of(&flipped, "test"), "test labels are read at all");
    let sizes = |rows: &[MethodRow]| -> Vec<(i32, Vec<String>, Vec<String>)> {
        rows.iter().map(|row| (row.size, row.neurons.clone(), row.flags.clone())).collect()
    };
    assert_eq!(sizes(&methods), sizes(&flipped));
    let chosen = |folder: &Path| -> Vec<(f64, bool)> {
        rows::<ProbeRow>(folder, "probes.parquet").iter().map(|row| (row.l1, row.chosen)).collect()
    };
    assert_eq!(chosen(&folder), chosen(&other));
}

fn neuron_is_first(rankings: &[RankingRow]) {
    let first = rankings.iter().filter(|row| row.rank == 1);
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in first.filter(|row| METHODS.iter().any(|method| row.method.starts_with(method))) {
        found.entry(&row.method).or_default().insert(&row.concept);
        let name = format!("{}.{}", row.site, row.neuron);
        assert_eq!(name, PLANT.name(), "{} for {}", row.method, row.concept);
        let signed = ["massmean", "ccs", "sparse:k=4,heuristic=lr"];
        if signed.iter().any(|method| row.method.starts_with(method)) && row.concept != "*" {
            assert_eq!(row.sign, if row.concept == "Yes" { 1 } else { -1 }, "{}", row.method);
        }
    }
    assert_eq!(found.len(), METHODS.len(), "{found:?}");
    for (method, concepts) in found {
        assert!(method.ends_with(&format!("site={SITE}")), "{method}");
        let all = ["*", "No", "Yes"].into();
        let want = match method.split(':').next() {
            Some("gauss") => ["*"].into(),
            Some("ccs") => ["*", "Yes"].into(),
            _ => all,
        };
        assert_eq!(concepts, want, "{method}");
    }
}

/// Scores of `massmean` against a loop in f64 over the activations as `extract` gives them: the right rows
/// with the right labels, brought to mean 0 and deviation 1 over the training rows.
fn differences_are_those_of_a_loop(rankings: &[RankingRow]) {
    let own: Vec<&RankingRow> = rankings
        .iter()
        .filter(|row| row.method == format!("massmean:site={SITE}") && row.concept == "Yes")
        .collect();
    assert_eq!(own.len(), PLANT.train[0].len());
    for row in own {
        let column = PLANT.train.iter().map(|words| f64::from(words[row.neuron as usize]));
        let n = PLANT.train.len() as f64;
        let mean = column.clone().sum::<f64>() / n;
        let deviation = (column.clone().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        let (mut with, mut without) = ((0.0, 0.0), (0.0, 0.0));
        for (x, above) in column.zip(&PLANT.above) {
            let side = if *above { &mut with } else { &mut without };
            *side = (side.0 + x, side.1 + 1.0);
        }
        let want = (with.0 / with.1 - without.0 / without.1) / deviation;
        assert_eq!((row.n, row.n_concept), (n as i64, with.1 as i64), "{row:?}");
        let got = row.score * f64::from(row.sign);
        assert!((got - want).abs() <= 1e-4 * (1.0 + want.abs()), "{row:?}: {want}");
    }
}

/// The label is a threshold of the neuron: a linear probe of it alone orders all rows.
fn small_probes_know_it(methods: &[MethodRow]) {
    let small = |row: &&MethodRow| !WHOLE.iter().any(|name| row.method.starts_with(name));
    let mut alone = 0;
    for row in methods.iter().filter(small) {
        assert_eq!(row.neurons.len(), row.size as usize, "{row:?}");
        assert!(row.neurons.contains(&PLANT.name()), "{row:?}");
        let (f1, auc) = (row.f1.expect("two classes"), row.roc_auc.expect("two classes"));
        assert!((0.0..=1.0).contains(&f1) && row.mcc.expect("two classes") <= 1.0, "{row:?}");
        if row.size == 1 {
            alone += 1;
            assert_eq!(row.neurons, [PLANT.name()], "{row:?}");
            // A Gaussian with a variance for each class says no at the far end too.
            if !row.method.starts_with("gauss") {
                let precision = row.pr_auc.expect("two classes");
                assert!(auc == 1.0 && (precision - 1.0).abs() <= 1e-12, "{row:?}");
            }
            assert!(row.accuracy > 0.8, "{row:?}");
        }
        assert!(row.information.is_none_or(|bits| bits <= 1.0), "{row:?}");
    }
    assert!(alone >= 2 * 9, "{alone} probes of one neuron");
    let ccs: Vec<&MethodRow> = methods.iter().filter(|r| r.method.starts_with("ccs")).collect();
    assert_eq!(ccs.len(), 2);
    for row in ccs {
        assert!(row.either_way.expect("of ccs") >= row.accuracy.max(0.5), "{row:?}");
        assert!(row.accuracy > 0.8, "{row:?}");
        assert!((0.0..0.5).contains(&row.ece.expect("of ccs")), "{row:?}");
        assert!(row.flags.contains(&"calibrated".to_owned()), "{row:?}");
    }
}

/// On dev rows, by what the method is chosen by; the same size on test rows.
fn one_size_is_chosen(methods: &[MethodRow]) {
    let mut found: BTreeMap<(&str, &str, &str), Vec<&MethodRow>> = BTreeMap::new();
    for row in methods {
        found.entry((&row.method, &row.concept, &row.part)).or_default().push(row);
    }
    let chosen = |rows: &[&MethodRow]| -> Vec<i32> {
        let own = rows.iter().filter(|row| row.flags.contains(&"chosen".to_owned()));
        own.map(|row| row.size).collect()
    };
    let score = |row: &MethodRow| row.information.or(row.f1).expect("either");
    for ((method, concept, part), rows) in &found {
        let own = chosen(rows);
        assert_eq!(own.len(), 1, "{method} {concept} {part}");
        assert_eq!(own, chosen(&found[&(*method, *concept, "dev")]), "{method} {concept}");
        if *part == "dev" && rows.len() > 1 {
            let best = rows.iter().map(|row| score(row)).fold(f64::NEG_INFINITY, f64::max);
            let own = rows.iter().find(|row| row.size == own[0]).expect("just found");
            assert_eq!(score(own), best, "{method} {concept}");
        }
    }
}

/// Judged by the run, described by manifest and page, and coded online.
fn the_rest_of_the_folder(folder: &Path) {
    let subsets: Vec<SubsetRow> = rows(folder, "subsets.parquet");
    let top = |row: &&SubsetRow| row.order == "top" && row.size == 1 && row.part == "test";
    let judged: BTreeSet<&str> =
        subsets.iter().filter(top).map(|row| row.method.as_str()).collect();
    assert!(METHODS.iter().all(|method| judged.contains(method)), "{judged:?}");
    let manifest = super::super::manifest(folder);
    let text = manifest.to_string();
    for note in ["methods.parquet", "osp:k=2,candidates=10,rows=400 on feats.Plant: read 400 of"] {
        assert!(text.contains(note), "{note}: {text}");
    }
    let labels = manifest["labels"].as_array().expect("a list");
    assert_eq!(labels.len(), 1, "the pairs are no label: {labels:?}");
    let page = std::fs::read_to_string(folder.join("report.html")).expect("it was drawn");
    assert!(page.contains("What single neurons and small sets tell"));
    let codes: Vec<CodeRow> = rows(folder, "codes.parquet");
    assert_eq!(codes.len(), 2, "of the labels and of control labels");
    for code in codes {
        // Two classes, a bit for each row.
        assert_eq!(code.uniform, code.n as f64);
        let ends: Vec<i64> = code.portions.iter().copied().chain([code.n]).collect();
        let blocks = ends.windows(2).zip(&code.losses);
        let coded: f64 = blocks.map(|(ends, loss)| (ends[1] - ends[0]) as f64 * loss).sum();
        assert!((code.online - coded - ends[0] as f64).abs() <= 1e-9 * code.online, "{code:?}");
        assert!((code.compression - code.uniform / code.online).abs() <= 1e-12, "{code:?}");
    }
    let probes: Vec<ProbeRow> = rows(folder, "probes.parquet");
    for row in probes {
        assert!((row.information - (row.entropy - row.loss)).abs() <= 1e-12, "{row:?}");
        assert!(row.entropy > 0.0 && row.entropy <= 1.0, "{row:?}");
    }
}
