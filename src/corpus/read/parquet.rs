//! Parquet: a `text` column, an optional `id`, and labels of the document in the other string,
//! integer and truth columns.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::basic::Type as Physical;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use super::text::Running;
use super::{Checked, Columns, FileReader, Unit};
use crate::disk;
use crate::error::{Error, Result};

/// Reads `.parquet`, row by row.
pub(super) struct Parquet {
    path: PathBuf,
    rows: RowIter<'static>,
    read: u64,
    expected: u64,
    ready: VecDeque<Unit>,
}

impl Parquet {
    /// Opens the file and keeps the columns that are of use.
    pub(super) fn open(path: &Path, columns: &Columns) -> Result<Self> {
        let file = disk::File::open(path).map_err(Error::io(path, "read"))?;
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let reader =
                SerializedFileReader::new(file.into_std()).map_err(|error| error.to_string())?;
            let metadata = reader.metadata().file_metadata();
            let expected = u64::try_from(metadata.num_rows())
                .map_err(|_| "its number of rows is negative".to_owned())?;
            let schema = projection(metadata.schema_descr().root_schema(), columns)?;
            let rows = RowIter::from_file_into(Box::new(reader)).project(Some(schema));
            Ok((rows.map_err(|error| error.to_string())?, expected))
        }));
        let opened = opened.unwrap_or_else(|_| Err("its metadata is damaged".to_owned()));
        let (rows, expected) = opened.map_err(|what: String| refuse(path, &what))?;
        let path = path.to_path_buf();
        Ok(Self { path, rows, read: 0, expected, ready: VecDeque::new() })
    }

    /// Queues the document of a row, or says what is wrong with it.
    fn parse(&mut self, row: Row) -> Checked<()> {
        let (mut id, mut text, mut labels) = (None, None, Vec::new());
        for (name, field) in row.into_columns() {
            let Some(value) = plain(field) else { continue };
            match name.as_str() {
                "text" => text = Some(value),
                "id" => id = Some(value),
                _ => labels.push((name, value)),
            }
        }
        let text = text.ok_or("`text` is null or not UTF-8")?;
        if text.contains('\0') {
            return Err("`text` holds a NUL".to_owned());
        }
        Running { id, text: &text, labels }.queue(None, &mut self.ready);
        Ok(())
    }
}

/// The columns that are read; an error without `text`.
fn projection(schema: &Type, columns: &Columns) -> Checked<Type> {
    let label = |field: &&std::sync::Arc<Type>| {
        field.is_primitive()
            && !matches!(field.get_physical_type(), Physical::FLOAT | Physical::DOUBLE)
            && (matches!(field.name(), "text" | "id") || columns.wants(field.name()))
    };
    let fields: Vec<_> = schema.get_fields().iter().filter(label).cloned().collect();
    let text = |field: &std::sync::Arc<Type>| {
        field.name() == "text" && field.get_physical_type() == Physical::BYTE_ARRAY
    };
    if !fields.iter().any(text) {
        let names: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
        return Err(format!("no string column `text` among {}", names.join(", ")));
    }
    Type::group_type_builder(schema.name())
        .with_fields(fields)
        .build()
        .map_err(|error| error.to_string())
}

/// A value as text; other kinds are no labels.
fn plain(field: Field) -> Option<String> {
    match field {
        Field::Str(text) => Some(text),
        Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec()).ok(),
        Field::Bool(value) => Some(value.to_string()),
        Field::Byte(value) => Some(value.to_string()),
        Field::Short(value) => Some(value.to_string()),
        Field::Int(value) => Some(value.to_string()),
        Field::Long(value) => Some(value.to_string()),
        Field::UByte(value) => Some(value.to_string()),
        Field::UShort(value) => Some(value.to_string()),
        Field::UInt(value) => Some(value.to_string()),
        Field::ULong(value) => Some(value.to_string()),
        _ => None,
    }
}

/// A file that cannot be read as Parquet, with the remedy that fits.
fn refuse(path: &Path, what: &str) -> Error {
    let remedy = if what.contains("Disabled feature") {
        "write it again with compression = \"zstd\" (or none)"
    } else {
        "check it with another Parquet reader, and write it again"
    };
    Error::input(path, what, remedy)
}

impl FileReader for Parquet {
    fn next(&mut self) -> Result<Option<Unit>> {
        loop {
            if let Some(unit) = self.ready.pop_front() {
                return Ok(Some(unit));
            }
            // The crate trusts some lengths of the file and panics where they lie.
            let row = catch_unwind(AssertUnwindSafe(|| self.rows.next()));
            let row = row.map_err(|_| refuse(&self.path, "its pages are damaged"))?;
            let Some(row) = row else {
                if self.read != self.expected {
                    let what = format!("holds {} rows, promises {}", self.read, self.expected);
                    return Err(refuse(&self.path, &what));
                }
                return Ok(None);
            };
            self.read += 1;
            let row =
                row.map_err(|error| refuse(&self.path, &format!("row {}: {error}", self.read)))?;
            if let Err(what) = self.parse(row) {
                return Ok(Some(Unit::Bad { place: format!("row {}", self.read), what }));
            }
        }
    }
}
