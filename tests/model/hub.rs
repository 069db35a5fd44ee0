//! Oracle: the layout of the Hub's cache as huggingface_hub writes it, built by hand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use electrode::model::{HubEnvironment, Model, hub};
use tempfile::TempDir;

use super::support::{gpt2_config, gpt2_tensors, safetensors_bytes};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache that holds `org/tiny` as blobs and links.
fn cache() -> (TempDir, PathBuf) {
    let home = TempDir::new().expect("a temporary folder");
    let repository = home.path().join("hub/models--org--tiny");
    let snapshot = repository.join("snapshots").join(COMMIT);
    for folder in [&snapshot, &repository.join("refs/pr"), &repository.join("blobs")] {
        fs::create_dir_all(folder).expect("made");
    }
    fs::write(repository.join("refs/main"), COMMIT).expect("written");
    fs::write(repository.join("refs/pr/1"), COMMIT).expect("written");
    let link = |name: &str, blob: &str, bytes: &[u8]| {
        fs::write(repository.join("blobs").join(blob), bytes).expect("written");
        symlink(Path::new("../../blobs").join(blob), snapshot.join(name)).expect("linked");
    };
    link("config.json", "aa", gpt2_config().to_string().as_bytes());
    let (first, last) = (&gpt2_tensors()[..8], &gpt2_tensors()[8..]);
    link("model-00001-of-00002.safetensors", "bb", &safetensors_bytes(first));
    link("model-00002-of-00002.safetensors", "cc", &safetensors_bytes(last));
    let name = |i: usize| format!("model-0000{i}-of-00002.safetensors");
    let entry = |tensors: &[(String, Vec<usize>, Vec<f32>)], i: usize| -> Vec<_> {
        tensors.iter().map(|(key, ..)| (key.clone(), name(i))).collect()
    };
    let map: serde_json::Map<String, serde_json::Value> = [entry(first, 1), entry(last, 2)]
        .concat()
        .into_iter()
        .map(|(k, v)| (k, v.into()))
        .collect();
    let index = serde_json::json!({"metadata": {}, "weight_map": map}).to_string();
    link("model.safetensors.index.json", "dd", index.as_bytes());
    (home, snapshot)
}

fn environment(home: &Path) -> HubEnvironment {
    HubEnvironment { hf_home: Some(home.to_path_buf()), ..HubEnvironment::default() }
}

#[test]
fn names_and_revisions_are_found_in_the_cache() {
    let (home, snapshot) = cache();
    let environment = environment(home.path());
    for name in ["org/tiny", "org/tiny@main", "org/tiny@pr/1", &format!("org/tiny@{COMMIT}")] {
        assert_eq!(hub::resolve(name, &environment).expect(name), snapshot, "{name}");
    }
    let model = Model::open_in("org/tiny", &environment).expect("sharded over links to blobs");
    assert_eq!(model.spec.vocab, 5);
    let names: Vec<String> = model.hashes().expect("readable").into_iter().map(|h| h.0).collect();
    assert!(names.contains(&"model-00002-of-00002.safetensors".to_owned()), "{names:?}");
}

#[test]
fn the_first_variable_that_is_set_decides() {
    let (home, snapshot) = cache();
    let nowhere = Some(home.path().join("nowhere"));
    let hub_cache = Some(home.path().join("hub"));
    let first = HubEnvironment { hub_cache, hf_home: nowhere.clone(), home: nowhere.clone() };
    assert_eq!(hub::resolve("org/tiny", &first).expect("HF_HUB_CACHE"), snapshot);
    let real = Some(home.path().to_path_buf());
    let second = HubEnvironment { hub_cache: None, hf_home: real, home: nowhere };
    assert_eq!(hub::resolve("org/tiny", &second).expect("HF_HOME"), snapshot);
    let user = TempDir::new().expect("a temporary folder");
    fs::create_dir_all(user.path().join(".cache/huggingface")).expect("made");
    symlink(home.path().join("hub"), user.path().join(".cache/huggingface/hub")).expect("linked");
    let home = Some(user.path().to_path_buf());
    let third = HubEnvironment { hub_cache: None, hf_home: None, home };
    assert!(hub::resolve("org/tiny", &third).expect("HOME").ends_with(COMMIT));
}

#[test]
fn what_is_not_there_is_named() {
    let (home, snapshot) = cache();
    let environment = environment(home.path());
    let fails = |name: &str, code: u8, part: &str| {
        let error = Model::open_in(name, &environment).err().unwrap_or_else(|| panic!("{name}"));
        assert_eq!(error.exit_code(), code, "{name}: {error}");
        assert!(error.to_string().contains(part), "{name}: {error}");
    };
    fails("org/other", 2, "models--org--other (HF_HOME decides)");
    fails("org/tiny@v9", 65, "no revision 'v9'");
    fails("org/../tiny", 2, "not a name of the form");
    fails("org/tiny@../../x", 2, "not a name of the form");
    fails("a/b/c", 2, "no such folder");
    fails("", 2, "no such folder");
    fs::remove_file(home.path().join("hub/models--org--tiny/blobs/cc")).expect("removed");
    fails("org/tiny", 65, "model-00002-of-00002.safetensors: a link to a file that is not there");
    fs::remove_file(snapshot.join("model-00002-of-00002.safetensors")).expect("removed");
    fails("org/tiny", 65, "'model-00002-of-00002.safetensors', which is not there");
    fs::remove_file(snapshot.join("config.json")).expect("removed");
    fails("org/tiny", 2, "config.json is missing");
    fs::remove_dir_all(&snapshot).expect("removed");
    fails("org/tiny", 65, "whose files are not there");
    let nothing = Model::open_in("org/tiny", &HubEnvironment::default());
    assert!(nothing.err().is_some_and(|e| e.to_string().contains("HF_HUB_CACHE")));
}

#[test]
fn links_out_of_the_repository_are_refused() {
    let (home, snapshot) = cache();
    let secret = home.path().join("secret");
    fs::write(&secret, safetensors_bytes(&gpt2_tensors()[8..])).expect("written");
    let shard = snapshot.join("model-00002-of-00002.safetensors");
    fs::remove_file(&shard).expect("removed");
    symlink(&secret, &shard).expect("linked");
    let error = Model::open_in("org/tiny", &environment(home.path())).err().expect("refused");
    assert_eq!(error.exit_code(), 65);
    assert!(error.to_string().contains("a link out of the model's folder"), "{error}");
}
