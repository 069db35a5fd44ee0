//! Tables of rows as Parquet files: written in a stream and whole or not at all, read back group
//! by group.

use std::path::Path;
use std::sync::Arc;

use parquet::column::reader::{ColumnReader, get_typed_column_reader};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescriptor;

use super::atomic::write_atomic;
use super::columns::{
    Column, Field, RUN_KEY, SCHEMA, SCHEMA_KEY, Shape, Sink, Value, Values, properties, schema,
    write_group,
};
use crate::disk::{self, SystemFile};
use crate::error::{Error, Result};

/// Rows of a row group, and cells for tables whose lists make rows long.
const GROUP_ROWS: usize = 1 << 20;
const GROUP_CELLS: usize = 1 << 25;

/// A row that has a table.
pub trait Record: Sized {
    /// The columns, in order.
    fn fields() -> Vec<Field>;
    /// Hands over one cell per field, in order.
    fn put(self, sink: &mut Sink<'_>);
    /// Takes one cell per field, in order; text that is not UTF-8 and numbers out of range fail.
    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String>;
}

/// Writes a table and returns its number of rows.
pub fn write_table<R: Record>(
    path: &Path,
    run_id: &str,
    rows: impl Iterator<Item = R>,
) -> Result<u64> {
    write_columns(path, run_id, R::fields(), rows.map(|row| |sink: &mut Sink<'_>| row.put(sink)))
}

/// [`write_table`] where the columns are known at run time only.
pub(crate) fn write_columns<F: FnOnce(&mut Sink<'_>)>(
    path: &Path,
    run_id: &str,
    fields: Vec<Field>,
    rows: impl Iterator<Item = F>,
) -> Result<u64> {
    let failed = |e: ParquetError| Error::io(path, "write")(into_io(e));
    write_atomic(path, |writer| {
        let properties = Arc::new(properties(run_id).map_err(failed)?);
        let schema = schema(&fields).map_err(failed)?;
        let mut file = SerializedFileWriter::new(writer, schema, properties).map_err(failed)?;
        let mut columns: Vec<Column> = fields.into_iter().map(Column::new).collect();
        let (mut written, mut held, mut cells) = (0_u64, 0_usize, 0_usize);
        for row in rows {
            let mut sink = Sink { columns: columns.iter_mut(), cells };
            row(&mut sink);
            assert!(sink.columns.next().is_none(), "a row puts a cell for each of its fields");
            cells = sink.cells;
            held += 1;
            written += 1;
            if held >= GROUP_ROWS || cells >= GROUP_CELLS {
                write_group(&mut file, &columns).map_err(failed)?;
                columns.iter_mut().for_each(Column::clear);
                (held, cells) = (0, 0);
            }
        }
        if held > 0 {
            write_group(&mut file, &columns).map_err(failed)?;
        }
        file.close().map_err(failed)?;
        Ok(written)
    })
}

/// The disk's own error where there is one, for its exit code and words.
fn into_io(error: ParquetError) -> std::io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => *io,
            Err(other) => std::io::Error::other(other),
        },
        other => std::io::Error::other(other),
    }
}

/// All rows of a table.
pub fn read_table<R: Record>(path: &Path) -> Result<Vec<R>> {
    let mut rows = Vec::new();
    visit_table(path, |row| rows.push(row))?;
    Ok(rows)
}

/// Hands the rows of a table to `visit`, in order, holding one row group at a time.
pub fn visit_table<R: Record>(path: &Path, mut visit: impl FnMut(R)) -> Result<()> {
    let damaged = |what: String| {
        Error::input(path, what, "remove it and run the same command again: the table is remade")
    };
    let file = disk::File::open(path).map_err(Error::io(path, "read"))?;
    let reader = SerializedFileReader::new(file.into_std()).map_err(|e| damaged(e.to_string()))?;
    check_version(&reader).map_err(damaged)?;
    let fields = R::fields();
    let found =
        find_columns(reader.metadata().file_metadata().schema_descr(), &fields).map_err(damaged)?;
    for group in 0..reader.num_row_groups() {
        let columns = read_group(&reader, group, &fields, &found)
            .map_err(|e| damaged(format!("row group {group}: {e}")))?;
        let rows = usize::try_from(reader.metadata().row_group(group).num_rows()).unwrap_or(0);
        read_rows(&columns, rows, &mut visit)
            .map_err(|what| damaged(format!("row group {group}, {what}")))?;
    }
    Ok(())
}

/// Hands over the rows of columns; fails where they do not belong together.
pub(super) fn read_rows<R: Record>(
    columns: &[Column],
    rows: usize,
    visit: &mut impl FnMut(R),
) -> std::result::Result<(), String> {
    let mut places = vec![Place::default(); columns.len()];
    for row in 0..rows {
        let mut source = Source { columns, places: &mut places, next: 0 };
        visit(R::get(&mut source).map_err(|error| format!("row {row}: {error}"))?);
    }
    Ok(())
}

/// The run a table was written by.
pub fn run_id_of(path: &Path) -> Result<Option<String>> {
    let file = disk::File::open(path).map_err(Error::io(path, "read"))?;
    let reader = SerializedFileReader::new(file.into_std())
        .map_err(|e| Error::input(path, e.to_string(), "run the same command again"))?;
    Ok(note(&reader, RUN_KEY))
}

fn note(reader: &SerializedFileReader<SystemFile>, key: &str) -> Option<String> {
    let notes = reader.metadata().file_metadata().key_value_metadata()?;
    notes.iter().find(|note| note.key == key)?.value.clone()
}

