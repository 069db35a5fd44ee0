//! Oracle: the table of reliability.md section 4. Each damaged or hostile input ends with its exit
//! code and a message that names the fault.

use std::fs;
use std::path::Path;

use electrode::error::Error;
use electrode::model::{Model, Param};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{folder, gpt2, gpt2_config, gpt2_tensors, safetensors_bytes, with_header};

fn open(folder: &Path) -> Result<Model, Error> {
    Model::open(folder.to_str().expect("a path"))
}

fn assert_fails(folder: &Path, code: u8, part: &str) {
    let error = open(folder).err().unwrap_or_else(|| panic!("opened, expected '{part}'"));
    assert_eq!(error.exit_code(), code, "{error}");
    assert!(error.to_string().contains(part), "expected '{part}' in: {error}");
    assert!(error.to_string().contains("remedy: "), "{error}");
}

fn weights_fail(bytes: &[u8], part: &str) {
    assert_fails(folder(&gpt2_config(), bytes).path(), 65, part);
}

fn config_fails(change: impl FnOnce(&mut Value), part: &str) {
    let mut config = gpt2_config();
    change(&mut config);
    assert_fails(folder(&config, &safetensors_bytes(&gpt2_tensors())).path(), 2, part);
}

#[test]
fn every_truncation_is_an_input_error() {
    let whole = safetensors_bytes(&gpt2_tensors());
    for length in (0..whole.len()).step_by(7).chain([1, 7, 8, 9, whole.len() - 1]) {
        weights_fail(&whole[..length], "truncated");
    }
}

#[test]
fn a_longer_file_is_an_input_error() {
    let mut bytes = safetensors_bytes(&gpt2_tensors());
    bytes.push(0);
    weights_fail(&bytes, "1 bytes after the last tensor");
}

#[test]
fn headers_that_lie_are_refused() {
    let mut huge = (1_u64 << 40).to_le_bytes().to_vec();
    huge.extend(b"{}");
    weights_fail(&huge, "header of 1099511627776 bytes");
    weights_fail(&[0xff; 32], "header of 18446744073709551615 bytes");
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    weights_fail(&with_header(&deep, &[]), "nested deeper");
    weights_fail(&with_header("[1]", &[]), "damaged safetensors header");
    weights_fail(&with_header("{\"a\":", &[]), "damaged safetensors header");
    weights_fail(&with_header("", &[]), "damaged safetensors header");
    let tensor = |begin: i64, end: i64, shape: &str| {
        format!("{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{begin},{end}]}}")
    };
    let two = |a: String, b: String| with_header(&format!("{{\"a\":{a},\"b\":{b}}}"), &[0; 8]);
    weights_fail(&two(tensor(0, 4, "[1]"), tensor(0, 8, "[2]")), "overlapping");
    weights_fail(&two(tensor(0, 4, "[1]"), tensor(5, 8, "[1]")), "hole");
    weights_fail(&two(tensor(0, 4, "[1]"), tensor(4, 0, "[1]")), "reversed");
    weights_fail(&two(tensor(0, 4, "[1]"), tensor(4, -1, "[1]")), "damaged");
    weights_fail(&two(tensor(0, 4, "[1]"), tensor(4, 8, "[2]")), "has 4 bytes, needs 8");
    let overflow = tensor(4, 8, "[4294967296,4294967296,4294967296]");
    weights_fail(&two(tensor(0, 4, "[1]"), overflow), "has 4 bytes, needs");
    let twice = format!("{{\"a\":{},\"a\":{}}}", tensor(0, 4, "[1]"), tensor(4, 8, "[1]"));
    weights_fail(&with_header(&twice, &[0; 8]), "tensor 'a' twice");
}

#[test]
fn pickles_are_refused_by_name_and_by_first_bytes() {
    for name in ["pytorch_model.bin", "model.pt", "weights.pth", "last.CKPT"] {
        let folder = TempDir::new().expect("a temporary folder");
        fs::write(folder.path().join("config.json"), gpt2_config().to_string()).expect("written");
        fs::write(folder.path().join(name), b"anything").expect("written");
        assert_fails(folder.path(), 65, "safe_serialization=True");
    }
    weights_fail(b"PK\x03\x04\x00\x00\x08\x08\x00\x00archive/data.pkl", "a pickle");
    weights_fail(b"\x80\x02}q\x00X\x05\x00\x00\x00", "a pickle");
    // A header of 640 bytes begins like a pickle and is none.
    let mut header = json!({"__metadata__": {"pad": ""}}).to_string();
    header += &" ".repeat(640 - header.len());
    weights_fail(&with_header(&header, &[]), "no tensor 'transformer.wte.weight'");
}

