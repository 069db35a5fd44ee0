//! `electrode compare`. Oracle: overlaps, correlations and profiles of made tables, worked out by hand.

use std::path::{Path, PathBuf};

use electrode::artifact::comparison::{OVERLAPS, OverlapRow, PROFILES, ProfileRow};
use electrode::artifact::manifest::{Manifest, ModelFacts, SiteFacts};
use electrode::artifact::probing::{LAYERS, LayerRow, PROBES, ProbeRow};
use electrode::artifact::rows::RankingRow;
use electrode::artifact::table::{read_table, write_table};
use electrode::artifact::tables::{RANKINGS, write_rankings};
use electrode::run::compare::{CompareRequest, Tables, compare};
use tempfile::TempDir;

use super::run;

/// Two layers of four neurons.
const WIDTHS: [u64; 2] = [4, 4];

/// A folder of a finished run of `model` with layers of these widths.
fn manifest(folder: &Path, model: &str, widths: &[u64]) {
    std::fs::create_dir_all(folder).expect("made");
    let site = |(layer, neurons): (usize, &u64)| SiteFacts {
        site: format!("layers.{layer}.mlp_act"),
        neurons: *neurons,
    };
    Manifest {
        run_id: "0123".into(),
        model: ModelFacts {
            path: model.into(),
            layers: widths.len() as u64,
            architecture: "gpt2".into(),
            ..ModelFacts::default()
        },
        sites: widths.iter().enumerate().map(site).collect(),
        ..Manifest::default()
    }
    .write(folder)
    .expect("written");
}

/// Rows of a ranking of neurons numbered layer after layer, with scores 8, 7, 6 ….
fn ranking(method: &str, concept: &str, order: &[u64], widths: &[u64]) -> Vec<RankingRow> {
    let row = |(at, neuron): (usize, &u64)| {
        let (mut layer, mut column) = (0, *neuron);
        while column >= widths[layer] {
            column -= widths[layer];
            layer += 1;
        }
        RankingRow {
            method: method.into(),
            label: "upos".into(),
            concept: concept.into(),
            site: format!("layers.{layer}.mlp_act"),
            layer: Some(layer as i32),
            neuron: column as i32,
            rank: at as i32 + 1,
            score: 8.0 - at as f64,
            sign: 1,
            n: 100,
            n_concept: 10,
            p_value: None,
            q_value: None,
        }
    };
    order.iter().enumerate().map(row).collect()
}

/// One run of two methods and two concepts, one of one method.
fn two_runs(root: &Path) -> [PathBuf; 2] {
    let [a, b] = ["a", "b"].map(|name| root.join(name));
    manifest(&a, "a model", &WIDTHS);
    manifest(&b, "a model", &WIDTHS);
    let mut rows = ranking("meandiff", "NOUN", &[0, 5, 1, 2, 3, 4, 6, 7], &WIDTHS);
    rows.extend(ranking("meandiff", "VERB", &[1, 0, 4, 2, 3, 5, 6, 7], &WIDTHS));
    rows.extend(ranking("random", "NOUN", &[7, 6, 5, 4, 3, 2, 1, 0], &WIDTHS));
    write_rankings(&a.join(RANKINGS), "0123", rows.into_iter()).expect("written");
    let rows = ranking("meandiff", "NOUN", &[5, 0, 7, 1, 2, 3, 4, 6], &WIDTHS);
    write_rankings(&b.join(RANKINGS), "0123", rows.into_iter()).expect("written");
    [a, b]
}

fn tables(folders: &[PathBuf], sizes: &[usize], share: f64) -> Tables {
    let request = CompareRequest {
        folders: folders.to_vec(),
        sizes: Some(sizes.to_vec()),
        share: Some(share),
    };
    compare(&request).expect("they compare")
}

fn near(found: f64, want: f64) {
    assert!((found - want).abs() < 1e-12, "{found}, not {want}");
}

#[test]
fn rankings_of_two_runs_overlap_as_by_hand() {
    let root = TempDir::new().expect("a temporary folder");
    let folders = two_runs(root.path());
    let found = tables(&folders, &[2, 4], 0.5);
    let pair = |method: &str, size: i32| -> OverlapRow {
        let of = |row: &&OverlapRow| {
            row.source_b == "b" && row.method_a == method && row.size == size && row.same_model
        };
        found.overlaps.iter().find(of).expect("the pair").clone()
    };
    // {0, 5} and {0, 5}; {0, 1, 2, 5} and {0, 1, 5, 7}.
    near(pair("meandiff", 2).overlap, 1.0);
    near(pair("meandiff", 4).overlap, 3.0 / 5.0);
    near(pair("meandiff", 4).chance, 4.0 / 12.0);
    near(pair("random", 2).overlap, 0.0);
    // Six of 28 pairs stand in the other order.
    let tau =
        found.correlations.iter().find(|row| row.source_b == "b" && row.method_a == "meandiff");
    let tau = tau.expect("the pair").tau.expect("no ties");
    near(tau, 1.0 - 2.0 * 6.0 / 28.0);
    // The random ranking is judged and judges nobody.
    let average = |method: &str, judge: &str| {
        let of = |row: &&OverlapRow| {
            (row.source_a.as_str(), row.method_a.as_str()) == ("a", method)
                && row.method_b == judge
                && row.source_b == "*"
                && row.size == 4
        };
        found.overlaps.iter().find(of).expect("judged").overlap
    };
    near(average("meandiff", "*"), 3.0 / 5.0);
    near(average("meandiff", "vote"), 3.0 / 5.0);
    // {4, 5, 6, 7} shares 5 with {0, 1, 2, 5}, and 5 and 7 with {0, 1, 5, 7}.
    near(average("random", "*"), (1.0 / 7.0 + 2.0 / 6.0) / 2.0);
}

