//! Columns in memory and their Parquet form: the one place that knows definition and repetition
//! levels. Tables above it speak in rows.
//!
//! Three shapes are enough: a value in each row, a value or none, and a list (the three-level form
//! of the Parquet specification, with neither null lists nor null elements).

use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};

/// Version of the tables; readers refuse another one before the dot.
pub const SCHEMA: &str = "1.0";
/// Key-value metadata of every table.
pub const SCHEMA_KEY: &str = "electrode.schema";
/// Key-value metadata of every table.
pub const RUN_KEY: &str = "electrode.run_id";

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// true or false.
    Bool,
    /// 8 bits in a file, 32 in memory.
    I8,
    /// 32 bits.
    I32,
    /// 64 bits.
    I64,
    /// float32.
    F32,
    /// float64.
    F64,
    /// UTF-8.
    Text,
}

/// How many values a row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One.
    One,
    /// One or none.
    Maybe,
    /// Any number.
    Many,
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub kind: Kind,
    /// How many a row has.
    pub shape: Shape,
}

impl Field {
    /// A column.
    pub fn new(name: &str, kind: Kind, shape: Shape) -> Self {
        Self { name: name.to_string(), kind, shape }
    }

    /// Its highest definition and repetition level.
    pub(crate) fn levels(&self) -> (i16, i16) {
        match self.shape {
            Shape::One => (0, 0),
            Shape::Maybe => (1, 0),
            Shape::Many => (1, 1),
        }
    }

    /// The type that stands in the file.
    pub(crate) fn physical(&self) -> Physical {
        match self.kind {
            Kind::Bool => Physical::BOOLEAN,
            Kind::I8 | Kind::I32 => Physical::INT32,
            Kind::I64 => Physical::INT64,
            Kind::F32 => Physical::FLOAT,
            Kind::F64 => Physical::DOUBLE,
            Kind::Text => Physical::BYTE_ARRAY,
        }
    }

    fn leaf(&self, name: &str, repetition: Repetition) -> ParquetResult<TypePtr> {
        let logical = match self.kind {
            Kind::Text => Some(LogicalType::String),
            Kind::I8 => Some(LogicalType::integer(8, true)),
            _ => None,
        };
        let leaf = Type::primitive_type_builder(name, self.physical());
        Ok(Arc::new(leaf.with_repetition(repetition).with_logical_type(logical).build()?))
    }

    /// `required group NAME (LIST) { repeated group list { required TYPE element; } }` for lists.
    fn schema(&self) -> ParquetResult<TypePtr> {
        match self.shape {
            Shape::One => self.leaf(&self.name, Repetition::REQUIRED),
            Shape::Maybe => self.leaf(&self.name, Repetition::OPTIONAL),
            Shape::Many => {
                let list = Type::group_type_builder("list")
                    .with_repetition(Repetition::REPEATED)
                    .with_fields(vec![self.leaf("element", Repetition::REQUIRED)?]);
                let outer = Type::group_type_builder(&self.name)
                    .with_repetition(Repetition::REQUIRED)
                    .with_logical_type(Some(LogicalType::List))
                    .with_fields(vec![Arc::new(list.build()?)]);
                Ok(Arc::new(outer.build()?))
            }
        }
    }
}

/// The values of one column, without its empty places.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    Bool(Vec<bool>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Text(Vec<ByteArray>),
}

impl Values {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool(Vec::new()),
            Kind::I8 | Kind::I32 => Self::I32(Vec::new()),
            Kind::I64 => Self::I64(Vec::new()),
            Kind::F32 => Self::F32(Vec::new()),
            Kind::F64 => Self::F64(Vec::new()),
            Kind::Text => Self::Text(Vec::new()),
        }
    }
}

/// What a column may hold.
pub(crate) trait Value: Clone {
    /// The vector of this type, if the column is of this type.
    fn of(values: &Values) -> Option<&Vec<Self>>;
    /// The same, to be filled.
    fn of_mut(values: &mut Values) -> Option<&mut Vec<Self>>;
}

macro_rules! value {
    ($($type:ty => $variant:ident),*) => {$(
        impl Value for $type {
            fn of(values: &Values) -> Option<&Vec<Self>> {
                match values { Values::$variant(v) => Some(v), _ => None }
            }
            fn of_mut(values: &mut Values) -> Option<&mut Vec<Self>> {
                match values { Values::$variant(v) => Some(v), _ => None }
            }
        }
    )*};
}
value!(bool => Bool, i32 => I32, i64 => I64, f32 => F32, f64 => F64, ByteArray => Text);

