//! Outputs of a machine in a file: `<device>.json.zst` beside this one, for those of real GPUs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::case::Case;

/// The outputs of one device, each with the hash of all that its kernel read: after a change of the
/// input they say nothing.
pub(super) struct Saved {
    device: String,
    outputs: Map<String, Value>,
}

/// What was saved on real GPUs.
pub(super) fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels/cuda/conformance");
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut files: Vec<_> = paths.filter(|path| path.to_string_lossy().ends_with(ENDING)).collect();
    files.sort();
    files
}

const ENDING: &str = ".json.zst";

fn hash(case: &Case) -> String {
    blake3::hash(&case.everything_read()).to_hex()[..16].to_owned()
}

impl Saved {
    pub(super) fn new(device: &str) -> Self {
        Self { device: device.to_owned(), outputs: Map::new() }
    }

    pub(super) fn open(path: &Path) -> Self {
        let packed = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let text = zstd::decode_all(packed.as_slice()).expect("zstd");
        let whole: Value = serde_json::from_slice(&text).expect("JSON");
        let device = whole["device"].as_str().expect("a name").to_owned();
        Self { device, outputs: whole["outputs"].as_object().expect("outputs").clone() }
    }

    pub(super) fn device(&self) -> &str {
        &self.device
    }

    pub(super) fn len(&self) -> usize {
        self.outputs.len()
    }

    pub(super) fn add(&mut self, case: &Case, out: &[u32]) {
        let words: String = out.iter().map(|word| format!("{word:08x}")).collect();
        self.outputs.insert(case.name(), json!({ "input": hash(case), "words": words }));
    }

    /// What the device wrote, if it was given this input.
    pub(super) fn output(&self, case: &Case) -> Option<Vec<u32>> {
        let saved = self.outputs.get(&case.name())?;
        let words = saved["words"].as_str().expect("words");
        let word = |i: usize| u32::from_str_radix(&words[8 * i..8 * i + 8], 16).expect("a word");
        (saved["input"] == hash(case)).then(|| (0..words.len() / 8).map(word).collect())
    }

    /// Writes the file of the device into a folder, which is made where it is missing.
    pub(super) fn save(&self, folder: &Path) -> PathBuf {
        let name = self.device.to_lowercase();
        let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let path = folder.join(words.collect::<Vec<_>>().join("-") + ENDING);
        let text = json!({ "device": self.device, "outputs": self.outputs }).to_string();
        fs::create_dir_all(folder).expect("a folder");
        let packed = zstd::encode_all(text.as_bytes(), 19).expect("zstd");
        fs::write(&path, packed).expect("a file");
        path
    }
}
