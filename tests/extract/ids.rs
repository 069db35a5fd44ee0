//! `extract --ids`. Oracles: the library, bit for bit, and the shapes of the fixtures.

use electrode::device::cpu::CpuDevice;
use electrode::engine::array::Values;
use electrode::engine::ids::{IdsRequest, PaddedIds, extract_ids};
use electrode::model::Model;

use super::{extract, floats, golden, read};

#[test]
fn the_file_holds_what_the_library_gives() {
    for name in ["gpt2-tied", "bert-tokcls"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("out.safetensors");
        let model = golden(name);
        let ids = model.join("expected.safetensors");
        let done = extract(&model, &["--ids", &ids.display().to_string(), "--sites", "*"], &out);
        assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
        let model = Model::open(&model.display().to_string()).expect("opens");
        let padded = PaddedIds::load(&ids).expect("ids");
        let request = IdsRequest { sites: vec!["*".into()], intervention: None };
        let arrays = extract_ids(CpuDevice::F32, &model, &padded, &request).expect("runs");
        let (written, expected) = (read(&out), read(&ids));
        assert_eq!(written.keys().collect::<Vec<_>>(), arrays.keys().collect::<Vec<_>>());
        for (tensor, array) in &arrays {
            let raw = &written[tensor];
            assert_eq!(raw.1, array.shape, "{name}: {tensor}");
            assert!(done.stdout.contains(tensor.as_str()), "{}", done.stdout);
            match &array.values {
                Values::F32(values) => assert!(floats(raw) == *values, "{name}: {tensor}"),
                Values::I64(values) => assert_eq!(raw.2, bytemuck::cast_slice::<_, u8>(values)),
            }
            if let Some(contract) = expected.get(tensor) {
                assert_eq!(raw.1, contract.1, "{name}: {tensor}");
            }
        }
        assert!(
            ["embeddings", "layers.1.head_out", "layers.0.attn_probs", "logits", "loss"]
                .iter()
                .all(|site| written.contains_key(*site))
        );
        let [gate, act] =
            ["mlp_gate", "mlp_act"].map(|kind| floats(&written[&format!("layers.1.{kind}")]));
        assert_eq!(gate, act, "{name}: nothing is between them in a plain MLP");
        assert_pads_are_zero(&padded, &floats(&written["layers.1.mlp_act"]), name);
    }
}

fn assert_pads_are_zero(ids: &PaddedIds, values: &[f32], name: &str) {
    let width = values.len() / ids.attention_mask.len();
    let pads = ids.attention_mask.iter().zip(values.chunks_exact(width));
    let pads: Vec<_> = pads.filter(|(mask, _)| **mask == 0).collect();
    assert!(
        !pads.is_empty() && pads.iter().all(|(_, row)| row.iter().all(|x| *x == 0.0)),
        "{name}"
    );
}

#[test]
fn only_the_sites_asked_for_and_edits_reach_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let model = golden("gpt2-tied");
    let ids = model.join("expected.safetensors").display().to_string();
    let run = |more: &[&str], out: &str| {
        let arguments = [&["--ids", &ids, "--sites", "layers.*.mlp_act,final_norm"], more].concat();
        let done = extract(&model, &arguments, &path(out));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        read(&path(out))
    };
    let plain = run(&[], "plain.safetensors");
    let mut names: Vec<&str> = plain.keys().map(String::as_str).collect();
    names.retain(|name| *name != "loss");
    let wanted = ["final_norm", "layers.0.mlp_act", "layers.1.mlp_act"];
    assert!(wanted.iter().all(|name| names.contains(name)), "{names:?}");
    let edits = r#"{"kind": "zero", "edits": [{"layer": 0, "neurons": [3, 5]}]}"#;
    std::fs::write(path("edit.json"), edits).expect("written");
    let edit = path("edit.json").display().to_string();
    let edited = run(&["--intervene", &edit], "edited.safetensors");
    let (before, after) = (&plain["layers.0.mlp_act"], &edited["layers.0.mlp_act"]);
    let width = before.1[2];
    for (at, (old, new)) in floats(before).iter().zip(floats(after)).enumerate() {
        let zeroed = [3, 5].contains(&(at % width));
        assert_eq!(new, if zeroed { 0.0 } else { *old }, "neuron {}", at % width);
    }
    assert!(plain["final_norm"] != edited["final_norm"], "later layers see it");
}