#[test]
fn indices_stay_inside_the_folder() {
    let outer = TempDir::new().expect("a temporary folder");
    fs::write(outer.path().join("a.safetensors"), safetensors_bytes(&gpt2_tensors()))
        .expect("written");
    let inner = outer.path().join("model");
    fs::create_dir(&inner).expect("made");
    fs::write(inner.join("config.json"), gpt2_config().to_string()).expect("written");
    let index = |text: &str| {
        fs::write(inner.join("model.safetensors.index.json"), text).expect("written");
    };
    let absolute = outer.path().join("a.safetensors").display().to_string();
    for name in
        ["../a.safetensors", &absolute, "..", "", ".", "a\\b.safetensors", "x/../y", "w.bin"]
    {
        index(&json!({"weight_map": {"wte.weight": name}}).to_string());
        assert_fails(&inner, 65, "not a plain safetensors file name");
    }
    index(&json!({"weight_map": {"wte.weight": "b.safetensors"}}).to_string());
    assert_fails(&inner, 65, "'b.safetensors', which is not there");
    std::os::unix::fs::symlink("../a.safetensors", inner.join("b.safetensors")).expect("linked");
    assert_fails(&inner, 65, "a link out of the model's folder");
    fs::copy(outer.path().join("a.safetensors"), inner.join("c.safetensors")).expect("copied");
    index(
        &json!({"weight_map": {"wte.weight": "c.safetensors", "x": "c.safetensors"}}).to_string(),
    );
    assert_fails(&inner, 65, "'x' should be in 'c.safetensors', and is not");
    for text in ["", "[]", "{}", "{\"weight_map\": {\"a\": 1}}"] {
        index(text);
        assert_fails(&inner, 65, "not an index of tensors");
    }
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    for (number, (name, ..)) in gpt2_tensors().iter().enumerate() {
        let mut tensors = gpt2_tensors();
        tensors.remove(number);
        weights_fail(&safetensors_bytes(&tensors), &format!("{name}' of shape ["));
    }
    let mut tensors = gpt2_tensors();
    tensors[4].1 = vec![6, 2];
    weights_fail(&safetensors_bytes(&tensors), "has shape [6, 2], config.json asks for [2, 6]");
}

#[test]
fn values_that_are_not_finite_are_counted() {
    let mut tensors = gpt2_tensors();
    tensors[0].2[3] = f32::NAN;
    tensors[0].2[4] = f32::NEG_INFINITY;
    let folder = folder(&gpt2_config(), &safetensors_bytes(&tensors));
    let model = open(folder.path()).expect("headers are in order");
    let error = model.tensor(Param::Tokens).expect_err("not finite");
    assert_eq!(error.exit_code(), 65);
    assert!(error.to_string().contains("'wte.weight' has 2 values that are not finite"), "{error}");
    model.tensor(Param::Positions).expect("finite");
}

#[test]
fn other_types_are_refused() {
    let header = safetensors_bytes(&gpt2_tensors());
    let text = String::from_utf8_lossy(&header[8..]).into_owned();
    let end = text.find("}}").expect("the header's end") + 2;
    let changed = text[..end].replacen("F32", "I32", 1);
    let data: usize = gpt2_tensors().iter().map(|(.., values)| 4 * values.len()).sum();
    let bytes = with_header(&changed, &header[header.len() - data..]);
    let folder = folder(&gpt2_config(), &bytes);
    let error = open(folder.path()).expect("headers are in order").tensor(Param::Tokens);
    assert!(error.is_err_and(|e| e.exit_code() == 65 && e.to_string().contains("type I32")));
}

