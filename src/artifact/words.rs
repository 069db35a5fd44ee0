//! `FILE.words.parquet` of `electrode extract --corpus`: one row per row of the matrices beside it.

use std::path::Path;

use super::columns::{Field, Kind, Shape, Sink};
use super::table::write_columns;
use crate::error::{Error, Result};

/// One row of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WordRow {
    /// Document number in the corpus, from 0.
    pub document: i64,
    /// Sentence number in the document, from 0.
    pub sentence: i64,
    /// Word number in the sentence, from 0.
    pub position: i64,
    /// The word as written.
    pub form: String,
    /// The file's own name of the document.
    pub document_id: Option<String>,
    /// The file's own name of the sentence.
    pub sentence_id: Option<String>,
    /// One value or none per label column, in the order of the columns.
    pub labels: Vec<Option<String>>,
}

/// The columns before the labels; a label column of such a name would hide them.
const OWN: [&str; 6] = ["document", "sentence", "position", "form", "document_id", "sentence_id"];

/// Writes the table with the label columns `columns` (`upos`, `feats.Number`, …) and returns its
/// number of rows. A label column named as one of the table's own columns gets `label.` before it.
pub fn write_words(
    path: &Path,
    run_id: &str,
    columns: &[String],
    rows: impl Iterator<Item = WordRow>,
) -> Result<u64> {
    let fields = fields(path, columns)?;
    let labels = columns.len();
    write_columns(
        path,
        run_id,
        fields,
        rows.map(|row| {
            move |sink: &mut Sink<'_>| {
                assert!(
                    row.labels.len() == labels,
                    "a word has a value or none for each label column"
                );
                sink.one(row.document);
                sink.one(row.sentence);
                sink.one(row.position);
                sink.text(row.form);
                sink.maybe_text(row.document_id);
                sink.maybe_text(row.sentence_id);
                for label in row.labels {
                    sink.maybe_text(label);
                }
            }
        }),
    )
}

/// Whether a table with these label columns can be written: asked before the work is done.
pub fn check_columns(path: &Path, columns: &[String]) -> Result<()> {
    fields(path, columns).map(drop)
}

fn fields(path: &Path, columns: &[String]) -> Result<Vec<Field>> {
    let mut fields: Vec<Field> =
        OWN[..3].iter().map(|name| Field::new(name, Kind::I64, Shape::One)).collect();
    fields.push(Field::new(OWN[3], Kind::Text, Shape::One));
    fields.extend(OWN[4..].iter().map(|name| Field::new(name, Kind::Text, Shape::Maybe)));
    for column in columns {
        let own = OWN.contains(&column.as_str());
        let name = if own { format!("label.{column}") } else { column.clone() };
        if fields.iter().any(|field| field.name == name) {
            return Err(Error::input(
                path,
                format!("two label columns are named '{column}'"),
                "give the label columns of the corpus different names",
            ));
        }
        fields.push(Field::new(&name, Kind::Text, Shape::Maybe));
    }
    Ok(fields)
}
