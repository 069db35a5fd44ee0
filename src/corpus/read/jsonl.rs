//! JSONL: one object a line, with `text`, an optional `id`, and labels of the document.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::open::{Line, Lines};
use super::text::Running;
use super::{Checked, Columns, FileReader, Unit};
use crate::error::Result;

/// Reads `.jsonl`.
pub(super) struct Jsonl {
    lines: Lines,
    columns: Columns,
    ready: VecDeque<Unit>,
}

impl Jsonl {
    pub(super) fn new(lines: Lines, columns: Columns) -> Self {
        Self { lines, columns, ready: VecDeque::new() }
    }

    /// Queues the document of the current line, or says what is wrong with it.
    fn parse(&mut self) -> Checked<()> {
        let object: Map<String, Value> =
            serde_json::from_str(self.lines.text()).map_err(|error| error.to_string())?;
        let text = match object.get("text") {
            Some(Value::String(text)) => text,
            Some(_) => return Err("`text` is not a string".to_owned()),
            None => return Err("the object has no `text`".to_owned()),
        };
        if text.contains('\0') {
            return Err("`text` holds a NUL".to_owned());
        }
        let id = object.get("id").and_then(plain);
        let labels = object
            .iter()
            .filter(|(key, _)| *key != "text" && *key != "id" && self.columns.wants(key))
            .filter_map(|(key, value)| Some((key.clone(), plain(value)?)))
            .collect();
        Running { id, text, labels }.queue(self.lines.seekable_start(), &mut self.ready);
        Ok(())
    }
}

/// A string, number or truth value as text; other values are no labels.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl FileReader for Jsonl {
    fn next(&mut self) -> Result<Option<Unit>> {
        loop {
            if let Some(unit) = self.ready.pop_front() {
                return Ok(Some(unit));
            }
            match self.lines.advance()? {
                Line::End => return Ok(None),
                Line::Bad(what) => return Ok(Some(Unit::bad_line(self.lines.number(), what))),
                Line::Text if self.lines.text().trim().is_empty() => {}
                Line::Text => {
                    if let Err(what) = self.parse() {
                        return Ok(Some(Unit::bad_line(self.lines.number(), what)));
                    }
                }
            }
        }
    }
}
