//! Texts steered by the neurons of a run.
//! Oracles: random neurons of the same sites, on the embedded model and a run over real text; the
//! texts themselves, counted again; a run folder written by hand, whose numbers are known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use electrode::artifact::rows::{HistogramRow, NeuronRow, RankingRow};
use electrode::artifact::steering::{SteerRow, read_steering};
use electrode::artifact::tables::{self, HISTOGRAMS, NEURONS, RANKINGS};
use serde_json::Value;

use crate::cli::{Finished, run};

fn root(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).display().to_string()
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("writes");
    path.display().to_string()
}

fn steer(run_folder: &Path, out: &Path, arguments: &[&str]) -> Finished {
    let (model, folder) = (root("models/tiny-gpt2-en"), run_folder.display().to_string());
    let out = out.display().to_string();
    let first = ["steer", "--model", &model, "--run", &folder, "--out", &out, "--device", "cpu"];
    run(&[&first[..], arguments].concat())
}

/// A run over half of a treebank's development texts: which neurons know numerals.
fn numerals(folder: &Path) -> PathBuf {
    let out = folder.join("run");
    let corpus = root("corpora/en_ewt/en_ewt-dev-half.conllu");
    let config = format!(
        "name = \"numerals\"\nout = {:?}\nmethods = [\"ap\"]\n[model]\npath = {:?}\n\
         [corpus]\nfiles = [{corpus:?}]\ntext = \"original\"\nadd_bos = true\n\
         [[concepts]]\ncolumn = \"upos\"\nclasses = [\"NUM\", \"NOUN\", \"VERB\", \"ADP\"]\n\
         [capture]\nsites = [\"layers.*.mlp_act\"]\n[output]\npages = 50\n",
        out.display().to_string(),
        root("models/tiny-gpt2-en"),
    );
    let config = file(folder, "run.toml", &config);
    let ran = run(&["run", &config, "--device", "cpu"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    out
}

/// One, two, and all numbers to 2100.
fn number_words(folder: &Path) -> String {
    let spelled = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let digits = (1..=2100).map(|n: u32| n.to_string());
    let words: Vec<String> = spelled.iter().map(|w| (*w).to_owned()).chain(digits).collect();
    file(folder, "numbers.txt", &words.join("\n"))
}

#[test]
fn numeral_neurons_write_numerals_and_random_ones_do_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run_folder, words) = (numerals(folder.path()), number_words(folder.path()));
    let out = folder.path().join("steered");
    let arguments = [
        "--method",
        "ap",
        "--label",
        "upos",
        "--concept",
        "NUM",
        "--act",
        "translate",
        "--strengths",
        "3",
        "--random",
        "2",
        "--presence",
        &words,
        "--prompt",
        "The",
        "He was",
        "--add-bos",
        "--samples",
        "30",
        "--max-tokens",
        "15",
        "--top-p",
        "0.9",
        "--seed",
        "4",
    ];
    let ran = steer(&run_folder, &out, &arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("untouched") && ran.stdout.contains("random 1"), "{}", ran.stdout);
    let rows = read_steering(&out.join("steer.parquet")).expect("a table");
    let order = |row: &SteerRow| (row.order.clone(), row.draw, row.size, row.strength.to_string());
    let text = |order: &str, draw, size, strength: &str| {
        (order.to_owned(), draw, size, strength.to_owned())
    };
    let want = [
        text("", 0, 0, "0"),
        text("top", 0, 50, "3"),
        text("random", 0, 50, "3"),
        text("random", 1, 50, "3"),
    ];
    assert_eq!(rows.iter().map(order).collect::<Vec<_>>(), want);
    let [untouched, top, random, other] = &rows[..] else { panic!("four arms") };
    // 60 texts: the error of a share is at most 0.065.
    assert!(top.presence > untouched.presence + 0.3, "{} and {}", top.presence, untouched.presence);
    for random in [random, other] {
        assert!(top.presence > random.presence + 0.3, "{} and {}", top.presence, random.presence);
        assert!(random.judge_perplexity > untouched.judge_perplexity * 0.8);
    }
    assert!(top.judge_perplexity > untouched.judge_perplexity, "it costs something");
    assert!((untouched.perplexity / untouched.judge_perplexity - 1.0).abs() <= 1e-3);
    counted_again(&out, &words, &rows);
    // The same again is the same, in the same folder; something else is refused there.
    let before = std::fs::read(out.join("generations.jsonl")).expect("texts");
    assert_eq!(steer(&run_folder, &out, &arguments).code, 0);
    assert_eq!(std::fs::read(out.join("generations.jsonl")).expect("texts"), before);
    let changed = steer(&run_folder, &out, &[&arguments[..], &["--top-k", "9"]].concat());
    assert_eq!(changed.code, 2, "{}", changed.stderr);
}

