//! Objects of a JSON file with where they stand, so that what is wrong is told by file and key.

use serde_json::{Map, Value};

use crate::error::{Error, Result, did_you_mean};

/// An object.
pub(super) struct Object<'a> {
    /// The file, and the way to it in the file.
    pub(super) place: String,
    /// It is the whole file.
    whole: bool,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// None if the value is something else.
    pub(super) fn of(value: &'a Value, place: &str) -> Option<Self> {
        Some(Self { place: place.to_owned(), whole: false, map: value.as_object()? })
    }

    /// What a file holds.
    pub(super) fn of_file(value: &'a Value, file: &str) -> Option<Self> {
        Some(Self { whole: true, ..Self::of(value, file)? })
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key)
    }

    /// Where a key stands.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}{}{key}", self.place, if self.whole { ", " } else { "." })
    }

    /// Refuses every other key.
    pub(super) fn only(&self, known: &[&[&str]]) -> Result<()> {
        let all = || known.iter().flat_map(|keys| keys.iter().copied());
        let Some(stray) = self.map.keys().find(|key| all().all(|known| known != *key)) else {
            return Ok(());
        };
        let what = format!("not an intervention: unknown key{}", did_you_mean(stray, all()));
        let names: Vec<&str> = all().collect();
        Err(Error::config(self.key(stray), what, format!("keys here: {}", names.join(", "))))
    }
}

/// What an edit says, and what is said for it further up, nearest first.
pub(super) struct Settings<'a>(pub(super) &'a [&'a Object<'a>]);

impl<'a> Settings<'a> {
    /// A value, and where it stands.
    pub(super) fn find(&self, key: &str) -> Option<(String, &'a Value)> {
        self.0.iter().find_map(|object| Some((object.key(key), object.get(key)?)))
    }

    /// Where the edit stands.
    pub(super) fn place(&self) -> &str {
        &self.0[0].place
    }

    fn need(&self, key: &str, kind: &str, remedy: &str) -> Result<(String, &'a Value)> {
        let what = || format!("kind '{kind}' needs '{key}'");
        self.find(key).ok_or_else(|| Error::config(self.place(), what(), remedy))
    }

    /// Finite numbers.
    pub(super) fn numbers(&self, key: &str, kind: &str) -> Result<Vec<f32>> {
        let remedy = "give one number per neuron, or one for all: [0.5]";
        let (place, value) = self.need(key, kind, remedy)?;
        numbers(value, &place, remedy)
    }

    /// Finite numbers, or this one where there are none.
    pub(super) fn numbers_or(&self, key: &str, kind: &str, none: f32) -> Result<Vec<f32>> {
        match self.find(key) {
            Some(_) => self.numbers(key, kind),
            None => Ok(vec![none]),
        }
    }

    /// Numbers from 0 to 1.
    pub(super) fn shares(&self, key: &str, kind: &str) -> Result<Vec<f32>> {
        let numbers = self.numbers(key, kind)?;
        match numbers.iter().position(|share| !(0.0..=1.0).contains(share)) {
            None => Ok(numbers),
            Some(at) => {
                let (place, _) = self.need(key, kind, "")?;
                let what = format!("{} is not between 0 and 1", numbers[at]);
                let remedy = "1 leaves a neuron as it is, 0 closes it";
                Err(Error::config(format!("{place}[{at}]"), what, remedy))
            }
        }
    }

    /// A list of lists of finite numbers.
    pub(super) fn rows(&self, key: &str, kind: &str) -> Result<Vec<Vec<f32>>> {
        let remedy = "give a row of numbers for each token: [[0.1, 0.2], [0.3, 0.4]]; or a 'seed'";
        let (place, value) = self.need(key, kind, remedy)?;
        let rows = value.as_array().ok_or_else(|| Error::config(&place, "is no list", remedy))?;
        let row = |(i, row)| numbers(row, &format!("{place}[{i}]"), remedy);
        rows.iter().enumerate().map(row).collect()
    }

    /// One finite number.
    pub(super) fn number(&self, key: &str, kind: &str) -> Result<f32> {
        let remedy = format!("write \"{key}\": 2.0");
        let (place, value) = self.need(key, kind, &remedy)?;
        finite(value).ok_or_else(|| Error::config(place, "is no finite float32", remedy))
    }

    /// One whole number.
    pub(super) fn count(&self, key: &str, kind: &str) -> Result<usize> {
        let remedy = format!("write \"{key}\": 7");
        let (place, value) = self.need(key, kind, &remedy)?;
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| Error::config(place, "is no whole number", remedy))
    }

    /// One of some words.
    pub(super) fn word(&self, key: &str, words: &[&'static str]) -> Result<Option<&'static str>> {
        let Some((place, value)) = self.find(key) else { return Ok(None) };
        let found = words.iter().find(|word| value.as_str() == Some(word));
        found.map(|word| Some(*word)).ok_or_else(|| {
            Error::config(
                place,
                format!("there is no '{value}'"),
                format!("use {}", words.join(", ")),
            )
        })
    }
}

fn numbers(value: &Value, place: &str, remedy: &str) -> Result<Vec<f32>> {
    let list = value.as_array().ok_or_else(|| Error::config(place, "is no list", remedy))?;
    let number = |(i, value): (usize, &Value)| {
        let what = || format!("{value} is no finite float32");
        finite(value).ok_or_else(|| Error::config(format!("{place}[{i}]"), what(), remedy))
    };
    list.iter().enumerate().map(number).collect()
}

fn finite(value: &Value) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
    let number = value.as_f64()? as f32;
    number.is_finite().then_some(number)
}
