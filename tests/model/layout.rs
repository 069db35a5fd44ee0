//! Oracle: by hand. A GPT-2 of two columns whose tensors hold 0, 1, 2, … and its derivatives.

use electrode::model::{HeadSpec, LayerParam, Model, Param};
use serde_json::json;

use super::support::{folder, gpt2, gpt2_config, gpt2_tensors, safetensors_bytes};

#[test]
fn matrices_are_out_by_in_and_the_head_is_the_token_table() {
    let folder = gpt2();
    let model = Model::open(folder.path().to_str().expect("a path")).expect("opens");
    let fc = model.tensor(Param::Layer(0, LayerParam::Up)).expect("there");
    assert_eq!((fc.shape, fc.data), (vec![3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
    let bias = model.tensor(Param::Layer(0, LayerParam::UpBias)).expect("there");
    assert_eq!((bias.shape, bias.data), (vec![3], vec![0.0, 1.0, 2.0]));
    assert!(model.head_is_tied());
    assert_eq!(
        model.tensor(Param::Head).expect("there"),
        model.tensor(Param::Tokens).expect("there")
    );
    assert!(!model.has(Param::HeadBias) && !model.has(Param::Layer(1, LayerParam::Up)));
    assert!(model.tensor(Param::Pooler).is_err_and(|error| error.exit_code() == 70));
}

#[test]
fn an_untied_model_without_its_head_has_none() {
    let mut config = gpt2_config();
    config["tie_word_embeddings"] = json!(false);
    let folder = folder(&config, &safetensors_bytes(&gpt2_tensors()));
    let model = Model::open(folder.path().to_str().expect("a path")).expect("opens");
    assert_eq!(model.spec.head, HeadSpec::None);
    assert!(!model.has(Param::Head));
}

#[test]
fn costs_are_counted() {
    let folder = gpt2();
    let model = Model::open(folder.path().to_str().expect("a path")).expect("opens");
    let cost = model.cost(4).expect("counted");
    // wte 10, wpe 8, ln 4 + 4 + 4, qkv 12 + 6, out 4 + 2, up 6 + 3, down 6 + 2.
    assert_eq!(cost.parameters, 71);
    assert_eq!(cost.embedding_parameters, 18);
    assert_eq!((cost.stored_bytes, cost.f32_bytes), (284, 284));
    // Projections: 2 * 2 columns * 8 rows. MLP: 2 * 2 * 3 * 2. Head: 2 * 5 * 2.
    assert_eq!((cost.flops.projections, cost.flops.mlp, cost.flops.head), (32, 24, 20));
    // Four tokens see 1 + 2 + 3 + 4 = 10 keys: 2 products of 2 columns, 80 operations over 4.
    assert_eq!(cost.flops.attention, 20);
    assert_eq!(cost.flops.total(), 96);
}

#[test]
fn hashes_name_every_file() {
    let folder = gpt2();
    let model = Model::open(folder.path().to_str().expect("a path")).expect("opens");
    let hashes = model.hashes().expect("readable");
    let names: Vec<&str> = hashes.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["config.json", "model.safetensors"]);
    // FIPS 180-4, of the empty file.
    std::fs::write(folder.path().join("tokenizer.json"), b"").expect("written");
    let empty = &model.hashes().expect("readable")[1];
    assert_eq!((empty.0.as_str(), empty.1), ("tokenizer.json", 0));
    let known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(empty.2, known);
}

#[test]
fn a_file_rewritten_under_us_is_noticed() {
    let folder = gpt2();
    let model = Model::open(folder.path().to_str().expect("a path")).expect("opens");
    model.check_unchanged().expect("nobody wrote to it");
    // A new file by the same name, as a download puts it there.
    let path = folder.path().join("model.safetensors");
    std::fs::rename(&path, folder.path().join("old")).expect("renamed");
    std::fs::write(&path, safetensors_bytes(&gpt2_tensors())).expect("written");
    let error = model.check_unchanged().expect_err("another file");
    assert_eq!(error.exit_code(), 65);
    assert!(error.to_string().contains("changed while"), "{error}");
}