/// Presence from the texts as they are written, by words between anything that is no letter.
fn counted_again(out: &Path, words: &str, rows: &[SteerRow]) {
    let words = std::fs::read_to_string(words).expect("words");
    let words: Vec<&str> = words.lines().collect();
    let texts = std::fs::read_to_string(out.join("generations.jsonl")).expect("texts");
    let mut hits: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for line in texts.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let text = line["text"].as_str().expect("a text").to_lowercase();
        let hit = text.split(|c: char| !c.is_alphanumeric()).any(|word| words.contains(&word));
        let (hits, all) = hits.entry(line["arm"].to_string()).or_default();
        *hits += usize::from(hit);
        *all += 1;
    }
    let names = ["untouched", "top x3", "random 0 x3", "random 1 x3"];
    for (row, name) in rows.iter().zip(names) {
        let (hits, all) = hits[&format!("{name:?}")];
        let share = hits as f64 / all as f64;
        assert_eq!((row.n, row.presence), (60, share), "{name}");
        let error = (share * (1.0 - share) / 60.0).sqrt();
        assert!((row.presence_error - error).abs() <= 1e-12);
    }
}

const LAYER: &str = "layers.2.mlp_act";

/// A run folder of three ranked neurons among ten: neuron n has mean n and deviation n + 1; of the
/// class its values lie evenly in [4, 8], of the others in [0, 4].
pub(crate) fn by_hand(folder: &Path) -> PathBuf {
    let out = folder.join("by_hand");
    let shape = crate::run_folder::Shape { layers: 4, width: 1024, ..Default::default() };
    crate::run_folder::write(&out, &shape);
    let rankings = |site: &'static str, method: &'static str| {
        (0..3).map(move |n| RankingRow {
            method: method.into(),
            label: "word".into(),
            concept: "war".into(),
            site: site.into(),
            layer: Some(2),
            neuron: n,
            rank: n + 1,
            score: 1.0,
            sign: 1,
            n: 80,
            n_concept: 40,
            p_value: None,
            q_value: None,
        })
    };
    let all = rankings(LAYER, "ap")
        .chain(rankings("logits", "corr"))
        .chain(rankings(LAYER, "iou:a=1"))
        .chain(rankings(LAYER, "iou:a=2"));
    tables::write_rankings(&out.join(RANKINGS), "r", all).expect("writes");
    let neurons = (0..10).map(|n| NeuronRow {
        site: LAYER.into(),
        layer: Some(2),
        neuron: n,
        n: 80,
        non_finite: 0,
        mean: f64::from(n),
        sd: f64::from(n + 1),
        min: 0.0,
        max: 8.0,
        firing_rate: 1.0,
        constant: n == 9,
        quantiles: vec![],
    });
    tables::write_neurons(&out.join(NEURONS), "r", neurons).expect("writes");
    let classes =
        [("war", vec![0, 0, 20, 20]), ("sea", vec![10, 10, 0, 0]), ("a", vec![10, 10, 0, 0])];
    let histograms = (0..2).flat_map(|neuron| {
        classes.clone().map(|(concept, counts)| HistogramRow {
            site: LAYER.into(),
            layer: Some(2),
            neuron,
            label: "word".into(),
            concept: concept.into(),
            edges: vec![0.0, 2.0, 4.0, 6.0, 8.0],
            counts,
        })
    });
    tables::write_histograms(&out.join(HISTOGRAMS), "r", histograms).expect("writes");
    // The page's own manifest describes another width.
    let path = out.join("manifest.json");
    let text = std::fs::read_to_string(&path).expect("a manifest");
    let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
    manifest["model"]["width"] = 256.into();
    manifest["model"]["layers"] = 4.into();
    std::fs::write(&path, manifest.to_string()).expect("writes");
    out
}

/// The ranking that most cases ask for.
pub(crate) const OF_WAR: [&str; 6] = ["--method", "ap", "--label", "word", "--concept", "war"];

