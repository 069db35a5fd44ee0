//! Edits in the forward pass, against PyTorch, and gradients under them on both devices.
//! Oracle: `interventions.safetensors` (forward hooks on the down projection's input), cases in
//! `meta.json`. Bound: as for the forward pass.

use std::path::Path;

use electrode::capture::intervention::Intervention;
use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::engine::array::{Array, Values};
use electrode::engine::ids::{IdsRequest, PaddedIds, extract_ids};
use electrode::model::Model;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::fixture::Compared;
use super::forward::judge;
use crate::cuda::device;

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
        let arrays = extract_ids(CpuDevice::F32, &model, &ids, &request).expect("runs");
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

/// Gradients under every kind of edit, on the CPU and on a GPU; differences.rs holds the former to
/// the slopes of the loss.
#[test]
fn gradients_under_edits_are_the_same_on_a_gpu() {
    let Some(gpu) = device(Element::F32) else { return };
    for name in ["gpt2-tied", "qwen3-qknorm"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/forward").join(name);
        let model = Model::open_with_config(&folder, &folder.join("config.json")).expect("opens");
        let ids = PaddedIds::load(&folder.join("expected.safetensors")).expect("ids");
        let ones = vec![0.5; 12];
        let arms: Vec<Value> = [
            json!({"kind": "zero"}),
            json!({"kind": "add", "values": [0.5]}),
            json!({"kind": "scale", "factor": -2.0}),
            json!({"kind": "project", "direction": ones}),
            json!({"kind": "blend", "gates": [0.25], "towards": ones}),
            json!({"kind": "clamp", "low": [-0.02], "high": ones}),
            json!({"kind": "keep_top", "k": 4}),
            json!({"kind": "resample", "seed": 5}),
        ]
        .into_iter()
        .map(|mut edit| {
            let neurons: Vec<u32> = (0..12).map(|i| 3 * i).collect();
            (edit["layer"], edit["neurons"]) = (json!(0), json!(neurons));
            json!({"name": edit["kind"], "edits": [edit]})
        })
        .collect();
        let text = json!({"arms": arms}).to_string();
        let request = IdsRequest {
            sites: vec!["grad.embeddings".into(), "grad.layers.0.mlp_pre".into()],
            intervention: Some(Intervention::parse(&text, &folder).expect("parses")),
        };
        let cpu = extract_ids(CpuDevice::F32, &model, &ids, &request).expect("runs");
        let ours = extract_ids(gpu.clone(), &model, &ids, &request).expect("runs");
        let wide = |array: &Array| match &array.values {
            Values::F32(values) => values.iter().map(|&x| f64::from(x)).collect(),
            Values::I64(_) => panic!("gradients are f32"),
        };
        let mut compared = 0;
        for (tensor, want) in cpu.iter().filter(|(tensor, _)| tensor.contains("grad.")) {
            let (want, got) = (wide(want), wide(&ours[tensor]));
            judge(name, &Compared { name: tensor.clone(), want, got });
            compared += 1;
        }
        assert_eq!(compared, 16, "{name}");
    }
}
