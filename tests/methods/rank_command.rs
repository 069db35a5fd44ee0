//! `electrode rank`, from files to file.
//! Oracles: the contract of its JSON, scores of `toy.json`, and messages that name both sides.

use std::path::{Path, PathBuf};

use electrode::cli::rank::{RankArgs, run};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{Random, shared};

const ROWS: usize = 40;
const NEURONS: usize = 6;

/// A folder with a matrix in every type, labels in every form.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let mut random = Random(3);
        let x: Vec<f32> =
            (0..ROWS * NEURONS).map(|_| (random.normal() as f32 * 8.0).round() / 8.0).collect();
        let label = |row: usize| [0_i64, 1, -1, 3][row % 4];
        let ids: Vec<i64> = (0..ROWS).map(label).collect();
        let shape = vec![ROWS, NEURONS];
        let f16: Vec<u8> = x.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
        let bf16: Vec<u8> = x.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
        let f32: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        let f64: Vec<u8> = x.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect();
        let i64: Vec<u8> = ids.iter().flat_map(|v| v.to_le_bytes()).collect();
        let i32: Vec<u8> = ids.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect();
        let mut bad = x.clone();
        bad[7] = f32::NAN;
        let bad: Vec<u8> = bad.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensors = [
            ("f16", Dtype::F16, shape.clone(), &f16),
            ("bf16", Dtype::BF16, shape.clone(), &bf16),
            ("f32", Dtype::F32, shape.clone(), &f32),
            ("f64", Dtype::F64, shape.clone(), &f64),
            ("nan", Dtype::F32, shape, &bad),
            ("ids64", Dtype::I64, vec![ROWS], &i64),
            ("ids32", Dtype::I32, vec![ROWS], &i32),
        ];
        let views = tensors.iter().map(|(name, dtype, shape, data)| {
            (*name, TensorView::new(*dtype, shape.clone(), data).expect("sizes agree"))
        });
        let bytes = safetensors::serialize(views, None).expect("it serialises");
        files.write("a.safetensors", &bytes);
        let names: Vec<Value> = ids
            .iter()
            .map(|&id| match id {
                -1 => Value::Null,
                id => json!(["b", "a", "", "c"][id as usize]),
            })
            .collect();
        files.write("names.json", json!(names).to_string().as_bytes());
        files.write("short.json", br#"["a", "b", null]"#);
        files.write("broken.json", br#"{"a": 1}"#);
        files.write("one.json", json!(vec!["only"; ROWS]).to_string().as_bytes());
        files
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(name), bytes).expect("writable");
    }

    fn args(&self, activations: &str, labels: &str, method: &str) -> RankArgs {
        RankArgs {
            activations: self.path(activations),
            labels: Some(self.path(labels)),
            method: method.to_owned(),
            rows: None,
            columns: None,
            out: PathBuf::from(self.path("out.json")),
        }
    }

    fn rank(&self, args: RankArgs) -> Value {
        run(args.clone()).unwrap_or_else(|error| panic!("{args:?}: {error}"));
        read(&args.out)
    }

    fn refuse(&self, args: RankArgs, code: u8, words: &[&str]) {
        let error = run(args.clone()).expect_err("it is wrong");
        let text = error.to_string();
        assert_eq!(error.exit_code(), code, "{text}");
        // The system's own words for a missing file say what to do.
        let remedy = (!text.contains("cannot read")).then_some(&"remedy");
        for word in words.iter().chain(remedy) {
            assert!(text.contains(word), "'{word}' is not in: {text}");
        }
        assert!(!args.out.exists(), "nothing is left behind");
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("it was written")).expect("it is JSON")
}

