//! `electrode probe` from its command line to its folder, with the real binary.
//! Oracle: the same run by other ways (rows kept in memory, in files, or nowhere; larger and smaller
//! batches, more and fewer threads), a planted label, and accuracies counted by hand from tables.

use std::fs;
use std::path::Path;
use std::process::Command;

use electrode::artifact::probing::{
    CodeRow, LAYERS, LayerRow, METHODS, MethodRow, PROBES, ProbeRow, SELECTION, SUBSETS,
    SelectionRow, SmallestRow, SubsetRow,
};
use electrode::artifact::rows::RankingRow;
use electrode::artifact::table::read_table;
use electrode::artifact::tables::read_rankings;

use super::{Bench, Finished, electrode, finish, manifest};

/// Files that must not differ in a byte.
pub(super) const RESULTS: [&str; 12] = [
    "probes.parquet",
    "classes.parquet",
    "layers.parquet",
    "rankings.parquet",
    "subsets.parquet",
    "smallest.parquet",
    "selection.parquet",
    "methods.parquet",
    "codes.parquet",
    "agreement.parquet",
    "spread.parquet",
    "probes.safetensors",
];

/// Runs to the end.
pub(super) fn probe(bench: &Bench, out: &str, more: &[&str]) -> Finished {
    finish(&mut command(bench, out, more))
}

