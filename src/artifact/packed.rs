//! Rows of tables as bytes and back, to the bit: what finished work keeps until its table is written.
//! A column's cells stand together; texts that repeat from row to row stand there once.

use parquet::data_type::ByteArray;

use super::columns::{Column, Shape, Sink, Values};
use super::table::{Record, read_rows};
use crate::accumulate::codec::{Reader, put, put_len};
use crate::accumulate::run::damaged;
use crate::error::Result;

/// These rows as bytes: the same for the same rows.
pub fn pack<R: Record>(rows: impl IntoIterator<Item = R>) -> Vec<u8> {
    let mut columns: Vec<Column> = R::fields().into_iter().map(Column::new).collect();
    let mut count = 0_u64;
    for row in rows {
        let mut sink = Sink { columns: columns.iter_mut(), cells: 0 };
        row.put(&mut sink);
        assert!(sink.columns.next().is_none(), "a row puts a cell for each of its fields");
        count += 1;
    }
    let mut out = Vec::new();
    put(&mut out, &[count]);
    columns.iter().for_each(|column| encode(column, &mut out));
    out
}

/// The rows again. Damaged bytes are refused, and never believed before they are checked.
pub fn unpack<R: Record>(bytes: &[u8]) -> Result<Vec<R>> {
    let mut reader = Reader::new(bytes);
    let count = reader.take::<u64>(1)?[0];
    let count = usize::try_from(count).map_err(|_| damaged(format!("{count} rows")))?;
    let mut columns: Vec<Column> = R::fields().into_iter().map(Column::new).collect();
    for column in &mut columns {
        decode(column, count, &mut reader)?;
    }
    reader.finish()?;
    let mut rows = Vec::new();
    read_rows(&columns, count, &mut |row| rows.push(row)).map_err(damaged)?;
    Ok(rows)
}

fn encode(column: &Column, out: &mut Vec<u8>) {
    if column.field.shape != Shape::One {
        put_len(out, column.definition.len());
        put(out, &column.definition);
    }
    if column.field.shape == Shape::Many {
        put(out, &column.repetition);
    }
    match &column.values {
        Values::Bool(own) => out.extend(own.iter().map(|own| u8::from(*own))),
        Values::I32(own) => put(out, own),
        Values::I64(own) => put(out, own),
        Values::F32(own) => put(out, own),
        Values::F64(own) => put(out, own),
        Values::Text(own) => encode_texts(own, out),
    }
}

/// Runs of one text: how often it stands there, its length, its bytes.
fn encode_texts(texts: &[ByteArray], out: &mut Vec<u8>) {
    for run in texts.chunk_by(|a, b| a.data() == b.data()) {
        put(out, &[run.len() as u64]);
        put_len(out, run[0].len());
        out.extend_from_slice(run[0].data());
    }
}

fn decode(column: &mut Column, rows: usize, reader: &mut Reader<'_>) -> Result<()> {
    let shape = column.field.shape;
    let mut cells = rows;
    if shape != Shape::One {
        let levels = reader.length()?;
        column.definition = reader.take(levels)?;
        cells = column.definition.iter().filter(|level| **level > 0).count();
    }
    if shape == Shape::Many {
        column.repetition = reader.take(column.definition.len())?;
    }
    match &mut column.values {
        Values::Bool(own) => *own = reader.take::<u8>(cells)?.iter().map(|own| *own != 0).collect(),
        Values::I32(own) => *own = reader.take(cells)?,
        Values::I64(own) => *own = reader.take(cells)?,
        Values::F32(own) => *own = reader.take(cells)?,
        Values::F64(own) => *own = reader.take(cells)?,
        Values::Text(own) => decode_texts(own, cells, reader)?,
    }
    Ok(())
}

fn decode_texts(texts: &mut Vec<ByteArray>, cells: usize, reader: &mut Reader<'_>) -> Result<()> {
    while texts.len() < cells {
        let often = usize::try_from(reader.take::<u64>(1)?[0]).unwrap_or(usize::MAX);
        if often == 0 || often > cells - texts.len() {
            return Err(damaged(format!("a text that stands {often} times in {cells} cells")));
        }
        let length = reader.length()?;
        let text = ByteArray::from(reader.take::<u8>(length)?);
        texts.extend(std::iter::repeat_n(text, often));
    }
    Ok(())
}
