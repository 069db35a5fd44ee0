//! The table of sets that were patched together: `mediators.parquet`.

use std::path::Path;

use super::columns::{Field, Kind, Shape, Sink};
use super::table::{Record, Source, read_table, write_table};
use crate::error::Result;

/// File name of the table of [`MediatorRow`].
pub const MEDIATORS: &str = "mediators.parquet";

/// `mediators.parquet`: the first neurons of a `patch` ranking patched together, and how much of the
/// total effect they carry.
#[derive(Clone, Debug, PartialEq)]
pub struct MediatorRow {
    /// Method with its settings, as written.
    pub method: String,
    /// Neurons of the set.
    pub size: i32,
    /// Questions.
    pub n: i64,
    /// Mean over questions of m(patched) - m(clean).
    pub effect: f64,
    /// Standard error of that mean.
    pub error: f64,
    /// Mean over questions of m(counterfactual prompt) - m(clean).
    pub total: f64,
    /// `effect / total`.
    pub recovered: f64,
    /// The set is the smallest of those tried that recovers the share asked for.
    pub smallest: bool,
    /// Its neurons, those that carry most first, as `layers.3.mlp_act.17`; empty in other rows.
    pub neurons: Vec<String>,
}

/// Writes `mediators.parquet`; returns its number of rows.
pub fn write_mediators(
    path: &Path,
    run_id: &str,
    rows: impl Iterator<Item = MediatorRow>,
) -> Result<u64> {
    write_table(path, run_id, rows)
}

/// Reads `mediators.parquet`.
pub fn read_mediators(path: &Path) -> Result<Vec<MediatorRow>> {
    read_table(path)
}

impl Record for MediatorRow {
    fn fields() -> Vec<Field> {
        vec![
            Field::new("method", Kind::Text, Shape::One),
            Field::new("size", Kind::I32, Shape::One),
            Field::new("n", Kind::I64, Shape::One),
            Field::new("effect", Kind::F64, Shape::One),
            Field::new("error", Kind::F64, Shape::One),
            Field::new("total", Kind::F64, Shape::One),
            Field::new("recovered", Kind::F64, Shape::One),
            Field::new("smallest", Kind::Bool, Shape::One),
            Field::new("neurons", Kind::Text, Shape::Many),
        ]
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self.method);
        sink.one(self.size);
        sink.one(self.n);
        sink.one(self.effect);
        sink.one(self.error);
        sink.one(self.total);
        sink.one(self.recovered);
        sink.one(self.smallest);
        sink.texts(self.neurons);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            method: source.text()?,
            size: source.one()?,
            n: source.one()?,
            effect: source.one()?,
            error: source.one()?,
            total: source.one()?,
            recovered: source.one()?,
            smallest: source.one()?,
            neurons: source.texts()?,
        })
    }
}