/// The command; `out` is a folder of this bench.
pub(super) fn command(bench: &Bench, out: &str, more: &[&str]) -> Command {
    let text = fs::read_to_string(bench.path("run.toml")).expect("written");
    let shared = text.split("[statistics]").next().expect("a first part");
    let shared = shared.replace(r#"methods = ["probeless", "auroc", "mi", "topctx"]"#, "");
    let own = r#"
[split]
by = "sentence"
[probes]
epochs = 4
batch = 32
seeds = [0, 1]
rate = 0.01
[[penalties]]
[[penalties]]
l1 = 1e-3
l2 = 1e-3
[judge]
retain = [1, 4]
ablate = [0.25, 0.5]
overlap = [4]
code_length = true
"#;
    let methods = "methods = [\"probeless\", \"random\"]\n";
    fs::write(bench.path("probes.toml"), format!("{methods}{shared}{own}")).expect("written");
    let mut command = electrode();
    command.arg("probe").arg(bench.path("probes.toml"));
    command.arg(format!("out={}", bench.path(out).display())).args(more);
    command
}

pub(super) fn results(folder: &Path) -> Vec<Vec<u8>> {
    let read = |name: &&str| fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    RESULTS.iter().map(read).collect()
}

#[test]
fn rows_in_memory_in_files_and_nowhere_give_the_same_bytes() {
    let bench = Bench::new(120);
    let done = probe(&bench, "memory", &["probes.cache=memory"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let memory = results(&bench.path("memory"));
    for (out, more) in
        [("disk", &["probes.cache=disk", "--threads=1"][..]), ("nowhere", &["probes.cache=none"])]
    {
        let done = probe(&bench, out, more);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        for ((name, a), b) in RESULTS.iter().zip(&memory).zip(results(&bench.path(out))) {
            assert!(*a == b, "{out}: {name} differs");
        }
    }
    assert!(!bench.path("disk/activations").exists(), "files go with the run");
    assert!(!bench.path("disk/states").exists(), "and so do states");
    let notes = manifest(&bench.path("nowhere"))["notes"].to_string();
    assert!(notes.contains("the model runs at each pass"), "{notes}");
}

#[test]
fn figures_of_the_tables_belong_together() {
    let bench = Bench::new(120);
    let done = probe(&bench, "out", &["probes.all_sites=true"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let rows: Vec<ProbeRow> = read_table(&bench.path("out").join(PROBES)).expect("readable");
    assert!(rows.iter().any(|row| row.site == "*"), "all sites side by side");
    for row in &rows {
        assert!((row.information - (row.entropy - row.loss)).abs() < 1e-9);
        assert!(row.n > 0 && (0.0..=1.0).contains(&row.accuracy), "{row:?}");
        let other = rows.iter().find(|other| {
            other.control != row.control
                && (&other.site, &other.part, other.seed) == (&row.site, &row.part, row.seed)
                && (other.l1, other.l2) == (row.l1, row.l2)
        });
        let other = other.expect("each has its control");
        if !row.control {
            assert_eq!(row.selectivity, Some(row.accuracy - other.accuracy));
        }
    }
    // The penalty was chosen on dev.
    let layers: Vec<LayerRow> = read_table(&bench.path("out").join(LAYERS)).expect("readable");
    for layer in &layers {
        let mean = |l1: f64| {
            let own = rows.iter().filter(|row| {
                row.part == "dev" && !row.control && row.site == layer.site && row.l1 == l1
            });
            let own: Vec<f64> = own.map(|row| row.accuracy).collect();
            own.iter().sum::<f64>() / own.len() as f64
        };
        let other = if layer.l1 == 0.0 { 1e-3 } else { 0.0 };
        assert!(mean(layer.l1) >= mean(other), "{layer:?}");
        assert!(layer.low <= layer.accuracy && layer.accuracy <= layer.high);
    }
    assert_eq!(layers.iter().filter(|row| row.first && row.part == "test").count(), 1);
    let subsets: Vec<SubsetRow> = read_table(&bench.path("out").join(SUBSETS)).expect("readable");
    for how in ["retrain", "keep", "remove"] {
        for order in ["top", "bottom", "random"] {
            let any = subsets.iter().any(|row| row.how == how && row.order == order);
            assert!(any, "{how} {order}");
        }
    }
    let codes: Vec<CodeRow> = read_table(&bench.path("out/codes.parquet")).expect("readable");
    for code in &codes {
        let ends: Vec<i64> = code.portions.iter().copied().chain([code.n]).collect();
        let blocks = ends.windows(2).map(|pair| (pair[1] - pair[0]) as f64);
        let coded: f64 = blocks.zip(&code.losses).map(|(rows, loss)| rows * loss).sum();
        let first = ends[0] as f64 * code.uniform / code.n as f64;
        assert!((code.online - first - coded).abs() < 1e-6 * code.online, "{code:?}");
    }
    let smallest: Vec<SmallestRow> =
        read_table(&bench.path("out/smallest.parquet")).expect("readable");
    assert!(!smallest.is_empty());
    let page = fs::read_to_string(bench.path("out/report.html")).expect("a page");
    for title in [
        "Which layers hold",
        "How few neurons",
        "Do methods agree",
        "Online code",
        "Few neurons or many",
    ] {
        assert!(page.contains(title), "{title}");
    }
    // The page is remade from the tables alone.
    fs::remove_file(bench.path("out/report.html")).expect("removed");
    let mut command = electrode();
    let done = finish(command.arg("report").arg(bench.path("out")));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(fs::read_to_string(bench.path("out/report.html")).expect("again"), page);
}

#[test]
fn features_are_selected_step_by_step() {
    let bench = Bench::new(120);
    let more = ["probes.all_sites=true", "judge.select=true", "judge.cluster=0.5"];
    let done = probe(&bench, "out", &more);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let rows: Vec<SelectionRow> = read_table(&bench.path("out").join(SELECTION)).expect("readable");
    assert_eq!(rows.len(), 1, "one label");
    let row = &rows[0];
    assert!(row.selected <= row.representatives && row.representatives <= row.of_sites, "{row:?}");
    assert!(row.of_sites <= row.neurons && row.sites >= 1, "{row:?}");
    assert!(row.dev_of_sites >= 0.99 * row.dev, "{row:?}");
    assert!(
        row.dev_of_selected > 0.99 * row.dev_of_representatives
            || row.selected == row.representatives
    );
    assert_eq!(row.members.len(), usize::try_from(row.selected).expect("a count"));
    // Members stand in the sites that were kept, and none twice.
    let mut members = row.members.clone();
    members.sort();
    members.dedup();
    assert_eq!(members.len(), row.members.len());
    // Without clusters every neuron of the sites speaks for itself.
    let done = probe(&bench, "plain", &[&more[..2], &["judge.cluster=0.0"]].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let plain: Vec<SelectionRow> =
        read_table(&bench.path("plain").join(SELECTION)).expect("readable");
    assert_eq!(plain[0].representatives, plain[0].of_sites);
    assert_eq!((plain[0].dev, plain[0].dev_of_sites), (row.dev, row.dev_of_sites));
    let page = fs::read_to_string(bench.path("out/report.html")).expect("a page");
    assert!(page.contains("Selected features"));
}

#[test]
fn a_converged_probe_does_not_depend_on_its_seed() {
    let bench = Bench::new(120);
    let more = ["probes.solver=fista", "probes.tolerance=1e-4", "probes.control=none"];
    let done =
        probe(&bench, "out", &[&more[..], &["penalties=[{ l1 = 1e-3, l2 = 1e-2 }]"]].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let rows: Vec<ProbeRow> = read_table(&bench.path("out").join(PROBES)).expect("readable");
    assert!(!rows.is_empty());
    for row in &rows {
        assert!(row.residual.is_some_and(|residual| residual <= 1e-4), "{row:?}");
        let twin = rows.iter().find(|other| {
            other.seed != row.seed && (&other.site, &other.part) == (&row.site, &row.part)
        });
        assert_eq!(twin.expect("two seeds").loss, row.loss);
    }
}

#[test]
fn weights_have_the_orders_that_are_asked_for() {
    let bench = Bench::new(120);
    let orders = r#"probes.orders=["mass", "percent", "granular", "mean-abs", "threshold"]"#;
    let methods = r#"methods=["sparse:k=2,mono=true", "osp:k=2,candidates=6,prune=2"]"#;
    let done = probe(&bench, "out", &[orders, methods, "judge.code_length=false"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let rows = read_rankings(&bench.path("out/rankings.parquet")).expect("readable");
    let neurons = |order: &str| {
        let of = |row: &&RankingRow| {
            row.concept == "*"
                && row.method.starts_with("lca:")
                && match order {
                    "" => !row.method.contains("order="),
                    _ => row.method.contains(&format!("order={order},")),
                }
        };
        let all: Vec<&RankingRow> = rows.iter().filter(of).collect();
        let site = all.first().expect(order).site.clone();
        all.into_iter().filter(|row| row.site == site).map(|row| row.neuron).collect::<Vec<_>>()
    };
    let all = neurons("").len();
    for order in ["percent", "granular", "mean-abs"] {
        let mut own = neurons(order);
        own.sort_unstable();
        own.dedup();
        assert_eq!(own.len(), all, "{order} ranks every neuron once");
    }
    let set = neurons("threshold").len();
    assert!((1..all).contains(&set), "{set} of {all} are above half of the largest");
    let tried: Vec<MethodRow> = read_table(&bench.path("out").join(METHODS)).expect("readable");
    for flag in ["alone", "pruned"] {
        let flagged: Vec<&MethodRow> =
            tried.iter().filter(|row| row.flags.iter().any(|own| own == flag)).collect();
        assert!(!flagged.is_empty(), "no row is {flag}");
        assert!(flagged.iter().all(|row| row.size == 1 && row.neurons.len() == 1), "{flag}");
    }
    let twice = probe(&bench, "twice", &[r#"probes.orders=["mass", "mass"]"#]);
    assert_eq!(twice.code, Some(2), "{}", twice.stderr);
    assert!(twice.stderr.contains("probes.orders"), "{}", twice.stderr);
}

/// Labels that the next word decides: a probe of one word cannot know them, one of two can.
#[test]
fn a_tree_probe_reads_two_words() {
    let bench = Bench::new(400);
    let words = fs::read_to_string(bench.path("c.word")).expect("written");
    let label = |words: &[&str]| match words.get(1).map(|next| next[1..].parse::<u32>()) {
        Some(Ok(number)) if number < 10 => "low",
        Some(_) => "high",
        None => "none",
    };
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        (0..words.len()).map(|at| label(&words[at..])).collect::<Vec<_>>().join(" ")
    };
    let labels: Vec<String> = words.lines().map(of_line).collect();
    fs::write(bench.path("c.label"), labels.join("\n") + "\n").expect("written");
    let more = [
        r#"methods=["tree-probe"]"#,
        r#"concepts=[{ column = "label", classes = ["low", "high"] }]"#,
        r#"capture.sites=["embeddings"]"#,
        "judge.code_length=false",
        "probes.control=none",
        "probes.epochs=20",
    ];
    let done = probe(&bench, "out", &more);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let tried: Vec<MethodRow> = read_table(&bench.path("out").join(METHODS)).expect("readable");
    let test: Vec<&MethodRow> = tried.iter().filter(|row| row.part == "test").collect();
    assert_eq!(test.len(), 1, "{tried:?}");
    assert!(test[0].n > 300 && test[0].information > Some(0.1), "{:?}", test[0]);
    let rows: Vec<ProbeRow> = read_table(&bench.path("out").join(PROBES)).expect("readable");
    let alone = rows.iter().filter(|row| row.part == "test").map(|row| row.information);
    assert!(alone.fold(0.0, f64::max) < 0.05, "one word knows nothing of the next");
}

#[test]
fn numbers_have_errors_and_no_accuracy() {
    let bench = Bench::new(120);
    let more = [
        "concepts=[{ column = \"position\" }]",
        "methods=[]",
        "judge.retain=[]",
        "judge.ablate=[]",
        "probes.target=number",
        "probes.control=none",
        "probes.solver=fista",
        "probes.seeds=[0]",
    ];
    // A penalty that leaves the bias alone: the mean, whose error is the variance at every site.
    let only = ["penalties=[{ l1 = 1e6 }]"];
    let done = probe(&bench, "out", &[&more[..], &only].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let rows: Vec<ProbeRow> = read_table(&bench.path("out").join(PROBES)).expect("readable");
    let train: Vec<f64> =
        rows.iter().filter(|row| row.part == "train").map(|row| row.loss).collect();
    assert!(train.len() > 1 && train[0] > 0.0);
    for loss in &train {
        assert!((loss - train[0]).abs() < 1e-3 * train[0], "{train:?}");
    }
    assert!(rows.iter().all(|row| row.information == 0.0 && row.accuracy == 0.0));
    let layers: Vec<LayerRow> = read_table(&bench.path("out").join(LAYERS)).expect("readable");
    assert!(layers.is_empty(), "nothing is answered right or wrong");
}

#[test]
fn what_cannot_work_is_refused_before_the_folder_is_taken() {
    let bench = Bench::new(40);
    for (more, words) in [
        (&["split.dev_files=[\"x\"]"][..], &["no file 'x'", "c.word"][..]),
        (&["split.dev=0.6", "split.test=0.5"], &["nothing to train on"]),
        (&["methods=[\"ablate\"]"], &["ablate"]),
        (&["methods=[\"topctx\"]"], &["ranks no neurons"]),
        (&["probes.all_sites=true", "probes.cache=none"], &["side by side"]),
        (&["concepts=[{ column = \"nothing\" }]"], &["nothing"]),
        (&["probes.target=number", "probes.control=none"], &["are no numbers"]),
    ] {
        let done = probe(&bench, "refused", more);
        assert_eq!(done.code, Some(2), "{more:?}: {}", done.stderr);
        for word in words {
            assert!(done.stderr.contains(word), "{word}: {}", done.stderr);
        }
        assert!(!bench.path("refused/run.json").exists(), "{more:?}");
    }
}
