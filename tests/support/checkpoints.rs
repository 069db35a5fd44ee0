//! Where fixtures are, and tiny checkpoints written on the spot.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// The forward fixtures, or a line that says they are not here.
pub(super) fn forward() -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/forward"));
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {} is not here", path.display());
    None
}

/// The fixture folders that hold a model.
pub(super) fn models(forward: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(forward).expect("a folder").map(|e| e.expect("an entry").path());
    let mut models: Vec<PathBuf> =
        entries.filter(|p| p.join("model.safetensors").is_file()).collect();
    models.sort();
    assert!(models.len() >= 33, "{} models are too few", models.len());
    models
}

/// One tensor of a safetensors file in float32, by the crate that defines the format.
pub(super) fn read_f32(path: &Path, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(path).expect("readable");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let view = file.tensor(name).ok()?;
    let data = view.data();
    let values = match view.dtype() {
        safetensors::Dtype::F32 => {
            data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        safetensors::Dtype::F16 => {
            data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        safetensors::Dtype::BF16 => {
            data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        other => panic!("{name} is {other:?}"),
    };
    Some((view.shape().to_vec(), values))
}

/// A safetensors file of float32 tensors, written by hand so that it can be written wrongly.
pub(super) fn safetensors_bytes(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name.clone(), entry);
    }
    with_header(&Value::Object(header).to_string(), &data)
}

/// Length, header, data.
pub(super) fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// The configuration of the smallest GPT-2: 2 columns, 1 head, 1 layer, 3 neurons, 5 tokens.
pub(super) fn gpt2_config() -> Value {
    json!({
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 5, "n_embd": 2,
        "n_head": 1, "n_layer": 1, "n_inner": 3, "n_positions": 4, "bos_token_id": 0,
    })
}

/// Its tensors, each with values 0, 1, 2, ….
pub(super) fn gpt2_tensors() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let shapes: [(&str, &[usize]); 16] = [
        ("wte.weight", &[5, 2]),
        ("wpe.weight", &[4, 2]),
        ("h.0.ln_1.weight", &[2]),
        ("h.0.ln_1.bias", &[2]),
        ("h.0.attn.c_attn.weight", &[2, 6]),
        ("h.0.attn.c_attn.bias", &[6]),
        ("h.0.attn.c_proj.weight", &[2, 2]),
        ("h.0.attn.c_proj.bias", &[2]),
        ("h.0.ln_2.weight", &[2]),
        ("h.0.ln_2.bias", &[2]),
        ("h.0.mlp.c_fc.weight", &[2, 3]),
        ("h.0.mlp.c_fc.bias", &[3]),
        ("h.0.mlp.c_proj.weight", &[3, 2]),
        ("h.0.mlp.c_proj.bias", &[2]),
        ("ln_f.weight", &[2]),
        ("ln_f.bias", &[2]),
    ];
    let tensor = |(name, shape): &(&str, &[usize])| {
        let count: usize = shape.iter().product();
        let values = (0..u16::try_from(count).expect("small")).map(f32::from).collect();
        ((*name).to_owned(), shape.to_vec(), values)
    };
    shapes.iter().map(tensor).collect()
}

/// A folder with this configuration and these bytes as weights.
pub(super) fn folder(config: &Value, weights: &[u8]) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    fs::write(folder.path().join("model.safetensors"), weights).expect("written");
    folder
}

/// A folder with the smallest GPT-2.
pub(super) fn gpt2() -> TempDir {
    folder(&gpt2_config(), &safetensors_bytes(&gpt2_tensors()))
}

/// The configuration of a small LLaMA: 8 columns, 4 query heads, 2 key heads, 2 layers.
pub(super) fn llama_config() -> Value {
    json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 5,
        "hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16,
        "rope_theta": 100.0, "tie_word_embeddings": true,
    })
}

/// Its tensors; the number of the tensor is the value of all its elements.
pub(super) fn llama_tensors() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let block: [(&str, &[usize]); 12] = [
        ("input_layernorm.weight", &[8]),
        ("self_attn.q_proj.weight", &[8, 8]),
        ("self_attn.k_proj.weight", &[4, 8]),
        ("self_attn.v_proj.weight", &[4, 8]),
        ("self_attn.q_proj.bias", &[8]),
        ("self_attn.k_proj.bias", &[4]),
        ("self_attn.v_proj.bias", &[4]),
        ("self_attn.o_proj.weight", &[8, 8]),
        ("post_attention_layernorm.weight", &[8]),
        ("mlp.gate_proj.weight", &[6, 8]),
        ("mlp.up_proj.weight", &[6, 8]),
        ("mlp.down_proj.weight", &[8, 6]),
    ];
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".to_owned(), vec![5, 8]),
        ("model.norm.weight".to_owned(), vec![8]),
    ];
    for layer in 0..2 {
        let name = |(name, shape): &(&str, &[usize])| {
            (format!("model.layers.{layer}.{name}"), shape.to_vec())
        };
        shapes.extend(block.iter().map(name));
    }
    let fill = |(number, (name, shape)): (u8, (String, Vec<usize>))| {
        let count = shape.iter().product();
        (name, shape, vec![f32::from(number); count])
    };
    (0..).zip(shapes).map(fill).collect()
}
