//! Holds a run file against the table of keys, and the keys against each other.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::keys::{Key, Kind};
use super::source::{Source, join, schema_path};
use super::{Policy, Pool, RunConfig};
use crate::corpus::config::Format;
use crate::error::{Error, Result, did_you_mean};

/// Where the whole reference stands.
const REFERENCE: &str = "see the reference of its keys in README.md";

/// Every key is known, present if it must be, of its type and in its range.
pub(super) fn keys(source: &Source) -> Result<()> {
    table(source, "", &source.values)
}

fn table(source: &Source, path: &str, values: &Table) -> Result<()> {
    let here = schema_path(path);
    let names = children(source.keys, &here);
    for (name, value) in values {
        let path = join(path, name);
        if !names.contains(name.as_str()) {
            return Err(unknown(source, &path, name, &names));
        }
        entry(source, &path, value)?;
    }
    for key in source.keys.iter().filter(|key| key.required) {
        missing(source, path, &here, values, key)?;
    }
    Ok(())
}

/// The names that may stand in the table at `here`, a path of the table of keys.
fn children(keys: &'static [Key], here: &str) -> BTreeSet<&'static str> {
    keys.iter()
        .filter_map(|key| {
            let rest = match here {
                "" => key.path,
                _ => key.path.strip_prefix(here)?.strip_prefix('.')?,
            };
            rest.split(['.', '[']).next()
        })
        .collect()
}

fn unknown(source: &Source, path: &str, name: &str, names: &BTreeSet<&'static str>) -> Error {
    let near = did_you_mean(name, names.iter().copied());
    let known: Vec<_> = names.iter().copied().collect();
    let remedy = format!("known here: {}; {REFERENCE}", known.join(", "));
    Error::config(
        source.place(path),
        format!("unknown key '{}'{near}", name.escape_debug()),
        remedy,
    )
}

/// A required key that stands directly in this table, or in a table of its own that is absent.
fn missing(source: &Source, path: &str, here: &str, values: &Table, key: &Key) -> Result<()> {
    let rest = match here {
        "" => Some(key.path),
        _ => key.path.strip_prefix(here).and_then(|rest| rest.strip_prefix('.')),
    };
    let Some(rest) = rest else { return Ok(()) };
    let (first, deeper) = rest.split_once('.').map_or((rest, false), |(first, _)| (first, true));
    // A list of tables may be absent; a table that is there answers for its own keys.
    if first.ends_with("[]") || values.contains_key(first) {
        return Ok(());
    }
    let place = source.place(&join(path, rest));
    let what = if deeper { "missing, with its table" } else { "missing" };
    Err(Error::config(place, what, format!("give {}: {}", key.kind.expected(), key.meaning)))
}

fn entry(source: &Source, path: &str, value: &Value) -> Result<()> {
    let schema = schema_path(path);
    if let Some(key) = source.keys.iter().find(|key| key.path == schema) {
        return check_value(source, path, key, value);
    }
    let list = format!("{schema}[].");
    match value {
        Value::Array(items) if source.keys.iter().any(|key| key.path.starts_with(&list)) => {
            for (i, item) in items.iter().enumerate() {
                let path = join(path, &i.to_string());
                let Value::Table(inner) = item else {
                    return Err(not_tables(source, &path, &schema));
                };
                table(source, &path, inner)?;
            }
            Ok(())
        }
        _ if source.keys.iter().any(|key| key.path.starts_with(&list)) => {
            Err(not_tables(source, path, &schema))
        }
        Value::Table(inner) => table(source, path, inner),
        other => Err(Error::config(
            source.place(path),
            format!("it is {}, not a table", article(other)),
            format!("write its keys under [{schema}]"),
        )),
    }
}

fn not_tables(source: &Source, path: &str, schema: &str) -> Error {
    let remedy = format!("write [[{schema}]] with double brackets, once per entry");
    Error::config(source.place(path), "it is not a list of tables", remedy)
}

fn check_value(source: &Source, path: &str, key: &Key, value: &Value) -> Result<()> {
    let fits = match (key.kind, value) {
        (Kind::Text, Value::String(text)) => is_text(text),
        (Kind::Choice(words), Value::String(word)) => words.contains(&word.as_str()),
        (Kind::Integer(low, high), Value::Integer(n)) => (low..=high).contains(n),
        (Kind::ZeroOr(low, high), Value::Integer(n)) => *n == 0 || (low..=high).contains(n),
        (Kind::Number(low, high), value) => {
            number(value).is_some_and(|x| (low..=high).contains(&x))
        }
        (Kind::Flag, Value::Boolean(_)) => true,
        (Kind::Texts(least), Value::Array(items)) => items.len() >= least && texts(items),
        (Kind::Integers(low, high), Value::Array(items)) => {
            items.iter().all(|item| item.as_integer().is_some_and(|n| (low..=high).contains(&n)))
        }
        (Kind::Numbers(low, high), Value::Array(items)) => {
            items.iter().all(|item| number(item).is_some_and(|x| (low..=high).contains(&x)))
        }
        (Kind::TextByName, Value::Table(entries)) => {
            entries.values().all(|entry| entry.as_str().is_some_and(is_text))
        }
        (Kind::TextsByName, Value::Table(columns)) => {
            columns.values().all(|column| matches!(column, Value::Array(items) if texts(items)))
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let near = match (key.kind, value) {
        (Kind::Choice(words), Value::String(word)) => did_you_mean(word, words.iter().copied()),
        _ => String::new(),
    };
    let what = format!("{} does not fit: {}{near}", shown(value), key.meaning);
    Err(Error::config(source.place(path), what, format!("give {}", key.kind.expected())))
}

/// A number, also one written as 0 or 1; larger whole numbers are out of every range there is.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(x) => Some(*x),
        Value::Integer(n) => i32::try_from(*n).ok().map(f64::from),
        _ => None,
    }
}

/// Control characters have no place in names and paths, and would break messages and manifests.
fn is_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

fn texts(items: &[Value]) -> bool {
    items.iter().all(|item| matches!(item, Value::String(text) if is_text(text)))
}

/// The value in a message, cut short.
fn shown(value: &Value) -> String {
    let text = value.to_string().replace(char::is_control, " ");
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn article(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// Keys that are right by themselves but not together.
pub(super) fn together(source: &Source, run: &RunConfig) -> Result<()> {
    let corpus = &run.corpus;
    let refuse =
        |path: &str, what: &str, remedy: &str| Err(Error::config(source.place(path), what, remedy));
    if corpus.format == Some(Format::Parallel) && corpus.label_files.is_empty() {
        let remedy = "list one label file per word file, in the same order";
        return refuse("corpus.label_files", "missing with format = \"parallel\"", remedy);
    }
    if !matches!(corpus.format, Some(Format::Parallel)) && !corpus.label_files.is_empty() {
        let remedy = "set corpus.format = \"parallel\", or leave label_files out";
        return refuse("corpus.label_files", "only the parallel format has label files", remedy);
    }
    if run.capture.special_tokens == Policy::Include && run.capture.pool != Pool::None {
        let remedy = "set capture.pool = \"none\", or leave special_tokens out";
        return refuse("capture.special_tokens", "special tokens belong to no word", remedy);
    }
    let mut seen = BTreeSet::new();
    for (i, concept) in run.concepts.iter().enumerate() {
        let path = format!("concepts.{i}.column");
        if !seen.insert(&concept.column) {
            let what = format!("'{}' is listed twice", concept.column);
            return refuse(&path, &what, "leave one [[concepts]] table per column");
        }
        let open = concept.classes.is_none() && concept.most_frequent.is_none();
        if open && ["lemma", "form"].contains(&concept.column.as_str()) {
            let remedy = "set most_frequent = 200 or so, or list the classes";
            return refuse(&path, "every word would be a class of its own", remedy);
        }
    }
    Ok(())
}