/// One column of the rows at hand.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) field: Field,
    pub(crate) values: Values,
    pub(crate) definition: Vec<i16>,
    pub(crate) repetition: Vec<i16>,
}

impl Column {
    pub(crate) fn new(field: Field) -> Self {
        let values = Values::new(field.kind);
        Self { field, values, definition: Vec::new(), repetition: Vec::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.values = Values::new(self.field.kind);
        self.definition.clear();
        self.repetition.clear();
    }

    fn push<V: Value>(&mut self, value: V) {
        V::of_mut(&mut self.values).expect("a row puts what its fields say").push(value);
    }
}

/// Takes the cells of rows in the order of the table's fields.
#[derive(Debug)]
pub struct Sink<'a> {
    pub(crate) columns: std::slice::IterMut<'a, Column>,
    /// Values put so far, which bounds the size of a row group with lists.
    pub(crate) cells: usize,
}

impl Sink<'_> {
    fn column(&mut self, shape: Shape) -> &mut Column {
        let column = self.columns.next().expect("a row puts as many cells as it has fields");
        assert!(column.field.shape == shape, "{}: a row puts the shape it says", column.field.name);
        column
    }

    pub(crate) fn one<V: Value>(&mut self, value: V) {
        self.cells += 1;
        self.column(Shape::One).push(value);
    }

    pub(crate) fn maybe<V: Value>(&mut self, value: Option<V>) {
        self.cells += 1;
        let column = self.column(Shape::Maybe);
        column.definition.push(i16::from(value.is_some()));
        if let Some(value) = value {
            column.push(value);
        }
    }

    pub(crate) fn many<V: Value>(&mut self, values: impl IntoIterator<Item = V>) {
        let column = self.column(Shape::Many);
        let before = column.definition.len();
        for value in values {
            column.repetition.push(i16::from(column.definition.len() > before));
            column.definition.push(1);
            column.push(value);
        }
        if column.definition.len() == before {
            column.repetition.push(0);
            column.definition.push(0);
        }
        let cells = column.definition.len() - before;
        self.cells += cells;
    }

    pub(crate) fn text(&mut self, value: String) {
        self.one(ByteArray::from(value.into_bytes()));
    }

    pub(crate) fn maybe_text(&mut self, value: Option<String>) {
        self.maybe(value.map(|v| ByteArray::from(v.into_bytes())));
    }

    pub(crate) fn texts(&mut self, values: Vec<String>) {
        self.many(values.into_iter().map(|v| ByteArray::from(v.into_bytes())));
    }
}

/// The schema of a table.
pub(crate) fn schema(fields: &[Field]) -> ParquetResult<TypePtr> {
    let fields = fields.iter().map(Field::schema).collect::<ParquetResult<Vec<_>>>()?;
    Ok(Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?))
}

/// zstd level 3, statistics per page and chunk, and who wrote it.
pub(crate) fn properties(run_id: &str) -> ParquetResult<WriterProperties> {
    let note = |key: &str, value: &str| KeyValue::new(key.to_string(), value.to_string());
    let notes = vec![note(SCHEMA_KEY, SCHEMA), note(RUN_KEY, run_id)];
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_created_by(format!("electrode {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(notes))
        .build())
}

/// Writes the columns as one row group.
pub(crate) fn write_group<W: std::io::Write + Send>(
    file: &mut SerializedFileWriter<W>,
    columns: &[Column],
) -> ParquetResult<()> {
    let mut group = file.next_row_group()?;
    for column in columns {
        let mut writer = group.next_column()?.expect("the schema is made from these columns");
        match &column.values {
            Values::Bool(v) => write_column::<BoolType>(&mut writer, column, v)?,
            Values::I32(v) => write_column::<Int32Type>(&mut writer, column, v)?,
            Values::I64(v) => write_column::<Int64Type>(&mut writer, column, v)?,
            Values::F32(v) => write_column::<FloatType>(&mut writer, column, v)?,
            Values::F64(v) => write_column::<DoubleType>(&mut writer, column, v)?,
            Values::Text(v) => write_column::<ByteArrayType>(&mut writer, column, v)?,
        }
        writer.close()?;
    }
    group.close()?;
    Ok(())
}

fn write_column<T: DataType>(
    writer: &mut SerializedColumnWriter<'_>,
    column: &Column,
    values: &[T::T],
) -> ParquetResult<()> {
    let definition = (column.field.shape != Shape::One).then_some(column.definition.as_slice());
    let repetition = (column.field.shape == Shape::Many).then_some(column.repetition.as_slice());
    writer.typed::<T>().write_batch(values, definition, repetition)?;
    Ok(())
}