#[test]
fn findings_of_a_run_are_those_by_hand() {
    let root = TempDir::new().expect("a temporary folder");
    let found = tables(&two_runs(root.path()), &[2], 0.5);
    let noun: Vec<&ProfileRow> = found
        .profiles
        .iter()
        .filter(|row| (&*row.source, &*row.method, &*row.concept) == ("a", "meandiff", "NOUN"))
        .collect();
    // {0, 1, 2, 5}: three of layer 0 and one of layer 1; in the other run two and two.
    assert_eq!(noun.iter().map(|row| row.top).collect::<Vec<_>>(), [3, 1]);
    near(noun[0].share, 0.75);
    near(noun[0].low, 0.5 + 0.025 * 0.25);
    near(noun[0].high, 0.75 - 0.025 * 0.25);
    assert_eq!((noun[0].depth, noun[1].depth), (Some(0.0), Some(1.0)));
    let own = |row: &&electrode::artifact::comparison::LocalityRow| {
        (&*row.source, &*row.method, &*row.concept) == ("a", "meandiff", "NOUN")
    };
    let local = found.locality.iter().find(own).expect("its row");
    near(local.depth.expect("all of the top is kept"), 0.25);
    let shares: Vec<f64> = (1..=8).map(|score| f64::from(score) / 36.0).collect();
    let entropy: f64 = -shares.iter().map(|q| q * q.ln()).sum::<f64>();
    near(local.effective.expect("all are kept"), entropy.exp());
    assert_eq!((local.near_best, local.ranked, local.neurons), (1, 8, 8));
    // {0, 5} and {0, 1}.
    assert_eq!(found.concepts.len(), 1);
    near(found.concepts[0].overlap, 1.0 / 3.0);
    let counts: Vec<(i32, i32)> =
        found.polysemy.iter().map(|row| (row.concepts, row.neurons)).collect();
    assert_eq!(counts, [(0, 5), (1, 2), (2, 1)]);
}

/// Another model, of more layers: no neuron of it is one of ours, its profile stands beside ours.
#[test]
fn models_of_other_depths_are_compared_by_relative_depth() {
    let root = TempDir::new().expect("a temporary folder");
    let [a, _] = two_runs(root.path());
    let deep = root.path().join("deep");
    let widths = [3, 3, 3];
    manifest(&deep, "another model", &widths);
    // A table that keeps the best four, and the best of each layer beyond a gap.
    let mut rows = ranking("meandiff", "NOUN", &[8, 4, 0, 5], &widths);
    let mut last = ranking("meandiff", "NOUN", &[3], &widths);
    last[0].rank = 8;
    rows.extend(last);
    write_rankings(&deep.join(RANKINGS), "4567", rows.into_iter()).expect("written");
    let found = tables(&[a, deep], &[2], 0.25);
    assert!(found.overlaps.iter().all(|row| row.source_a == "a"), "nothing is shared");
    let deep: Vec<_> = found.profiles.iter().filter(|row| row.source == "deep").collect();
    assert_eq!(deep.iter().map(|row| row.top).collect::<Vec<_>>(), [0, 1, 1]);
    assert_eq!(deep.iter().filter_map(|row| row.depth).collect::<Vec<_>>(), [0.0, 0.5, 1.0]);
    let local = found.locality.iter().find(|row| row.source == "deep").expect("its row");
    assert_eq!((local.ranked, local.effective, local.gini), (4, None, None));
    near(local.depth.expect("the top is kept"), 0.75);
}