#[test]
fn configurations_are_checked() {
    config_fails(|c| c["model_type"] = json!("gtp2"), "did you mean 'gpt2'");
    config_fails(|c| c["model_type"] = json!("mamba"), "use one of: bert, roberta");
    config_fails(|c| c["model_type"] = json!(3), "must be a string");
    config_fails(|c| drop(c.as_object_mut().map(|m| m.remove("model_type"))), "is missing");
    config_fails(|c| drop(c.as_object_mut().map(|m| m.remove("n_embd"))), "n_embd: is missing");
    for value in [json!(-1), json!(0), json!(1_000_001), json!(2.5), json!("2"), json!(1e300)] {
        config_fails(|c| c["n_embd"] = value.clone(), "must be a whole number from 1 to 1000000");
    }
    config_fails(|c| c["n_layer"] = json!(10_001), "10001 layers");
    config_fails(|c| c["n_head"] = json!(3), "cannot be cut into 3 heads");
    config_fails(|c| c["activation_function"] = json!("mish"), "'mish' is not a nonlinearity");
    config_fails(|c| c["layer_norm_epsilon"] = json!(-1e-5), "must be a number from 0 to 1");
    config_fails(|c| c["add_cross_attention"] = json!(true), "cross-attention");
    config_fails(|c| c["tie_word_embeddings"] = json!("yes"), "must be true or false");
    config_fails(
        |c| {
            c["model_type"] = json!("special");
            c["auto_map"] = json!({"AutoModel": "code.Special"});
        },
        "needs code from the model folder, which is never run",
    );
    let mut known = gpt2_config();
    known["auto_map"] = json!({"AutoModel": "code.Special"});
    let weights = safetensors_bytes(&gpt2_tensors());
    assert!(open(folder(&known, &weights).path()).is_ok(), "the code is ignored, not needed");
}

#[test]
fn configurations_that_are_not_json_are_named() {
    let folder = gpt2();
    let path = folder.path().join("config.json");
    for (text, part) in [
        (&b""[..], "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff\xfe", "not JSON"),
    ] {
        fs::write(&path, text).expect("written");
        assert_fails(folder.path(), 2, part);
    }
    fs::write(&path, vec![b' '; 11 << 20]).expect("written");
    assert_fails(folder.path(), 2, "too many for a model configuration");
    fs::remove_file(&path).expect("removed");
    assert_fails(folder.path(), 2, "config.json is missing");
    assert_fails(&folder.path().join("model.safetensors"), 2, "is a file");
    assert_fails(&folder.path().join("nowhere"), 2, "no such folder");
}

#[test]
fn a_folder_without_weights_says_so() {
    let folder = gpt2();
    fs::remove_file(folder.path().join("model.safetensors")).expect("removed");
    assert_fails(folder.path(), 65, "no weights");
    fs::create_dir(folder.path().join("model.safetensors")).expect("made");
    assert_fails(folder.path(), 65, "not a plain file");
}

/// A LLaMA's configuration: the description is made before weights are looked for.
fn llama_fails(change: impl FnOnce(&mut Value), part: &str) {
    let mut config = json!({
        "model_type": "llama", "vocab_size": 5, "hidden_size": 8, "intermediate_size": 6,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 16,
    });
    change(&mut config);
    assert_fails(folder(&config, &with_header("{}", &[])).path(), 2, part);
}

#[test]
fn rotations_and_windows_that_cannot_be_computed_are_refused() {
    for kind in ["yarn", "dynamic", "longrope", "su"] {
        let scaling = json!({"type": kind, "factor": 4.0});
        llama_fails(|c| c["rope_scaling"] = scaling, "rotary scaling is not supported");
    }
    llama_fails(|c| c["rope_scaling"] = json!({"rope_type": "linear"}), "factor: is missing");
    llama_fails(|c| c["rope_theta"] = json!(0), "must be a positive number");
    llama_fails(|c| c["num_key_value_heads"] = json!(4), "cannot share 4 key heads");
    llama_fails(|c| c["head_dim"] = json!(600_000), "columns");
    llama_fails(|c| c["head_dim"] = json!(3), "rotates 3 of a head's 3 columns");
    llama_fails(
        |c| {
            c["model_type"] = json!("mistral");
            c["num_key_value_heads"] = json!(1);
            c["layer_types"] = json!(["full_attention"]);
        },
        "names 1 layers, the model has 2",
    );
    llama_fails(
        |c| {
            c["model_type"] = json!("mistral");
            c["num_key_value_heads"] = json!(1);
            c["layer_types"] = json!(["full_attention", "chunked_attention"]);
        },
        "'chunked_attention' is not supported",
    );
}
