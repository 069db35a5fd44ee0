//! `extract --ids --intervene`. Oracles: what the same command writes without edits, put together by
//! hand, and the definition of each kind.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{Raw, extract, floats, golden, read};

const SITE: &str = "layers.0.mlp_act";

/// A fixture's ids, and a folder for what is made of them.
struct Case {
    folder: TempDir,
    model: PathBuf,
}

impl Case {
    fn new(name: &str) -> Self {
        Self { folder: TempDir::new().expect("a temporary folder"), model: golden(name) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the fixture under an intervention.
    fn run(&self, intervention: &str, sites: &str, out: &str) -> BTreeMap<String, Raw> {
        let ids = self.model.join("expected.safetensors").display().to_string();
        std::fs::write(self.path("edit.json"), intervention).expect("written");
        let edit = self.path("edit.json").display().to_string();
        let arguments = ["--ids", &ids, "--sites", sites, "--intervene", &edit];
        let done = extract(&self.model, &arguments, &self.path(out));
        assert_eq!(done.code, Some(0), "{intervention}: {}", done.stderr);
        read(&self.path(out))
    }

    /// The values of a site with and without edits, by token of the grid.
    fn both(&self, intervention: &str) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let found = self.run(intervention, SITE, "out.safetensors");
        let plain = self.run(r#"{"edits": []}"#, SITE, "plain.safetensors");
        let rows = |raw: &Raw| -> Vec<Vec<f32>> {
            floats(raw).chunks(raw.1[2]).map(<[f32]>::to_vec).collect()
        };
        (rows(&plain[SITE]), rows(&found[SITE]))
    }

    /// Row and position of each token of the grid; none for pads.
    fn grid(&self) -> (usize, Vec<bool>) {
        let ids = read(&self.model.join("expected.safetensors"));
        let mask = &ids["attention_mask"];
        let real = mask.2.chunks_exact(8).map(|bytes| bytes[0] == 1).collect();
        (mask.1[1], real)
    }
}

/// Each kind on two neurons, against its definition.
#[test]
fn every_kind_writes_what_it_says() {
    let case = Case::new("gpt2-tied");
    let (_, real) = case.grid();
    type Rule = fn(f32, f32) -> (f32, f32);
    let kinds: [(&str, Rule); 9] = [
        (r#""kind": "zero""#, |_, _| (0.0, 0.0)),
        (r#""kind": "mean", "values": [0.5]"#, |_, _| (0.5, 0.5)),
        (r#""kind": "set", "values": [1.5, -2]"#, |_, _| (1.5, -2.0)),
        (r#""kind": "add", "values": [1, 2]"#, |a, b| (a + 1.0, b + 2.0)),
        (r#""kind": "scale", "factor": -3"#, |a, b| (-3.0 * a, -3.0 * b)),
        (r#""kind": "blend", "gates": [1, 0], "towards": [9, 0.25]"#, |a, _| (a, 0.25)),
        (r#""kind": "clamp", "low": [-0.01, 0.02], "high": [0.01, 0.03]"#, |a, b| {
            (a.clamp(-0.01, 0.01), b.clamp(0.02, 0.03))
        }),
        (r#""kind": "clamp", "high": [-0.01]"#, |a, b| (a.min(-0.01), b.min(-0.01))),
        (
            r#""kind": "keep_top", "k": 1"#,
            |a, b| if a.abs() >= b.abs() { (a, 0.0) } else { (0.0, b) },
        ),
    ];
    for (kind, rule) in kinds {
        let edit = format!(r#"{{"edits": [{{"layer": 0, "neurons": [3, 5], {kind}}}]}}"#);
        let (plain, edited) = case.both(&edit);
        for ((before, after), real) in plain.iter().zip(&edited).zip(&real) {
            let mut want = before.clone();
            if *real {
                (want[3], want[5]) = rule(before[3], before[5]);
            }
            assert_eq!(*after, want, "{kind}");
        }
    }
}

/// What is left along a direction is the rounding of what was there.
#[test]
fn a_direction_is_taken_out() {
    let case = Case::new("gpt2-tied");
    let (_, edited) = case.both(
        r#"{"kind": "project", "edits": [{"layer": 0, "neurons": [1, 4, 9], "direction": [3, 0, -4]}]}"#,
    );
    let (plain, _) = case.both(r#"{"edits": []}"#);
    for (before, after) in plain.iter().zip(&edited) {
        assert!((3.0 * after[1] - 4.0 * after[9]).abs() < 1e-6, "{after:?}");
        assert_eq!((before[4], before[0]), (after[4], after[0]));
    }
}

/// Groups are written each by itself, edits in order, and what an edit says wins.
#[test]
fn groups_positions_and_order() {
    let case = Case::new("gpt2-tied");
    let (length, real) = case.grid();
    let ends = |row: usize| {
        let tokens = real[row * length..][..length].iter();
        let here: Vec<usize> =
            tokens.enumerate().filter(|(_, real)| **real).map(|(i, _)| i).collect();
        (row * length + here[0], row * length + here[here.len() - 1])
    };
    let (plain, edited) = case.both(
        r#"{"kind": "set", "values": [7], "positions": "last", "edits": [
            {"layer": 0, "groups": {"a": [1, 2], "b": [4]}},
            {"layer": 0, "neurons": [2], "kind": "scale", "factor": 2, "positions": "all"},
            {"layer": 0, "neurons": [6], "positions": "first", "values": [8]}]}"#,
    );
    for (at, (before, after)) in plain.iter().zip(&edited).enumerate() {
        let mut want = before.clone();
        let (first, last) = ends(at / length);
        if at == last {
            (want[1], want[2], want[4]) = (7.0, 7.0, 7.0);
        }
        if real[at] {
            want[2] *= 2.0;
        }
        if at == first {
            want[6] = 8.0;
        }
        assert_eq!(*after, want, "cell {at}");
    }
}

/// Each arm is the run of its own file; `clean` is the run without any.
#[test]
fn arms_are_runs_of_their_own() {
    let case = Case::new("bert-tokcls");
    let off = r#""edits": [{"layer": 0, "neurons": "all", "kind": "zero"}]"#;
    let more = r#""edits": [{"site": "layers.1.resid_mid", "neurons": [0, 1]}]"#;
    let all = format!(
        r#"{{"clean": true, "kind": "add", "values": [3], "arms": [
            {{"name": "off", {off}}}, {{"name": "more", {more}}}, {{"name": "none", "edits": []}}]}}"#,
    );
    let sites = "layers.1.*,loss,grad.embeddings";
    let arms = case.run(&all, sites, "arms.safetensors");
    let one = |name: &str, file: &str| {
        let alone = case.run(file, sites, "one.safetensors");
        assert!(
            alone.len() > 8 && alone.contains_key("loss") && alone.contains_key("grad.embeddings")
        );
        for (tensor, raw) in &alone {
            assert!(arms[&format!("{name}/{tensor}")] == *raw, "{name}/{tensor}");
        }
        alone.len()
    };
    let counted = one("clean", r#"{"edits": []}"#)
        + one("off", &format!("{{{off}}}"))
        + one("more", &format!(r#"{{"kind": "add", "values": [3], {more}}}"#))
        + one("none", r#"{"edits": []}"#);
    assert_eq!(counted, arms.len());
    assert!(arms["off/logits"] != arms["clean/logits"]);
}

#[test]
fn values_of_another_run_are_patched_in() {
    let case = Case::new("gpt2-tied");
    let sites = "layers.0.resid_post,layers.1.mlp_act,final_norm";
    let scale = r#"{"kind": "scale", "factor": 3, "edits": [{"layer": 0, "neurons": "all"}]}"#;
    let clean = case.run(r#"{"edits": []}"#, sites, "clean.safetensors");
    let other = case.run(scale, sites, "other.safetensors");
    // All of the stream put back: what follows is the clean run again.
    let back = case.run(
        r#"{"edits": [{"layer": 0, "neurons": "all", "kind": "scale", "factor": 3},
                      {"site": "layers.0.resid_post", "neurons": "all", "kind": "patch",
                       "from": {"file": "clean.safetensors"}}]}"#,
        sites,
        "back.safetensors",
    );
    assert!(back == clean && other["logits"] != clean["logits"]);
    // Some neurons at one place, from a tensor by name.
    let some = case.run(
        r#"{"edits": [{"site": "layers.1.mlp_act", "neurons": [5, 2], "kind": "patch",
                       "positions": [[1, 3]],
                       "from": {"file": "other.safetensors", "tensor": "layers.1.mlp_act"}}]}"#,
        sites,
        "some.safetensors",
    );
    let shape = clean["layers.1.mlp_act"].1.clone();
    let mut want = floats(&clean["layers.1.mlp_act"]);
    for neuron in [2, 5] {
        let at = (shape[1] + 3) * shape[2] + neuron;
        want[at] = floats(&other["layers.1.mlp_act"])[at];
    }
    assert_eq!(floats(&some["layers.1.mlp_act"]), want);
}

/// Every token gets another's values, by position or by row; a seed gives the same each time.
#[test]
fn tokens_are_resampled_from_each_other() {
    let case = Case::new("gpt2-tied");
    let (length, real) = case.grid();
    let neurons: Vec<usize> = (0..20).collect();
    let file = |seed: u32, more: &str| {
        format!(
            r#"{{"edits": [{{"layer": 0, "neurons": {neurons:?}, "kind": "resample", "seed": {seed}{more}}}]}}"#
        )
    };
    let picked = |row: &Vec<f32>| neurons.iter().map(|&n| row[n].to_bits()).collect::<Vec<_>>();
    let tokens: Vec<usize> = (0..real.len()).filter(|&at| real[at]).collect();
    let (plain, edited) = case.both(&file(4, ""));
    let mut donors = Vec::new();
    for &at in &tokens {
        let same = |&&from: &&usize| picked(&plain[from]) == picked(&edited[at]);
        let found: Vec<usize> = tokens.iter().filter(same).copied().collect();
        assert!(!found.is_empty() && found != [at], "cell {at} has its own values");
        assert_eq!(plain[at][20..], edited[at][20..]);
        donors.extend(found);
    }
    donors.sort_unstable();
    donors.dedup();
    assert_eq!(donors, tokens, "everyone gives once");
    assert_eq!(case.both(&file(4, "")).1, edited);
    assert_ne!(case.both(&file(5, "")).1, edited);
    // By row, at the same place in it, or the last where the row is shorter.
    let (_, edited) = case.both(&file(4, r#", "donors": "rows""#));
    let of_row = |row: usize| -> Vec<usize> {
        (row * length..(row + 1) * length).filter(|&at| real[at]).collect()
    };
    let rows = real.len() / length;
    for row in 0..rows {
        let matches = |&from: &usize| {
            of_row(row).iter().enumerate().all(|(place, &at)| {
                let other = of_row(from);
                picked(&edited[at]) == picked(&plain[other[place.min(other.len() - 1)]])
            })
        };
        assert!((0..rows).filter(|&from| from != row).any(|from| matches(&from)), "row {row}");
    }
}

/// Rows that the file itself gives.
#[test]
fn rows_of_values_are_written_as_they_stand() {
    let case = Case::new("gpt2-tied");
    let (length, _) = case.grid();
    let (plain, edited) = case.both(
        r#"{"edits": [{"layer": 0, "neurons": [2, 1], "kind": "resample",
                       "positions": [[1, 3], [0, 2]], "values": [[1, 2], [3, 4]]}]}"#,
    );
    for (at, (before, after)) in plain.iter().zip(&edited).enumerate() {
        let mut want = before.clone();
        if at == length + 3 {
            (want[2], want[1]) = (1.0, 2.0);
        }
        if at == 2 {
            (want[2], want[1]) = (3.0, 4.0);
        }
        assert_eq!(*after, want, "cell {at}");
    }
}