fn check_version(reader: &SerializedFileReader<SystemFile>) -> std::result::Result<(), String> {
    let major = |version: &str| version.split('.').next().map(str::to_string);
    match note(reader, SCHEMA_KEY) {
        Some(version) if major(&version) == major(SCHEMA) => Ok(()),
        Some(version) => Err(format!("tables of version {version}, this program reads {SCHEMA}")),
        None => Err(format!("not a table of electrode: no '{SCHEMA_KEY}' in its metadata")),
    }
}

/// Where each field stands in the file; further columns are no fault.
fn find_columns(
    schema: &SchemaDescriptor,
    fields: &[Field],
) -> std::result::Result<Vec<usize>, String> {
    let place = |field: &Field| {
        let is_it = |at: &usize| schema.column(*at).path().parts().first() == Some(&field.name);
        let at = (0..schema.num_columns())
            .find(is_it)
            .ok_or_else(|| format!("column '{}' is missing", field.name))?;
        let column = schema.column(at);
        let levels = (column.max_def_level(), column.max_rep_level());
        if column.physical_type() != field.physical() || levels != field.levels() {
            return Err(format!(
                "column '{}' should be {:?} of {:?}, the file has {} with levels {levels:?}",
                field.name,
                field.shape,
                field.kind,
                column.physical_type(),
            ));
        }
        Ok(at)
    };
    fields.iter().map(place).collect()
}

fn read_group(
    reader: &SerializedFileReader<SystemFile>,
    group: usize,
    fields: &[Field],
    places: &[usize],
) -> ParquetResult<Vec<Column>> {
    let group = reader.get_row_group(group)?;
    let rows = usize::try_from(group.metadata().num_rows())?;
    let read = |(field, &at): (&Field, &usize)| {
        let mut column = Column::new(field.clone());
        let reader = group.get_column_reader(at)?;
        let levels = (&mut column.definition, &mut column.repetition);
        let records = match &mut column.values {
            Values::Bool(v) => read_column::<BoolType>(reader, rows, levels, v)?,
            Values::I32(v) => read_column::<Int32Type>(reader, rows, levels, v)?,
            Values::I64(v) => read_column::<Int64Type>(reader, rows, levels, v)?,
            Values::F32(v) => read_column::<FloatType>(reader, rows, levels, v)?,
            Values::F64(v) => read_column::<DoubleType>(reader, rows, levels, v)?,
            Values::Text(v) => read_column::<ByteArrayType>(reader, rows, levels, v)?,
        };
        if records != rows {
            let what = format!("column '{}' has {records} rows of {rows}", field.name);
            return Err(ParquetError::General(what));
        }
        Ok(column)
    };
    fields.iter().zip(places).map(read).collect()
}

fn read_column<T: DataType>(
    reader: ColumnReader,
    rows: usize,
    levels: (&mut Vec<i16>, &mut Vec<i16>),
    values: &mut Vec<T::T>,
) -> ParquetResult<usize> {
    let mut reader = get_typed_column_reader::<T>(reader);
    let mut read = 0;
    while read < rows {
        let (records, _, _) =
            reader.read_records(rows - read, Some(&mut *levels.0), Some(&mut *levels.1), values)?;
        if records == 0 {
            break;
        }
        read += records;
    }
    Ok(read)
}

/// Where reading stands in one column.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    value: usize,
    level: usize,
}

/// Gives the cells of one row in the order of the table's fields.
#[derive(Debug)]
pub struct Source<'a> {
    columns: &'a [Column],
    places: &'a mut [Place],
    next: usize,
}

type Cell<T> = std::result::Result<T, String>;

impl Source<'_> {
    /// The next column and where it stands.
    fn turn(&mut self, shape: Shape) -> (&Column, &mut Place) {
        let at = self.next;
        self.next += 1;
        let column = self.columns.get(at).expect("a row takes as many cells as it has fields");
        assert!(
            column.field.shape == shape,
            "{}: a row takes the shape it says",
            column.field.name
        );
        (column, &mut self.places[at])
    }

    pub(crate) fn one<V: Value>(&mut self) -> Cell<V> {
        let (column, place) = self.turn(Shape::One);
        take(column, place)
    }

    pub(crate) fn maybe<V: Value>(&mut self) -> Cell<Option<V>> {
        let (column, place) = self.turn(Shape::Maybe);
        let level = column.definition.get(place.level).ok_or_else(|| short(column))?;
        place.level += 1;
        if *level == 0 { Ok(None) } else { take(column, place).map(Some) }
    }

    pub(crate) fn many<V: Value>(&mut self) -> Cell<Vec<V>> {
        let (column, place) = self.turn(Shape::Many);
        let mut values = Vec::new();
        loop {
            let level = column.definition.get(place.level).ok_or_else(|| short(column))?;
            place.level += 1;
            if *level > 0 {
                values.push(take(column, place)?);
            }
            // The list goes on while the next level repeats.
            if column.repetition.get(place.level).is_none_or(|&r| r == 0) {
                return Ok(values);
            }
        }
    }

    pub(crate) fn text(&mut self) -> Cell<String> {
        utf8(&self.one()?)
    }

    pub(crate) fn texts(&mut self) -> Cell<Vec<String>> {
        self.many()?.iter().map(utf8).collect()
    }
}

fn utf8(bytes: &ByteArray) -> Cell<String> {
    bytes.as_utf8().map(str::to_string).map_err(|e| e.to_string())
}

fn take<V: Value>(column: &Column, place: &mut Place) -> Cell<V> {
    let values = V::of(&column.values).expect("a row takes what its fields say");
    let value = values.get(place.value).ok_or_else(|| short(column))?.clone();
    place.value += 1;
    Ok(value)
}

/// A file whose levels and values disagree is damaged; the crate checks pages, not this.
fn short(column: &Column) -> String {
    format!("column '{}' ends early", column.field.name)
}