fn list(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

#[test]
fn the_contract() {
    let files = Files::new();
    let out = files.rank(files.args("a.safetensors:f32", "a.safetensors:ids64", "meandiff:std"));
    assert_eq!(out["method"], "meandiff:std");
    assert_eq!(out["n"], 30, "rows with -1 do not count");
    assert_eq!(out["overall"], Value::Null);
    let groups = out["groups"].as_array().expect("groups");
    let names: Vec<_> = groups.iter().map(|g| (g["id"].clone(), g["name"].clone())).collect();
    assert_eq!(names, [(json!(0), json!("0")), (json!(1), json!("1")), (json!(3), json!("3"))]);
    for group in groups {
        assert_eq!(group["n"], 10);
        let mut neurons = list(&group["neurons"]);
        neurons.sort_by(f64::total_cmp);
        assert_eq!(neurons, (0..NEURONS).map(|n| n as f64).collect::<Vec<_>>());
        let (scores, values) = (list(&group["scores"]), list(&group["values"]));
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        for ((score, sign), value) in scores.iter().zip(list(&group["signs"])).zip(values) {
            assert_eq!(score * sign, value);
        }
        for (p, q) in list(&group["p"]).iter().zip(list(&group["q"])) {
            assert!((0.0..=1.0).contains(p) && *p <= q && q <= 1.0);
        }
    }
    assert!(
        files.rank(files.args("a.safetensors:f32", "names.json", "fstat"))["overall"].is_object()
    );
}

#[test]
fn types_of_numbers_and_labels_do_not_matter() {
    let files = Files::new();
    for method in ["ap", "probeless", "mi", "topctx:k=3", "lape:share=0.5"] {
        let want = files.rank(files.args("a.safetensors:f32", "a.safetensors:ids64", method));
        for tensor in ["f16", "bf16", "f64"] {
            let activations = format!("a.safetensors:{tensor}");
            let ours = files.rank(files.args(&activations, "a.safetensors:ids32", method));
            assert_eq!(ours, want, "{method} on {tensor}");
        }
    }
    // Strings are sorted: "a" was 1, "b" was 0, "c" was 3.
    let ids = files.rank(files.args("a.safetensors:f32", "a.safetensors:ids64", "ap"));
    let named = files.rank(files.args("a.safetensors:f32", "names.json", "ap"));
    for (id, name, of_ids) in [(0, "a", 1), (1, "b", 0), (2, "c", 2)] {
        assert_eq!(named["groups"][id]["id"], id);
        assert_eq!(named["groups"][id]["name"], name);
        for key in ["neurons", "scores", "signs", "values", "p", "q", "n"] {
            assert_eq!(named["groups"][id][key], ids["groups"][of_ids][key]);
        }
    }
}

#[test]
fn parts_keep_their_numbers() {
    let files = Files::new();
    let mut args = files.args("a.safetensors:f32", "names.json", "selectivity");
    let whole = files.rank(args.clone());
    args.columns = Some("2..5".to_owned());
    let part = files.rank(args.clone());
    let inside = |value: &Value| -> Vec<f64> {
        list(value).into_iter().filter(|n| (2.0..5.0).contains(n)).collect()
    };
    for (part, whole) in part["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .zip(whole["groups"].as_array().expect("groups"))
    {
        assert_eq!(list(&part["neurons"]), inside(&whole["neurons"]));
    }
    args.rows = Some("8..20".to_owned());
    args.method = "topctx:k=2".to_owned();
    for context in files.rank(args.clone())["contexts"].as_array().expect("contexts") {
        assert!(list(&context["rows"]).iter().all(|row| (8.0..20.0).contains(row)), "{context}");
        assert!((2..5).contains(&context["neuron"].as_u64().expect("a number")));
    }
    args.method = "topword".to_owned();
    let words = files.rank(args.clone());
    assert_eq!(words["words"][0]["neuron"], 2);
    assert_eq!(words["words"][0]["words"][0]["score"], 1.0);
    assert!(["a", "b", "c"].map(|w| json!(w)).contains(&words["words"][0]["words"][0]["word"]));
    args.method = "viz".to_owned();
    args.labels = None;
    assert_eq!(files.rank(args)["scales"].as_array().expect("scales").len(), 3);
}

#[test]
fn wrong_files_are_named() {
    let files = Files::new();
    let args = |labels: &str| files.args("a.safetensors:f32", labels, "ap");
    files.refuse(args("short.json"), 65, &["short.json", "3 labels", "a.safetensors", "40 rows"]);
    files.refuse(args("broken.json"), 65, &["broken.json", "list of strings"]);
    files.refuse(args("one.json"), 65, &["1 usable class"]);
    files.refuse(args("absent.json"), 2, &["absent.json", "cannot read"]);
    files.refuse(args("a.safetensors:f32"), 65, &["one dimension"]);
    let of = |activations: &str| files.args(activations, "names.json", "ap");
    files.refuse(of("a.safetensors:ids46"), 65, &["no tensor 'ids46'", "did you mean", "bf16"]);
    files.refuse(of("a.safetensors:ids64"), 65, &["has shape [40]"]);
    files.refuse(of("a.safetensors:nan"), 65, &["1 of 180", "row 1"]);
    files.refuse(of("names.json:x"), 65, &["not a safetensors file"]);
    files.refuse(of("a.safetensors"), 2, &["--activations"]);
    files.write("huge.safetensors", &[0xff; 32]);
    files.refuse(of("huge.safetensors:x"), 65, &["damaged"]);
}

#[test]
fn wrong_arguments_are_named() {
    let files = Files::new();
    let args = |method: &str| files.args("a.safetensors:f32", "names.json", method);
    files.refuse(args("probless"), 2, &["no method 'probless'", "did you mean 'probeless'"]);
    files.refuse(args("iou:alfa=0.1"), 2, &["no setting 'alfa'", "did you mean 'alpha'"]);
    files.refuse(args("iou:alpha=2"), 2, &["alpha=2", "from 0 to 1"]);
    files.refuse(args("iou:alpha=nan"), 2, &["alpha=nan"]);
    files.refuse(args("iou:alpha=0.1,tau=1"), 2, &["both given"]);
    files.refuse(args("mi:bins=1"), 2, &["bins=1", "from 2"]);
    files.refuse(args("ap:std"), 2, &["takes no settings"]);
    files.refuse(args("meandiff:std,std=false"), 2, &["given twice"]);
    files.refuse(args("bottom:of=random"), 2, &["of=random"]);
    files.refuse(args("corr:numeric"), 2, &["is a number"]);
    let mut unlabelled = args("ap");
    unlabelled.labels = None;
    files.refuse(unlabelled, 2, &["--labels"]);
    for range in ["3", "5..5", "a..b", "0..99", "-1..3"] {
        let args = RankArgs { columns: Some(range.to_owned()), ..args("ap") };
        files.refuse(args, 2, &["--columns"]);
    }
}

#[test]
fn the_fixture_through_the_command() {
    let Some(folder) = shared() else { return };
    let inputs = folder.join("inputs.safetensors").display().to_string();
    let files = Files::new();
    let out = files.rank(RankArgs {
        activations: format!("{inputs}:hidden_last"),
        labels: Some(format!("{inputs}:label")),
        method: "probeless".to_owned(),
        rows: Some("0..1151".to_owned()),
        columns: Some("2304..2688".to_owned()),
        out: PathBuf::from(files.path("out.json")),
    });
    assert_eq!(out["groups"].as_array().expect("groups").len(), 14);
    let neurons = list(&out["overall"]["neurons"]);
    assert_eq!(neurons.len(), 384);
    assert!(neurons.iter().all(|n| (2304.0..2688.0).contains(n)));
}
