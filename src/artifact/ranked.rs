//! What the tables of rankings have in common: `rankings.parquet` of a run and `effects.parquet` of
//! an experiment.

use std::path::Path;

use super::columns::{Field, Kind, Shape, Sink};
use super::table::{Record, Source, read_table};
use crate::error::Result;

/// A neuron's score in one ranking of either table.
#[derive(Clone, Debug, PartialEq)]
pub struct RankedRow {
    /// Method with its settings, as written.
    pub method: String,
    /// Label column, or key by which questions are grouped.
    pub label: String,
    /// The concept or group; `*` for all.
    pub concept: String,
    /// Full site name.
    pub site: String,
    /// Column of the site.
    pub neuron: i32,
    /// From 1, the most important first.
    pub rank: i32,
    /// Importance: higher is better, comparable within one ranking only.
    pub score: f64,
}

/// Reads either table.
pub fn read_ranked(path: &Path) -> Result<Vec<RankedRow>> {
    read_table(path)
}

impl Record for RankedRow {
    fn fields() -> Vec<Field> {
        vec![
            Field::new("method", Kind::Text, Shape::One),
            Field::new("label", Kind::Text, Shape::One),
            Field::new("concept", Kind::Text, Shape::One),
            Field::new("site", Kind::Text, Shape::One),
            Field::new("neuron", Kind::I32, Shape::One),
            Field::new("rank", Kind::I32, Shape::One),
            Field::new("score", Kind::F64, Shape::One),
        ]
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self.method);
        sink.text(self.label);
        sink.text(self.concept);
        sink.text(self.site);
        sink.one(self.neuron);
        sink.one(self.rank);
        sink.one(self.score);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            method: source.text()?,
            label: source.text()?,
            concept: source.text()?,
            site: source.text()?,
            neuron: source.one()?,
            rank: source.one()?,
            score: source.one()?,
        })
    }
}
