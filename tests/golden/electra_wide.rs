//! An ELECTRA whose embeddings are as wide as its stream, without a projection (the base size).
//! Oracle: it is then a BERT under other names, and `bert-tokcls` has PyTorch's values. Bound: as
//! for the forward pass.

use std::path::Path;

use electrode::device::cpu::CpuDevice;
use electrode::engine::array::Values;
use electrode::engine::ids::{IdsRequest, PaddedIds, extract_ids};
use electrode::model::Model;
use safetensors::SafeTensors;

#[test]
fn embeddings_narrow_is_there_without_a_projection() {
    let bert = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/forward/bert-tokcls");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bytes = std::fs::read(bert.join("model.safetensors")).expect("fixture");
    let file = SafeTensors::deserialize(&bytes).expect("fixture");
    let tensors = file.tensors();
    let renamed = tensors.iter().filter_map(|(name, view)| {
        Some((format!("electra.{}", name.strip_prefix("bert.")?), view))
    });
    let weights = safetensors::serialize(renamed, None).expect("serialises");
    std::fs::write(folder.path().join("model.safetensors"), weights).expect("written");
    let config = std::fs::read_to_string(bert.join("config.json")).expect("fixture");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("fixture");
    config["model_type"] = "electra".into();
    config["architectures"] = serde_json::json!(["ElectraModel"]);
    config["embedding_size"] = config["hidden_size"].clone();
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("written");

    let model = Model::open_with_config(folder.path(), &folder.path().join("config.json"));
    let expected = bert.join("expected.safetensors");
    let ids = PaddedIds { labels: None, ..PaddedIds::load(&expected).expect("ids") };
    let request = IdsRequest { sites: vec!["*".into()], intervention: None };
    let arrays = extract_ids(CpuDevice::F32, &model.expect("opens"), &ids, &request).expect("runs");
    let bytes = std::fs::read(expected).expect("fixture");
    let file = SafeTensors::deserialize(&bytes).expect("fixture");
    for (ours, theirs) in [
        ("embeddings_narrow", "embeddings"),
        ("embeddings", "embeddings"),
        ("layers.1.resid_post", "layers.1.resid_post"),
    ] {
        let want: Vec<f32> = file
            .tensor(theirs)
            .expect("there")
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")))
            .collect();
        let Values::F32(got) = &arrays[ours].values else { panic!("{ours} is f32") };
        assert_eq!(got.len(), want.len(), "{ours}");
        let largest = want.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() <= 3e-5 * largest, "{ours}: {got} {want}");
        }
    }
}
