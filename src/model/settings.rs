//! `config.json` read with care: every value is checked against a range before anything is
//! allocated, and every complaint names the file and the key.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::spec::Activation;
use crate::disk;
use crate::error::{Error, Result};

/// A configuration larger than this is not one.
const MAX_BYTES: u64 = 10 << 20;
/// The largest width, vocabulary or table length believed.
const MAX_COUNT: u64 = 1_000_000;
/// The largest number of blocks believed.
const MAX_LAYERS: usize = 10_000;

/// The object in a `config.json`, or an object inside it. A value of `null` counts as absent,
/// as it does for those who write these files, except where [`Settings::names`] is asked.
pub(crate) struct Settings {
    file: PathBuf,
    map: Map<String, Value>,
}

impl Settings {
    /// Reads the file.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let place = || file.display().to_string();
        let size = fs::metadata(file).map_err(Error::io(file, "read"))?.len();
        if size > MAX_BYTES {
            let what = format!("{size} bytes are too many for a model configuration");
            return Err(Error::config(place(), what, "give the model's own config.json"));
        }
        Self::parse(file, &disk::read(file).map_err(Error::io(file, "read"))?)
    }

    /// The text of such a file.
    pub(crate) fn parse(file: &Path, text: &[u8]) -> Result<Self> {
        let place = || file.display().to_string();
        let value: Value = serde_json::from_slice(text).map_err(|error| {
            Error::config(place(), format!("not JSON: {error}"), "fetch the file again")
        })?;
        match value {
            Value::Object(map) => Ok(Self { file: file.to_path_buf(), map }),
            _ => Err(Error::config(place(), "not a JSON object", "fetch the file again")),
        }
    }

    /// An error about one key of this file.
    pub(crate) fn wrong(&self, key: &str, what: impl Into<String>, remedy: &str) -> Error {
        Error::config(format!("{}: {key}", self.file.display()), what, remedy)
    }

    /// Whether the key is there, be it `null`.
    pub(crate) fn names(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Whether the value is the number 0, for keys where that means something.
    pub(crate) fn is_zero(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_u64) == Some(0)
    }

    /// An object inside this one.
    pub(crate) fn section(&self, key: &str) -> Result<Option<Settings>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => {
                Ok(Some(Self { file: self.file.clone(), map: map.clone() }))
            }
            Some(other) => Err(self.kind(key, "an object", other)),
        }
    }

    /// The first of `keys` that is there, from 1 to a million; an error if none is.
    pub(crate) fn count(&self, keys: &[&str]) -> Result<usize> {
        for key in keys {
            if let Some(count) = self.optional_count(key)? {
                return Ok(count);
            }
        }
        Err(self.wrong(keys[0], "is missing", "complete config.json, or fetch it again"))
    }

    /// As [`Settings::count`], with a default.
    pub(crate) fn count_or(&self, keys: &[&str], default: usize) -> Result<usize> {
        if keys.iter().any(|key| self.get(key).is_some()) { self.count(keys) } else { Ok(default) }
    }

    /// From 1 to a million, or absent.
    pub(crate) fn optional_count(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(count @ 1..=MAX_COUNT) => Ok(usize::try_from(count).ok()),
            _ => Err(self.kind(key, &format!("a whole number from 1 to {MAX_COUNT}"), value)),
        }
    }

    /// The number of blocks.
    pub(crate) fn layers(&self, keys: &[&str]) -> Result<usize> {
        let layers = self.count(keys)?;
        if layers > MAX_LAYERS {
            let what = format!("{layers} layers, {MAX_LAYERS} is the most believed");
            return Err(self.wrong(keys[0], what, "check the value"));
        }
        Ok(layers)
    }

    /// A token id, or absent.
    pub(crate) fn token(&self, key: &str) -> Result<Option<u32>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) if u64::from(id) <= MAX_COUNT => Ok(Some(id)),
            _ => Err(self.kind(key, "a token id", value)),
        }
    }

    /// A token id or a list of them, ascending; or absent.
    pub(crate) fn tokens(&self, key: &str) -> Result<Option<Vec<u32>>> {
        let Some(Value::Array(list)) = self.get(key) else {
            return Ok(self.token(key)?.map(|id| vec![id]));
        };
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids: Option<BTreeSet<u32>> = list.iter().map(id).collect();
        match ids {
            Some(ids) => Ok(Some(ids.into_iter().collect())),
            None => Err(self.wrong(key, "is no list of token ids", "check the value")),
        }
    }

    /// True or false.
    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.kind(key, "true or false", other)),
        }
    }

    /// A positive finite number, or absent.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
            _ => Err(self.kind(key, "a positive number", value)),
        }
    }

    /// The constant that a norm adds to the variance.
    pub(crate) fn epsilon(&self, keys: &[&str], default: f64) -> Result<f32> {
        for key in keys {
            let Some(value) = self.get(key) else { continue };
            return match value.as_f64() {
                Some(eps) if (0.0..=1.0).contains(&eps) => Ok(narrow(eps)),
                _ => Err(self.kind(key, "a number from 0 to 1", value)),
            };
        }
        Ok(narrow(default))
    }

    /// A string, or absent.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.kind(key, "a string", other)),
        }
    }

    /// A list of strings; empty if absent.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<&str>> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(value) => value
                .as_array()
                .and_then(|list| list.iter().map(Value::as_str).collect())
                .ok_or_else(|| self.kind(key, "a list of strings", value)),
        }
    }

    /// The number of classes of a classification head.
    pub(crate) fn classes(&self) -> Result<usize> {
        match self.get("id2label") {
            Some(Value::Object(names)) if !names.is_empty() => Ok(names.len()),
            _ => self.count_or(&["num_labels", "_num_labels"], 2),
        }
    }

    /// The nonlinearity under `key`.
    pub(crate) fn activation(&self, key: &str, default: Activation) -> Result<Activation> {
        match self.text(key)? {
            None => Ok(default),
            Some(name) => self.activation_named(key, name),
        }
    }

    /// The nonlinearity called `name`, which stands under `key`.
    pub(crate) fn activation_named(&self, key: &str, name: &str) -> Result<Activation> {
        match name {
            "relu" => Ok(Activation::Relu),
            "gelu" | "gelu_python" => Ok(Activation::GeluErf),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_python_tanh"
            | "gelu_accurate" => Ok(Activation::GeluTanh),
            "silu" | "swish" => Ok(Activation::Silu),
            "tanh" => Ok(Activation::Tanh),
            _ => Err(self.wrong(
                key,
                format!("'{name}' is not a nonlinearity that can be computed here"),
                "use a model with relu, gelu, gelu_new, gelu_pytorch_tanh, silu or tanh",
            )),
        }
    }

    /// Refuses a setting that would change the computation in a way that is not supported.
    pub(crate) fn refuse_if(&self, refused: bool, key: &str, why: &str) -> Result<()> {
        if refused {
            return Err(self.wrong(key, why, "use a checkpoint without it"));
        }
        Ok(())
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn kind(&self, key: &str, wanted: &str, found: &Value) -> Error {
        let mut found = found.to_string();
        if let Some((end, _)) = found.char_indices().nth(60) {
            found.truncate(end);
            found.push('…');
        }
        self.wrong(key, format!("must be {wanted}, is {found}"), "correct the value")
    }
}

/// The models compute in float32, so that is how their constants are held.
#[expect(clippy::cast_possible_truncation, reason = "rounding to float32 is what is wanted")]
pub(crate) fn narrow(value: f64) -> f32 {
    value as f32
}
