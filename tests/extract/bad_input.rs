//! Wrong input to `extract`. Oracle: the exit codes of the README; no file is left.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{extract, golden, write_ids};

pub(super) struct Case {
    folder: TempDir,
}

impl Case {
    pub(super) fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Refused with this code and these words, and nothing new in the folder.
    pub(super) fn refuse(&self, model: &Path, arguments: &[&str], code: i32, words: &[&str]) {
        let list = || {
            let entries = std::fs::read_dir(self.folder.path()).expect("readable");
            let mut names: Vec<_> = entries.map(|e| e.expect("an entry").file_name()).collect();
            names.sort();
            names
        };
        let before = list();
        let done = extract(model, arguments, &self.path("out.safetensors"));
        assert_eq!(done.code, Some(code), "expected {words:?}: {}", done.stderr);
        for word in words {
            assert!(done.stderr.contains(word), "'{word}' is not in: {}", done.stderr);
        }
        assert_eq!(done.stdout, "");
        assert_eq!(list(), before, "{words:?}");
    }

    fn refuse_ids(&self, tensors: &[(&str, &[usize], &[i64])], code: i32, words: &[&str]) {
        write_ids(&self.path("ids.safetensors"), tensors);
        let ids = self.path("ids.safetensors").display().to_string();
        self.refuse(&golden("gpt2-tied"), &["--ids", &ids, "--sites", "final_norm"], code, words);
    }
}

pub(super) const IDS: [i64; 6] = [1, 2, 3, 4, 5, 6];

#[test]
fn wrong_ids() {
    let case = Case::new();
    let two = |ids: &[i64], mask: &[i64], code: i32, words: &[&str]| {
        let tensors = [("input_ids", &[2, 3][..], ids), ("attention_mask", &[2, 3][..], mask)];
        case.refuse_ids(&tensors, code, words);
    };
    let ones = [1; 6];
    two(&[1, 2, 3, 4, 99_999, 6], &ones, 2, &["input_ids, row 1, position 1", "99999"]);
    two(&[1, 2, -3, 4, 5, 6], &ones, 2, &["input_ids, row 0, position 2", "-3"]);
    two(&IDS, &[1, 0, 1, 1, 1, 1], 65, &["row 0 of attention_mask"]);
    two(&IDS, &[1, 1, 1, 0, 0, 0], 65, &["row 1 of attention_mask"]);
    two(&IDS, &[1, 1, 1, 1, 2, 1], 65, &["row 1 of attention_mask"]);
    case.refuse_ids(&[("input_ids", &[6], &IDS)], 65, &["shape [6]", "(B, S)"]);
    let mask = ("attention_mask", &[3, 2][..], &ones[..]);
    case.refuse_ids(
        &[("input_ids", &[2, 3], &IDS), mask],
        65,
        &["attention_mask has shape [3, 2]"],
    );
    case.refuse_ids(&[("ids", &[2, 3], &IDS)], 65, &["no tensor 'input_ids'"]);
    case.refuse_ids(&[("input_ids", &[0, 3], &[])], 65, &["empty"]);
    let long = vec![1; 50];
    case.refuse_ids(&[("input_ids", &[1, 50], &long)], 2, &["a row has 50 tokens"]);
    let positions = [0, 1, 2, 0, 1, 400];
    case.refuse_ids(
        &[("input_ids", &[2, 3], &IDS), ("position_ids", &[2, 3], &positions)],
        2,
        &["position_ids, row 1, position 2", "400"],
    );
}

/// A causal model reads its targets from the ids; others need labels of their shape and classes.
#[test]
fn wrong_labels() {
    let case = Case::new();
    for (model, labels, words) in [
        ("bert-tokcls", &[1, 2, 3][..], &["3 labels", "scores 6"][..]),
        ("bert-tokcls", &[1; 7], &["7 labels", "scores 6"]),
        ("bert-tokcls", &[0, 1, -100, 0, 900, 1], &["labels, entry 4", "900"]),
        ("bert-seqcls", &[1; 6], &["6 labels", "scores 2"]),
    ] {
        let tensors = [("input_ids", &[2, 3][..], &IDS[..]), ("labels", &[labels.len()], labels)];
        write_ids(&case.path("ids.safetensors"), &tensors);
        let ids = case.path("ids.safetensors").display().to_string();
        case.refuse(&golden(model), &["--ids", &ids, "--sites", "final_norm"], 2, words);
    }
}

#[test]
fn wrong_files_and_sites() {
    let case = Case::new();
    let model = golden("gpt2-tied");
    let absent = case.path("absent.safetensors").display().to_string();
    case.refuse(&model, &["--ids", &absent, "--sites", "final_norm"], 2, &["absent.safetensors"]);
    std::fs::write(case.path("cut.safetensors"), [0xff; 12]).expect("written");
    let cut = case.path("cut.safetensors").display().to_string();
    case.refuse(&model, &["--ids", &cut, "--sites", "final_norm"], 65, &["not a safetensors file"]);
    write_ids(&case.path("ids.safetensors"), &[("input_ids", &[2, 3], &IDS)]);
    let ids = case.path("ids.safetensors").display().to_string();
    for (sites, word) in [
        ("layers.*.mlp_akt", "mlp_akt"),
        ("layers.9.mlp_act", "layers.9.mlp_act"),
        ("final_norm,nonsense", "nonsense"),
    ] {
        case.refuse(&model, &["--ids", &ids, "--sites", sites], 2, &[word, "remedy"]);
    }
    let gpu = ["--ids", &ids, "--sites", "final_norm", "--device", "cuda:99"];
    case.refuse(&model, &gpu, 2, &["device", "99"]);
    let nowhere = case.path("nowhere");
    case.refuse(&nowhere, &["--ids", &ids, "--sites", "final_norm"], 2, &["nowhere"]);
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2-en");
    let corpus = case.path("absent.conllu").display().to_string();
    case.refuse(&tiny, &["--corpus", &corpus, "--sites", "final_norm"], 2, &["absent.conllu"]);
    std::fs::write(case.path("empty.txt"), "").expect("written");
    let empty = case.path("empty.txt").display().to_string();
    case.refuse(&tiny, &["--corpus", &empty, "--sites", "final_norm"], 65, &["empty.txt"]);
    let text = case.path("a.txt");
    std::fs::write(&text, "a word\n").expect("written");
    let probabilities = ["--corpus", &text.display().to_string(), "--sites", "layers.0.attn_probs"];
    case.refuse(&tiny, &probabilities, 2, &["attn_probs"]);
    // A model without a tokenizer reads ids, but no text.
    let words = ["--corpus", &text.display().to_string(), "--sites", "final_norm"];
    case.refuse(&model, &words, 2, &["tokenizer.json"]);
}