#[test]
fn probes_stand_side_by_side() {
    let root = TempDir::new().expect("a temporary folder");
    let folders = ["one", "two"].map(|name| root.path().join(name));
    for (folder, accuracy) in folders.iter().zip([0.75, 0.875]) {
        manifest(folder, &format!("model of {accuracy}"), &WIDTHS);
        let row = |layer: i32, part: &str| LayerRow {
            site: format!("layers.{layer}.mlp_act"),
            layer: Some(layer),
            label: "upos".into(),
            part: part.into(),
            n: 50,
            accuracy,
            low: accuracy - 0.1,
            high: accuracy + 0.1,
            selectivity: Some(0.25),
            information: 1.5,
            first: layer == 1,
            ..LayerRow::default()
        };
        let rows = [row(0, "dev"), row(0, "test"), row(1, "test")];
        write_table(&folder.join(LAYERS), "x", rows.into_iter()).expect("written");
        let probes = [ProbeRow::default()];
        write_table(&folder.join(PROBES), "x", probes.into_iter()).expect("written");
    }
    let [one, two] = folders.each_ref().map(|folder| folder.to_str().expect("UTF-8"));
    let out = root.path().join("out/both");
    let done = run(&["compare", one, two, "--out", out.to_str().expect("UTF-8")]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let lines: Vec<Vec<&str>> =
        done.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["upos", "one", "layers.1.mlp_act", "0.750", "0.250", "1.500"]);
    assert_eq!(lines[2], ["upos", "two", "layers.1.mlp_act", "0.875", "0.250", "1.500"]);
    let found = tables(&folders, &[2], 0.25);
    assert_eq!(found.layers.len(), 4, "test rows only");
    let page = std::fs::read_to_string(out.join("report.html")).expect("a page");
    assert!(page.contains("Which layers hold a label"));
}

#[test]
fn the_command_prints_a_table_and_writes_a_folder() {
    let root = TempDir::new().expect("a temporary folder");
    let [a, b] = two_runs(root.path());
    let out = root.path().join("out");
    let out = out.to_str().expect("UTF-8");
    let [a, b] = [&a, &b].map(|folder| folder.to_str().expect("UTF-8"));
    let done = run(&["compare", a, b, "--sizes", "2,4", "--share", "0.5", "--out", out]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let lines: Vec<Vec<&str>> =
        done.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["a", "meandiff", "b", "meandiff", "2", "1", "1.000", "0.143"]);
    assert_eq!(lines[2], ["a", "meandiff", "b", "meandiff", "4", "1", "0.600", "0.333"]);
    let out = Path::new(out);
    let overlaps: Vec<OverlapRow> = read_table(&out.join(OVERLAPS)).expect("a table");
    assert!(overlaps.iter().any(|row| row.method_b.starts_with("family:")));
    let profiles: Vec<ProfileRow> = read_table(&out.join(PROFILES)).expect("a table");
    assert_eq!(profiles.len(), 8);
    assert!(out.join("report.html").exists());
    let again = run(&["compare", a, b, "--out", out.to_str().expect("UTF-8")]);
    assert_eq!(again.code, 2, "nothing is written over");
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
}

#[test]
fn what_cannot_be_compared_is_refused_by_name() {
    let root = TempDir::new().expect("a temporary folder");
    let [a, b] = two_runs(root.path());
    let refused = |folders: &[&Path], more: &[&str], words: &[&str]| {
        let mut arguments = vec!["compare"];
        arguments.extend(folders.iter().map(|folder| folder.to_str().expect("UTF-8")));
        arguments.extend(more);
        let done = run(&arguments);
        assert!([2, 65].contains(&done.code), "{}: {}", done.code, done.stderr);
        for word in words {
            assert!(done.stderr.contains(word), "'{word}' is not in: {}", done.stderr);
        }
        assert_eq!(done.stdout, "");
    };
    let empty = root.path().join("empty");
    std::fs::create_dir(&empty).expect("made");
    refused(&[&a, &empty], &[], &["empty", "no finished run", "give the folder of a finished run"]);
    refused(&[&a, &root.path().join("nowhere")], &[], &["nowhere", "no finished run"]);
    refused(&[&a, &a], &[], &["named twice"]);
    refused(&[&a, &b], &["--sizes", "9"], &["keeps 8 neurons, 9 are compared", "output.keep = 0"]);
    refused(&[&a, &b], &["--sizes", "0"], &["--sizes"]);
    refused(&[&a, &b], &["--share", "1.5"], &["--share", "0.01"]);
    let wide = root.path().join("wide");
    manifest(&wide, "a model", &[4, 5]);
    let rows = ranking("meandiff", "NOUN", &[8, 0], &[4, 5]);
    write_rankings(&wide.join(RANKINGS), "89ab", rows.into_iter()).expect("written");
    refused(&[&a, &wide], &[], &["wide", "layers.1.mlp_act has 5 neurons", "it has 4"]);
    let strange = root.path().join("strange");
    manifest(&strange, "a model", &WIDTHS);
    let rows = ranking("meandiff", "Mood=Imp", &[1, 0], &WIDTHS);
    write_rankings(&strange.join(RANKINGS), "cdef", rows.into_iter()).expect("written");
    refused(&[&a, &b, &strange], &[], &["strange", "shares no concept", "same labels", "'NOUN'"]);
    let torn = root.path().join("torn");
    manifest(&torn, "a model", &WIDTHS);
    std::fs::write(torn.join(RANKINGS), b"PAR1 and no more").expect("written");
    refused(&[&a, &torn], &[], &["torn"]);
}