#[test]
fn what_a_ranking_does_not_give_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let run_folder = by_hand(folder.path());
    let words = file(folder.path(), "words.txt", "war\n");
    let empty = file(folder.path(), "empty.txt", "\n");
    let cases: [(&[&str], &str, i32, &str); 16] = [
        (&["--method", "lca"], &words, 2, "there are: ap, corr, iou:a=1, iou:a=2"),
        (&["--label", "upos"], &words, 2, "there are: word"),
        (&["--concept", "peace"], &words, 2, "there are: war"),
        (&["--method", "iou"], &words, 2, "name one of iou:a=1, iou:a=2"),
        (&["--method", "corr"], &words, 65, "can be read but not steered"),
        (&["--top", "4"], &words, 65, "output.keep=4"),
        (&["--top", "0"], &words, 2, "steer 1 or more"),
        (&["--top", "3"], &words, 65, "neuron 2 of layers.2.mlp_act has no histogram"),
        (&["--top", "2", "--strengths", "nan"], &words, 2, "a strength is no number"),
        (&["--top", "2", "--value", "p101"], &words, 2, "'p101' is no value"),
        (&["--top", "2", "--value", "big"], &words, 2, "'big' is no value"),
        (&["--top", "2", "--random", "101"], &words, 2, "at most 100"),
        (&["--top", "2"], &empty, 65, "there is no word in it"),
        (&["--top", "2"], "missing.txt", 2, "missing.txt"),
        (
            &["--top", "2", "--act", "translate", "--spacing", "log", "--strengths", "0"],
            &words,
            2,
            "begins above 0",
        ),
        (&["--top", "2", "--act", "melt"], &words, 2, "melt"),
    ];
    for (changed, presence, code, part) in cases {
        let mut arguments = vec!["--prompt", "The", "--presence", presence];
        for pair in OF_WAR.chunks(2).filter(|pair| !changed.contains(&pair[0])) {
            arguments.extend(pair);
        }
        if !changed.contains(&"--top") {
            arguments.extend(["--top", "2"]);
        }
        arguments.extend(changed);
        let ran = steer(&run_folder, &folder.path().join("out"), &arguments);
        assert_eq!(ran.code, code, "{changed:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{changed:?}: {}", ran.stderr);
    }
    let other = folder.path().join("other");
    crate::run_folder::write(&other, &crate::run_folder::Shape::default());
    let arguments = [&OF_WAR[..], &["--prompt", "The", "--presence", &words]].concat();
    let ran = steer(&other, &folder.path().join("out"), &arguments);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("give the model of the run"), "{}", ran.stderr);
}

#[test]
fn what_is_written_follows_from_the_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    let run_folder = by_hand(folder.path());
    let words = file(folder.path(), "words.txt", "war\n");
    // 40 values evenly in [4, 8], so that the middle of rank 19.5 is 6; means 6 and 2.
    for (number, (act, want)) in [
        (&["--act", "set", "--value", "p50"][..], 6.0),
        (&["--act", "set", "--value", "p0"], 4.05),
        (&["--act", "set", "--value", "mean"], 6.0),
        (&["--act", "set", "--value", "-2.5"], -2.5),
        (&["--act", "translate"], 4.0),
    ]
    .into_iter()
    .enumerate()
    {
        let out = folder.path().join(format!("out{number}"));
        let few = ["--prompt", "The", "--presence", &words, "--top", "2", "--max-tokens", "2"];
        let ran = steer(&run_folder, &out, &[&OF_WAR[..], &few, act].concat());
        assert_eq!(ran.code, 0, "{act:?}: {}", ran.stderr);
        let text = std::fs::read_to_string(out.join("steer.json")).expect("settings");
        let settings: Value = serde_json::from_str(&text).expect("JSON");
        let neurons = settings["neurons"].as_array().expect("a list");
        assert_eq!(neurons.len(), 2);
        for (rank, neuron) in neurons.iter().enumerate() {
            assert_eq!((&neuron["neuron"], &neuron["site"]), (&rank.into(), &LAYER.into()));
            if let Some(number) = neuron["number"].as_f64() {
                assert!((number - want).abs() <= 0.06, "{act:?}: {number}");
            } else {
                assert_eq!(want, -2.5, "{act:?} has a number");
            }
        }
    }
}
