//! The tensors of a checkpoint, mapped: one safetensors file, or several behind an index. Pickles
//! are refused by name and by first bytes.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use serde::Deserialize;

use super::header::{self, Entry, Header};
use super::mapped::Mapped;
use super::stored::{StoredTensor, stored};
use crate::disk;
use crate::error::{Error, Result};

/// The file of a checkpoint in one piece.
const SINGLE: &str = "model.safetensors";
/// The file that says where the pieces of a larger one are.
const INDEX: &str = "model.safetensors.index.json";
/// An index larger than this is not one.
const MAX_INDEX: u64 = 100 << 20;
/// Files that may hold pickles.
const PICKLES: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];

/// The mapped files of a checkpoint.
pub(crate) struct Weights {
    files: Vec<(Mapped, Header)>,
    /// File of each tensor.
    places: HashMap<String, usize>,
    /// What to name when a tensor is missing: the file, or the index.
    origin: PathBuf,
    /// The index, if there is one.
    index: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

impl Weights {
    /// Maps the checkpoint in `folder` and checks its headers.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
        if present(&single)? {
            let file = open_file(&single)?;
            let places = file.1.tensors.keys().map(|name| (name.clone(), 0)).collect();
            return Ok(Self { files: vec![file], places, origin: single, index: None });
        }
        if present(&index)? {
            return Self::open_index(folder, index);
        }
        Err(nothing_to_open(folder))
    }

    /// No tensors: of a model that is only described, by `origin`.
    pub(crate) fn none(origin: &Path) -> Self {
        Self {
            files: Vec::new(),
            places: HashMap::new(),
            origin: origin.to_path_buf(),
            index: None,
        }
    }

    fn open_index(folder: &Path, index: PathBuf) -> Result<Self> {
        let wrong = |what: String| Error::input(&index, what, "fetch the model again");
        if fs::metadata(&index).map_err(Error::io(&index, "read"))?.len() > MAX_INDEX {
            return Err(wrong(format!("more than {MAX_INDEX} bytes are too many for an index")));
        }
        let text = disk::read(&index).map_err(Error::io(&index, "read"))?;
        let Index { weight_map } = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("not an index of tensors: {error}")))?;
        let mut names: Vec<&str> = weight_map.values().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let mut files = Vec::with_capacity(names.len());
        for name in &names {
            files.push(open_file(&shard(folder, &index, name)?)?);
        }
        let mut places = HashMap::with_capacity(weight_map.len());
        for (tensor, file) in &weight_map {
            let number = names.binary_search(&file.as_str()).expect("the names come from here");
            if !files[number].1.tensors.contains_key(tensor) {
                return Err(wrong(format!("'{tensor}' should be in '{file}', and is not")));
            }
            places.insert(tensor.clone(), number);
        }
        Ok(Self { files, places, origin: index.clone(), index: Some(index) })
    }

    /// Whether the checkpoint has this tensor, under its own name or that of old TensorFlow
    /// conversions.
    pub(crate) fn holds(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Shape as stored.
    pub(crate) fn shape(&self, key: &str) -> Option<&[u64]> {
        self.find(key).map(|(_, entry)| entry.shape.as_slice())
    }

    /// Type as stored, and bytes.
    pub(crate) fn stored(&self, key: &str) -> Option<(&str, u64)> {
        let (_, entry) = self.find(key)?;
        Some((&entry.dtype, entry.data_offsets.1 - entry.data_offsets.0))
    }

    /// The file that holds a tensor, or the one that should.
    pub(crate) fn file_of(&self, key: &str) -> &Path {
        self.find(key).map_or(&self.origin, |(number, _)| self.files[number].0.path())
    }

    /// Every tensor as it is stored, in the order of the files and of their bytes.
    pub(crate) fn stored_tensors(&self) -> Vec<StoredTensor<'_>> {
        let mut all = Vec::new();
        for (number, (mapped, header)) in self.files.iter().enumerate() {
            // Of a file that an index names, only what the index says is in it.
            let named =
                header.tensors.iter().filter(|(name, _)| self.places.get(*name) == Some(&number));
            let mut entries: Vec<_> = named.collect();
            entries.sort_unstable_by_key(|(name, entry)| (entry.data_offsets, *name));
            all.extend(entries.into_iter().map(|entry| stored(mapped, header, entry)));
        }
        all
    }

    /// All values of a tensor, widened to float32 and appended to `out`.
    pub(crate) fn read(&self, key: &str, out: &mut Vec<f32>) -> Result<()> {
        let Some((number, entry)) = self.find(key) else {
            return Err(Error::Contradiction {
                what: format!("tensor '{key}' was there when the checkpoint was opened"),
            });
        };
        let (mapped, header) = &self.files[number];
        let data = data_of(mapped, header, entry);
        let begin = out.len();
        match entry.dtype.as_str() {
            "F32" => out.extend(groups(data).map(f32::from_le_bytes)),
            "F16" => out.extend(groups(data).map(|b| f16::from_le_bytes(b).to_f32())),
            "BF16" => out.extend(groups(data).map(|b| bf16::from_le_bytes(b).to_f32())),
            other => {
                let what = format!("tensor '{key}' has type {other}; F32, F16, BF16 can be read");
                return Err(Error::input(mapped.path(), what, "save the model in float32"));
            }
        }
        let bad = out[begin..].iter().filter(|value| !value.is_finite()).count();
        if bad > 0 {
            let what = format!("tensor '{key}' has {bad} values that are not finite");
            return Err(Error::input(mapped.path(), what, "use an undamaged checkpoint"));
        }
        Ok(())
    }

    /// Every file that decides about the weights.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.index.as_deref().into_iter().chain(self.files.iter().map(|(map, _)| map.path()))
    }

    /// Fails if a file was replaced or written to since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.files.iter().try_for_each(|(map, _)| map.check_unchanged())
    }

    fn find(&self, key: &str) -> Option<(usize, &Entry)> {
        let get = |key: &str| {
            let number = *self.places.get(key)?;
            Some((number, &self.files[number].1.tensors[key]))
        };
        get(key).or_else(|| get(&old_name(key)?))
    }
}

