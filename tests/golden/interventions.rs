//! Edits in the forward pass, against PyTorch.
//! Oracle: `interventions.safetensors` (forward hooks on the down projection's input), cases in
//! `meta.json`. Bound: as for the forward pass.

use std::path::Path;

use electrode::capture::intervention::Intervention;
use electrode::device::cpu::CpuDevice;
use electrode::engine::array::Values;
use electrode::engine::ids::{IdsRequest, PaddedIds, extract_ids};
use electrode::model::Model;
use safetensors::SafeTensors;
use serde_json::{Value, json};

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect()
}

#[test]
fn edits_agree_with_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/forward/gpt2-tied");
    let model = Model::open_with_config(&folder, &folder.join("config.json")).expect("opens");
    let ids = PaddedIds::load(&folder.join("expected.safetensors")).expect("ids");
    let bytes = std::fs::read(folder.join("interventions.safetensors")).expect("fixture");
    let file = SafeTensors::deserialize(&bytes).expect("fixture");
    let meta = std::fs::read_to_string(folder.join("meta.json")).expect("meta");
    let meta: Value = serde_json::from_str(&meta).expect("meta");
    let cases = meta["interventions"].as_array().expect("a list");
    assert!(cases.len() >= 6);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let mut spec = json!({"kind": case["kind"], "edits": case["edits"]});
        for key in ["factor", "positions"] {
            if !case[key].is_null() {
                spec[key] = case[key].clone();
            }
        }
        if let Ok(values) = file.tensor(&format!("{name}.values")) {
            spec["values"] = json!(floats(values.data()));
        }
        let intervention = Intervention::parse(&spec.to_string(), &folder).expect("parses");
        let request = IdsRequest {
            sites: vec!["logits".into(), "loss".into()],
            intervention: Some(intervention),
        };
        let arrays = extract_ids(CpuDevice, &model, &ids, &request).expect("runs");
        for output in ["logits", "loss"] {
            let want = floats(file.tensor(&format!("{name}.{output}")).expect("there").data());
            let Values::F32(got) = &arrays[output].values else { panic!("{output} is f32") };
            assert_eq!(got.len(), want.len());
            let largest = want.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            let error = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(error <= 3e-5 * largest, "{name}.{output}: {error:e} of {largest}");
            assert!(got.iter().all(|x| x.is_finite()));
        }
    }
}
