//! A GPT-2 of two layers that is written on the spot, with one neuron wired to one word, and a
//! corpus for it.
//!
//! The wiring: column 0 of the stream is [`SIGNAL`] in the embedding of [`PLANTED`] and 0 in all
//! others; nothing else writes to it, and [`NEURON`] of [`LAYER`] alone reads it.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

/// The word that the planted neuron fires on, and its label.
pub(crate) const PLANTED: &str = "w7";
/// Its label in the corpus.
pub(crate) const LABEL: &str = "planted";
/// Where the neuron is.
pub(crate) const LAYER: usize = 1;
/// Its number.
pub(crate) const NEURON: usize = 13;

const WORDS: usize = 40;
const WIDTH: usize = 16;
const MLP: usize = 32;
const LAYERS: usize = 2;
const POSITIONS: usize = 32;
const SIGNAL: f32 = 8.0;

/// splitmix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// About normal: twelve uniform numbers.
    fn normal(&mut self) -> f32 {
        let sum: f64 = (0..12).map(|_| (self.next() >> 11) as f64 / (1_u64 << 53) as f64).sum();
        (sum - 6.0) as f32
    }

    fn matrix(&mut self, rows: usize, columns: usize, scale: f32) -> Vec<f32> {
        (0..rows * columns).map(|_| self.normal() * scale).collect()
    }
}

/// Name, shape, values.
pub(crate) type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// The weights.
pub(crate) fn tensors() -> Tensors {
    let mut random = Random(11);
    let clear = |mut matrix: Vec<f32>, columns: usize| {
        matrix.iter_mut().step_by(columns).for_each(|x| *x = 0.0);
        matrix
    };
    let mut tokens = clear(random.matrix(WORDS + 1, WIDTH, 1.0), WIDTH);
    let planted: usize = PLANTED[1..].parse().expect("a number");
    tokens[(planted + 1) * WIDTH] = SIGNAL;
    let mut tensors = vec![
        ("transformer.wte.weight".to_owned(), vec![WORDS + 1, WIDTH], tokens),
        (
            "transformer.wpe.weight".to_owned(),
            vec![POSITIONS, WIDTH],
            clear(random.matrix(POSITIONS, WIDTH, 1.5), WIDTH),
        ),
    ];
    for layer in 0..LAYERS {
        let mut put = |name: &str, shape: &[usize], values: Vec<f32>| {
            tensors.push((format!("transformer.h.{layer}.{name}"), shape.to_vec(), values));
        };
        for norm in ["ln_1", "ln_2"] {
            put(&format!("{norm}.weight"), &[WIDTH], vec![1.0; WIDTH]);
            put(&format!("{norm}.bias"), &[WIDTH], vec![0.0; WIDTH]);
        }
        put("attn.c_attn.weight", &[WIDTH, 3 * WIDTH], random.matrix(WIDTH, 3 * WIDTH, 0.3));
        put("attn.c_attn.bias", &[3 * WIDTH], vec![0.0; 3 * WIDTH]);
        let out = clear(random.matrix(WIDTH, WIDTH, 0.3), WIDTH);
        put("attn.c_proj.weight", &[WIDTH, WIDTH], out);
        put("attn.c_proj.bias", &[WIDTH], vec![0.0; WIDTH]);
        // A neuron that never fired on the word would be as good a sign of it as one that does.
        let (mut reads, mut bias) = (random.matrix(WIDTH, MLP, 0.3), vec![0.5; MLP]);
        reads[..MLP].fill(0.0);
        let mut writes = clear(random.matrix(MLP, WIDTH, 0.3), WIDTH);
        if layer == LAYER {
            (0..WIDTH).for_each(|row| reads[row * MLP + NEURON] = 0.0);
            (reads[NEURON], bias[NEURON]) = (6.0, -6.0);
            writes[NEURON * WIDTH..][..WIDTH].fill(0.0);
        }
        put("mlp.c_fc.weight", &[WIDTH, MLP], reads);
        put("mlp.c_fc.bias", &[MLP], bias);
        put("mlp.c_proj.weight", &[MLP, WIDTH], writes);
        put("mlp.c_proj.bias", &[WIDTH], vec![0.0; WIDTH]);
    }
    tensors.push(("transformer.ln_f.weight".to_owned(), vec![WIDTH], vec![1.0; WIDTH]));
    tensors.push(("transformer.ln_f.bias".to_owned(), vec![WIDTH], vec![0.0; WIDTH]));
    tensors
}

/// A safetensors file of them.
pub(crate) fn safetensors_bytes(tensors: &Tensors) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data[..]].concat()
}

/// `config.json`.
pub(crate) fn config() -> Value {
    json!({
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": WORDS + 1,
        "n_embd": WIDTH, "n_head": 2, "n_layer": LAYERS, "n_inner": MLP, "n_positions": POSITIONS,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
    })
}

/// `tokenizer.json`: a token for each word.
pub(crate) fn tokenizer() -> Value {
    let mut vocabulary = Map::new();
    vocabulary.insert("[UNK]".to_owned(), json!(0));
    (0..WORDS).for_each(|word| drop(vocabulary.insert(format!("w{word}"), json!(word + 1))));
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    })
}

/// The model in a folder that it makes.
pub(crate) fn write_model(folder: &Path) {
    fs::create_dir_all(folder).expect("made");
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).expect("written");
    write("config.json", config().to_string().as_bytes());
    write("tokenizer.json", tokenizer().to_string().as_bytes());
    write("model.safetensors", &safetensors_bytes(&tensors()));
}

/// Words and labels, a sentence a line: 3 to 14 words, each of them labelled as planted, or by its
/// number.
pub(crate) fn corpus(sentences: usize) -> (String, String) {
    let mut random = Random(5);
    let (mut words, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..sentences {
        let sentence: Vec<usize> = (0..3 + random.below(12)).map(|_| random.below(WORDS)).collect();
        let word = |word: &usize| format!("w{word}");
        let label = |word: &usize| match format!("w{word}").as_str() {
            PLANTED => LABEL,
            _ if word.is_multiple_of(3) => "fizz",
            _ => "other",
        };
        words.push(sentence.iter().map(word).collect::<Vec<_>>().join(" "));
        labels.push(sentence.iter().map(label).collect::<Vec<_>>().join(" "));
    }
    (words.join("\n") + "\n", labels.join("\n") + "\n")
}
