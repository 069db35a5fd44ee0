//! A run file as it was written: its values, and the line or argument each of them came from.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::keys::{Key, Kind};
use crate::disk;
use crate::error::{Error, Result};

/// Run files are written by people; anything larger is some other file.
const MAX_BYTES: u64 = 1 << 20;

/// Values, and where they stand.
pub struct Source {
    file: String,
    /// What may stand in it.
    pub(super) keys: &'static [Key],
    /// What will be checked and read.
    pub(super) values: Table,
    /// Dotted path (`concepts.0.column`) to its line, or to the argument that set it.
    origins: BTreeMap<String, Origin>,
}

enum Origin {
    Line(usize),
    Argument(String),
}

impl Source {
    /// Reads a file of these keys.
    pub(super) fn read(path: &Path, keys: &'static [Key]) -> Result<Self> {
        let size = std::fs::metadata(path).map_err(Error::io(path, "read"))?.len();
        let file = path.display().to_string();
        if size > MAX_BYTES {
            return Err(Error::config(
                file,
                format!("{size} bytes are too many for a run file"),
                "give a TOML run file, such as configs/runs/quickstart.toml",
            ));
        }
        let bytes = disk::read(path).map_err(Error::io(path, "read"))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::config(&file, format!("byte {at} is not UTF-8"), "save the run file as UTF-8")
        })?;
        Self::parse(file, &text, keys)
    }

    fn parse(file: String, text: &str, keys: &'static [Key]) -> Result<Self> {
        let line_of = |byte: usize| text.as_bytes()[..byte].iter().filter(|b| **b == b'\n').count();
        let broken = |error: toml::de::Error| {
            let line = error.span().map_or(0, |span| line_of(span.start.min(text.len()))) + 1;
            Error::config(
                format!("{file}:{line}"),
                format!("not TOML: {}", error.message().replace('\n', ", ")),
                "texts stand in quotes, lists in [ ], and each key is given once",
            )
        };
        let tree = DeTable::parse(text).map_err(broken)?;
        let mut origins = BTreeMap::new();
        let mut note = |path: &str, byte: usize| {
            origins.insert(path.to_owned(), Origin::Line(line_of(byte) + 1));
        };
        note_lines("", tree.get_ref(), &mut note);
        let values = text.parse::<Table>().map_err(broken)?;
        Ok(Self { file, keys, values, origins })
    }

    /// Where a key stands, for people: `file:line: key`, or the argument that set it.
    pub fn place(&self, path: &str) -> String {
        let mut known = path;
        loop {
            match self.origins.get(known) {
                Some(Origin::Line(line)) => return format!("{}:{line}: {path}", self.file),
                Some(Origin::Argument(given)) => return format!("argument '{given}': {path}"),
                None => {}
            }
            match known.rsplit_once('.') {
                Some((parent, _)) => known = parent,
                None => return format!("{}: {path}", self.file),
            }
        }
    }

    /// Sets `key=value`, as given on the command line.
    pub(super) fn set(&mut self, argument: &str) -> Result<()> {
        let place = || format!("argument '{argument}'");
        let Some((path, text)) = argument.split_once('=') else {
            let remedy = "write it as key=value, for instance corpus.max_documents=100";
            return Err(Error::config(place(), "it has no '='", remedy));
        };
        let path = path.trim();
        if path.split('.').any(str::is_empty) {
            let remedy = "write the key as in the run file, for instance corpus.max_documents=100";
            return Err(Error::config(place(), "part of the key is empty", remedy));
        }
        let value = self.value_of(path, text.trim()).ok_or_else(|| {
            let remedy = "close every quote and bracket, and keep the shell from taking them";
            Error::config(place(), format!("{path}: not a TOML value"), remedy)
        })?;
        insert(&mut self.values, path, value).map_err(|what| {
            Error::config(place(), what, "give a key inside a table: list tables go by number")
        })?;
        // What stood below the key in the file is gone with its lines.
        let below = format!("{path}.");
        self.origins.retain(|key, _| !key.starts_with(&below));
        self.origins.insert(path.to_owned(), Origin::Argument(argument.to_owned()));
        Ok(())
    }

    /// The right side of an override: a TOML value if it is one, else a text. Where the key wants a
    /// text, a bare number or word is that text, so that `name=2024` needs no quotes for the shell.
    fn value_of(&self, path: &str, text: &str) -> Option<Value> {
        let schema = schema_path(path);
        let text_key =
            |key: &Key| matches!(key.kind, Kind::Text | Kind::Choice(_) | Kind::TextByName);
        let is_it = |key: &Key| match key.kind {
            Kind::TextByName => schema.starts_with(key.path) && schema != key.path,
            _ => key.path == schema,
        };
        let wants_text = self.keys.iter().any(|key| text_key(key) && is_it(key));
        match text.parse::<Value>() {
            Ok(value @ (Value::String(_) | Value::Array(_) | Value::Table(_))) => Some(value),
            Ok(value) if !wants_text => Some(value),
            Err(_) if text.starts_with(['[', '{', '"', '\'']) => None,
            _ => Some(Value::String(text.to_owned())),
        }
    }
}

/// Calls `note` with the dotted path and first byte of every key and list table.
fn note_lines(prefix: &str, table: &DeTable<'_>, note: &mut impl FnMut(&str, usize)) {
    for (key, value) in table {
        let path = join(prefix, key.get_ref());
        note(&path, key.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => note_lines(&path, inner, note),
            DeValue::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        let path = join(&path, &i.to_string());
                        note(&path, item.span().start);
                        note_lines(&path, inner, note);
                    }
                }
            }
            _ => {}
        }
    }
}

/// `prefix.key`, or the key alone at the top.
pub(super) fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

/// The path of the table of keys: numbers of list tables become `[]`.
pub(super) fn schema_path(path: &str) -> String {
    let mut out = String::new();
    for part in path.split('.') {
        if !out.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            out.push_str("[]");
        } else {
            out = join(&out, part);
        }
    }
    out
}

/// Puts a value at a dotted path, making the tables on the way.
fn insert(table: &mut Table, path: &str, value: Value) -> std::result::Result<(), String> {
    let Some((first, rest)) = path.split_once('.') else {
        table.insert(path.to_owned(), value);
        return Ok(());
    };
    match table.entry(first).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => insert(inner, rest, value),
        Value::Array(items) => {
            let (index, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let last = items.len().saturating_sub(1);
            let item = index.parse::<usize>().ok().and_then(|i| items.get_mut(i));
            match item {
                Some(item) if rest.is_empty() => *item = value,
                Some(Value::Table(inner)) => return insert(inner, rest, value),
                _ => return Err(format!("{first} has no item '{index}', only 0 to {last}")),
            }
            Ok(())
        }
        _ => Err(format!("{first} is a value, not a table")),
    }
}