/// `LayerNorm.gamma` and `.beta`, as the first BERT checkpoints have it.
fn old_name(key: &str) -> Option<String> {
    if let Some(stem) = key.strip_suffix("LayerNorm.weight") {
        return Some(format!("{stem}LayerNorm.gamma"));
    }
    key.strip_suffix("LayerNorm.bias").map(|stem| format!("{stem}LayerNorm.beta"))
}

/// The bytes of a tensor.
pub(super) fn data_of<'a>(mapped: &'a Mapped, header: &Header, entry: &Entry) -> &'a [u8] {
    let at = |offset: u64| usize::try_from(offset).expect("inside a mapped file");
    let (first, last) = entry.data_offsets;
    &mapped.bytes()[header.data_start..][at(first)..at(last)]
}

fn groups<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.as_chunks::<N>().0.iter().copied()
}

/// Maps a safetensors file and checks its header.
pub(super) fn open_file(path: &Path) -> Result<(Mapped, Header)> {
    let mapped = Mapped::open(path)?;
    let header = header::read(path, mapped.bytes())?;
    Ok((mapped, header))
}

/// Whether a file is there. A link without its target is a download that was cut off.
pub(crate) fn present(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(_) if fs::symlink_metadata(path).is_ok() => Err(Error::input(
            path,
            "a link to a file that is not there: the download is incomplete",
            "fetch the model again, or delete its folder in the cache first",
        )),
        Err(_) => Ok(false),
    }
}

/// The path of a file that an index names: beside it, not elsewhere, whatever the index or a link
/// says. In the Hub's cache the files are links to the blobs of the same repository.
fn shard(folder: &Path, index: &Path, name: &str) -> Result<PathBuf> {
    let plain = Path::new(name).file_name().is_some_and(|last| last == name);
    if !plain || name.contains(['/', '\\', '\0']) || !name.ends_with(".safetensors") {
        let what = format!("names {name:?}, which is not a plain safetensors file name");
        return Err(Error::input(index, what, "do not use this model: its index is hostile"));
    }
    let path = folder.join(name);
    if !present(&path)? {
        let what = format!("names '{name}', which is not there");
        return Err(Error::input(index, what, "fetch the missing file"));
    }
    let real = |path: &Path| path.canonicalize().map_err(Error::io(path, "read"));
    let (target, home) = (real(&path)?, real(folder)?);
    let blobs = match home.parent() {
        Some(parent) if parent.ends_with("snapshots") => parent.parent().map(|p| p.join("blobs")),
        _ => None,
    };
    let parent = target.parent();
    if parent != Some(home.as_path()) && (blobs.is_none() || parent != blobs.as_deref()) {
        let what = format!("'{name}' is a link out of the model's folder");
        return Err(Error::input(index, what, "put the file itself into the folder"));
    }
    Ok(path)
}

/// Says what is there instead of safetensors.
fn nothing_to_open(folder: &Path) -> Error {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let suffix = |path: &PathBuf| path.extension().map(|s| s.to_string_lossy().to_lowercase());
    let pickle = |path: &&PathBuf| suffix(path).is_some_and(|s| PICKLES.contains(&s.as_str()));
    if let Some(path) = paths.iter().find(pickle) {
        return header::refuse_pickle(path);
    }
    let what = format!("no weights: neither {SINGLE} nor {INDEX} is there");
    Error::input(folder, what, "give a model folder saved with save_pretrained")
}
