//! Wrong interventions and gradients. Oracle: the exit codes of the README; no file is left.

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::bad_input::{Case, IDS};
use super::{golden, write_ids};

#[test]
fn wrong_edits() {
    let case = Case::new();
    write_ids(&case.path("ids.safetensors"), &[("input_ids", &[2, 3], &IDS)]);
    let ids = case.path("ids.safetensors").display().to_string();
    let edit = case.path("edit.json").display().to_string();
    for (text, words) in [
        (
            r#"{"kind": "zero", "edits": [{"layer": 0, "neurons": [100000]}]}"#,
            &["neuron 100000"][..],
        ),
        (r#"{"kind": "zero", "edits": [{"layer": 7, "neurons": [0]}]}"#, &["layers.7.mlp_act"]),
        (r#"{"kind": "zero", "edits": [{"site": "nonsense", "neurons": [0]}]}"#, &["nonsense"]),
        (
            r#"{"kind": "zero", "edits": [{"layer": 0, "neurons": [0], "positions": [[0, 9]]}]}"#,
            &["row 0, position 9"],
        ),
        (r#"{"kind": "set", "edits": [{"layer": 0, "neurons": [0]}]}"#, &["needs 'values'"]),
        (
            r#"{"kind": "set", "values": [1.0, 2.0], "edits": [{"layer": 0, "neurons": [0, 1, 2]}]}"#,
            &["2 values for 3 neurons"],
        ),
        (r#"{"edits": [{"layer": 0, "neurons": [0]}]}"#, &["needs a 'kind'"]),
        (r#"{"kind": "scale", "edits": [{"layer": 0, "neurons": "all"}]}"#, &["factor"]),
        (
            r#"{"kind": "zero", "edits": [{"site": "layers.0.attn_probs", "neurons": [0]}]}"#,
            &["not edited"],
        ),
        (r#"{"kind": "zero", "edit": []}"#, &["not an intervention", "did you mean 'edits'"]),
        ("{", &["not an intervention"]),
        ("[]", &["not an intervention"]),
        (r#"{"kind": "zero"}"#, &["neither 'edits' nor 'arms'"]),
    ] {
        std::fs::write(&edit, text).expect("written");
        let arguments = ["--ids", &ids, "--sites", "final_norm", "--intervene", &edit];
        case.refuse(&golden("gpt2-tied"), &arguments, 2, words);
    }
}

/// Each is told with the file, the key and a remedy.
#[test]
fn wrong_edits_by_key() {
    let case = Case::new();
    write_ids(&case.path("ids.safetensors"), &[("input_ids", &[2, 3], &IDS)]);
    let ids = case.path("ids.safetensors").display().to_string();
    let edit = case.path("edit.json").display().to_string();
    for (rest, words) in [
        (r#""neurons": [100000], "kind": "zero""#, &["edits[0]: neuron 100000", "0 to 191"][..]),
        (r#""neurons": [-1], "kind": "zero""#, &["edits[0].neurons: ", "[-1]"]),
        (r#""neurons": [0], "kind": "nil""#, &["edits[0].kind", "nil", "keep_top"]),
        (r#""neurons": [0], "kind": "zero", "nuerons": 1"#, &["edits[0].nuerons", "did you mean"]),
        (r#""neurons": [0], "kind": "zero", "factor": 2"#, &["edits[0].factor", "does not read"]),
        (r#""neurons": [0], "kind": "set", "values": [1e39]"#, &["values[0]", "finite"]),
        (r#""neurons": [0], "kind": "set", "values": ["NaN"]"#, &["values[0]", "NaN", "finite"]),
        (r#""neurons": [0], "kind": "set", "values": 3"#, &["edits[0].values", "is no list"]),
        (r#""neurons": [0], "kind": "scale", "factor": "x""#, &["edits[0].factor", "finite"]),
        (r#""neurons": "some", "kind": "zero""#, &["edits[0].neurons", "some"]),
        (r#""kind": "zero""#, &["either 'neurons' or 'groups'"]),
        (r#""groups": {}, "kind": "zero""#, &["edits[0].groups"]),
        (r#""groups": {"a": [300]}, "kind": "zero""#, &["edits[0].groups.a: neuron 300"]),
        (r#""neurons": [0, 1], "kind": "keep_top", "k": 3"#, &["'k' is 3 of 2"]),
        (r#""neurons": [0, 1], "kind": "keep_top", "k": -3"#, &["edits[0].k"]),
        (r#""neurons": [0, 1], "kind": "clamp""#, &["kind 'clamp' needs 'low'"]),
        (r#""neurons": [0, 1], "kind": "clamp", "low": [1, 2], "high": [1.5]"#, &["above 'high'"]),
        (r#""neurons": [0, 1], "kind": "clamp", "low": [1, 2, 3]"#, &["3 values of 'low' for 2"]),
        (r#""neurons": [0, 1], "kind": "clamp", "low": [0], "values": [1]"#, &["does not read it"]),
        (r#""neurons": [0, 1], "kind": "project", "direction": [1]"#, &["1 values of 'direction'"]),
        (r#""neurons": [0, 1], "kind": "project", "direction": [0, 0]"#, &["0 everywhere"]),
        (r#""neurons": [0], "kind": "project""#, &["needs 'direction'"]),
        (r#""neurons": [0], "kind": "blend", "gates": [1.5]"#, &["gates[0]", "1.5"]),
        (r#""neurons": [0], "kind": "zero", "positions": "middle""#, &["edits[0].positions"]),
        (r#""neurons": [0], "kind": "zero", "positions": [[0]]"#, &["edits[0].positions"]),
        (r#""neurons": [0], "kind": "patch""#, &["needs 'from'"]),
        (r#""neurons": [0], "kind": "patch", "from": {"path": 1}"#, &["from.path", "file, tensor"]),
        (r#""neurons": [0], "kind": "resample""#, &["needs 'values'", "'seed'"]),
        (r#""neurons": [0], "kind": "resample", "values": [[1]]"#, &["1 rows of values for 6"]),
        (r#""neurons": [0], "kind": "resample", "seed": 1, "donors": "x""#, &["edits[0].donors"]),
        (
            r#""neurons": [0], "kind": "resample", "seed": 1, "positions": [[0, 1]]"#,
            &["the only token has no donor"],
        ),
        (
            r#""neurons": [0, 1], "kind": "resample", "values": [[1]], "positions": [[0, 1]]"#,
            &["1 values in row 0 for 2 neurons"],
        ),
        (r#""neurons": [1, 1], "kind": "keep_top", "k": 1"#, &["neuron 1 twice"]),
    ] {
        std::fs::write(&edit, format!(r#"{{"edits": [{{"layer": 0, {rest}}}]}}"#))
            .expect("written");
        let arguments = ["--ids", &ids, "--sites", "final_norm", "--intervene", &edit];
        let words = [words, &["edit.json", "remedy"]].concat();
        case.refuse(&golden("gpt2-tied"), &arguments, 2, &words);
    }
}

#[test]
fn wrong_arms() {
    let case = Case::new();
    write_ids(&case.path("ids.safetensors"), &[("input_ids", &[2, 3], &IDS)]);
    let ids = case.path("ids.safetensors").display().to_string();
    let edit = case.path("edit.json").display().to_string();
    for (text, words) in [
        (r#"{"arms": []}"#, &["arms", "empty"][..]),
        (r#"{"arms": {}}"#, &["arms", "no list"]),
        (r#"{"arms": [3]}"#, &["arms[0]", "no object"]),
        (r#"{"arms": [{"edits": []}]}"#, &["arms[0].name"]),
        (r#"{"arms": [{"name": "a/b", "edits": []}]}"#, &["arms[0].name", "'/'"]),
        (r#"{"arms": [{"name": "a"}]}"#, &["arms[0].edits"]),
        (
            r#"{"arms": [{"name": "a", "edits": []}, {"name": "a", "edits": []}]}"#,
            &["arms[1].name", "another"],
        ),
        (r#"{"clean": true, "arms": [{"name": "clean", "edits": []}]}"#, &["arms[0].name"]),
        (r#"{"clean": 1, "arms": [{"name": "a", "edits": []}]}"#, &["clean", "true or false"]),
        (r#"{"clean": true, "edits": []}"#, &["clean", "goes with 'arms'"]),
        (r#"{"edits": [], "arms": [{"name": "a", "edits": []}]}"#, &["either 'edits' or 'arms'"]),
        (
            r#"{"arms": [{"name": "a", "edits": [{"layer": 7, "neurons": [0], "kind": "zero"}]}]}"#,
            &["arms[0].edits[0]", "layers.7.mlp_act", "0 to 1"],
        ),
        (
            r#"{"arms": [{"name": "a", "edits": [{"layer": 0, "neurons": [0], "kimd": "zero"}]}]}"#,
            &["arms[0].edits[0].kimd", "did you mean 'kind'"],
        ),
    ] {
        std::fs::write(&edit, text).expect("written");
        let arguments = ["--ids", &ids, "--sites", "final_norm", "--intervene", &edit];
        let words = [words, &["edit.json", "remedy"]].concat();
        case.refuse(&golden("gpt2-tied"), &arguments, 2, &words);
    }
    // A corpus has no rows, positions or arms.
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2-en");
    std::fs::write(case.path("a.txt"), "a word\n").expect("written");
    let corpus = case.path("a.txt").display().to_string();
    for (text, word) in [
        (r#"{"arms": [{"name": "a", "edits": []}]}"#, "--ids, not a corpus"),
        (
            r#"{"kind": "zero", "positions": "last", "edits": [{"layer": 0, "neurons": [0]}]}"#,
            "needs the batch of --ids",
        ),
        (
            r#"{"kind": "resample", "seed": 1, "edits": [{"layer": 0, "neurons": [0]}]}"#,
            "needs the batch of --ids",
        ),
    ] {
        std::fs::write(&edit, text).expect("written");
        let arguments = ["--corpus", &corpus, "--sites", "final_norm", "--intervene", &edit];
        case.refuse(&tiny, &arguments, 2, &[word, "remedy"]);
    }
}

/// Files to patch from: each told with its name.
#[test]
fn wrong_patches() {
    let case = Case::new();
    write_ids(&case.path("ids.safetensors"), &[("input_ids", &[2, 3], &IDS)]);
    let ids = case.path("ids.safetensors").display().to_string();
    let edit = case.path("edit.json").display().to_string();
    let mut values = vec![0.5_f32; 6 * 192];
    values[192 + 2] = f32::NAN;
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensor = |shape: &[usize]| {
        let length = shape.iter().product::<usize>() * 4;
        TensorView::new(Dtype::F32, shape.to_vec(), &bytes[..length]).expect("sizes agree")
    };
    let views = [
        ("layers.0.mlp_act", tensor(&[2, 3, 192])),
        ("narrow", tensor(&[2, 3, 8])),
        ("long", tensor(&[3, 2, 192])),
    ];
    let file = safetensors::serialize(views, None).expect("it serialises");
    std::fs::write(case.path("other.safetensors"), file).expect("written");
    std::fs::write(case.path("cut.safetensors"), [0xff; 12]).expect("written");
    for (from, code, words) in [
        (r#"{"file": "absent.safetensors"}"#, 2, &["absent.safetensors"][..]),
        (r#"{"file": "cut.safetensors"}"#, 65, &["cut.safetensors", "not a safetensors file"]),
        (r#"{"file": "ids.safetensors", "tensor": "input_ids"}"#, 65, &["I64", "float32"]),
        (r#"{"file": "other.safetensors", "tensor": "x"}"#, 65, &["no tensor 'x'", "narrow"]),
        (r#"{"file": "other.safetensors", "tensor": "narrow"}"#, 65, &["[2, 3, 8]", "192"]),
        (r#"{"file": "other.safetensors", "tensor": "long"}"#, 65, &["[3, 2, 192]", "[2, 3, 192]"]),
        (r#"{"file": "other.safetensors"}"#, 65, &["NaN", "row 0, position 1, neuron 2"]),
    ] {
        let text = format!(
            r#"{{"kind": "patch", "from": {from}, "edits": [{{"layer": 0, "neurons": "all"}}]}}"#
        );
        std::fs::write(&edit, text).expect("written");
        let arguments = ["--ids", &ids, "--sites", "final_norm", "--intervene", &edit];
        case.refuse(&golden("gpt2-tied"), &arguments, code, words);
    }
}

/// What has no gradient, or no loss to take one of.
#[test]
fn wrong_gradients() {
    let case = Case::new();
    write_ids(&case.path("ids.safetensors"), &[("input_ids", &[2, 3], &IDS)]);
    let ids = case.path("ids.safetensors").display().to_string();
    let no_head = ["--ids", &ids, "--sites", "grad.embeddings"];
    for (model, sites, word) in [
        ("gpt2-tied", "grad.layers.*.attn_probs", "no gradient can be had"),
        ("gpt2-tied", "grad.logits", "no gradient can be had"),
        ("gpt2-tied", "grad.layers.0.mlp_akt", "mlp_akt"),
        ("gpt2-tied", "grad.layers.9.mlp_act", "layers.9.mlp_act"),
        ("bert-tokcls", "grad.embeddings", "labels"),
        ("distilbert-smallemb", "grad.embeddings", "no head"),
    ] {
        let arguments = ["--ids", &ids, "--sites", sites];
        case.refuse(&golden(model), &arguments, 2, &[word, "remedy"]);
    }
    let edit = case.path("edit.json").display().to_string();
    let keep = r#"{"kind": "keep_top", "k": 3, "edits": [{"site": "SITE", "neurons": "all"}]}"#;
    std::fs::write(&edit, keep.replace("SITE", "layers.0.resid_post")).expect("written");
    let arguments = [&no_head[..], &["--intervene", &edit]].concat();
    case.refuse(&golden("gpt2-tied"), &arguments, 2, &["layers.0.resid_post", "keeps the largest"]);
    std::fs::write(&edit, keep.replace("SITE", "logits")).expect("written");
    case.refuse(&golden("gpt2-tied"), &arguments, 2, &["edit of logits"]);
}
