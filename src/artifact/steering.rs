//! `steer.parquet`: what texts are like when neurons are steered.

use std::path::Path;

use super::columns::{Field, Kind, Shape, Sink};
use super::table::{Record, Source, read_table, write_table};
use crate::error::Result;

/// File name of the table of [`SteerRow`].
pub const STEER: &str = "steer.parquet";

/// `steer.parquet`: one row per (arm, list of words).
#[derive(Clone, Debug, PartialEq)]
pub struct SteerRow {
    /// Method whose ranking chose the neurons, as the run wrote it.
    pub method: String,
    /// Label column of the ranking.
    pub label: String,
    /// Class of that column.
    pub concept: String,
    /// `top`, `random`, or empty for the untouched model.
    pub order: String,
    /// `set`, `scale`, `add`, `translate`, or empty.
    pub act: String,
    /// Draw of random neurons, from 0.
    pub draw: i32,
    /// Neurons that are steered.
    pub size: i32,
    /// How strongly.
    pub strength: f64,
    /// Name of the list of words that were looked for.
    pub words: String,
    /// Continuations.
    pub n: i64,
    /// Tokens of all of them.
    pub tokens: i64,
    /// Share of the continuations that hold one of the words.
    pub presence: f64,
    /// Its standard error, sqrt(p (1 - p) / n).
    pub presence_error: f64,
    /// Perplexity of the texts under the model as it was steered.
    pub perplexity: f64,
    /// And under the untouched model.
    pub judge_perplexity: f64,
    /// Different tokens over all tokens.
    pub distinct_1: f64,
    /// Different pairs of tokens over all pairs.
    pub distinct_2: f64,
}

/// Writes `steer.parquet`; returns its number of rows.
pub fn write_steering(
    path: &Path,
    run_id: &str,
    rows: impl Iterator<Item = SteerRow>,
) -> Result<u64> {
    write_table(path, run_id, rows)
}

/// Reads `steer.parquet`.
pub fn read_steering(path: &Path) -> Result<Vec<SteerRow>> {
    read_table(path)
}

impl Record for SteerRow {
    fn fields() -> Vec<Field> {
        vec![
            Field::new("method", Kind::Text, Shape::One),
            Field::new("label", Kind::Text, Shape::One),
            Field::new("concept", Kind::Text, Shape::One),
            Field::new("order", Kind::Text, Shape::One),
            Field::new("act", Kind::Text, Shape::One),
            Field::new("draw", Kind::I32, Shape::One),
            Field::new("size", Kind::I32, Shape::One),
            Field::new("strength", Kind::F64, Shape::One),
            Field::new("words", Kind::Text, Shape::One),
            Field::new("n", Kind::I64, Shape::One),
            Field::new("tokens", Kind::I64, Shape::One),
            Field::new("presence", Kind::F64, Shape::One),
            Field::new("presence_error", Kind::F64, Shape::One),
            Field::new("perplexity", Kind::F64, Shape::One),
            Field::new("judge_perplexity", Kind::F64, Shape::One),
            Field::new("distinct_1", Kind::F64, Shape::One),
            Field::new("distinct_2", Kind::F64, Shape::One),
        ]
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self.method);
        sink.text(self.label);
        sink.text(self.concept);
        sink.text(self.order);
        sink.text(self.act);
        sink.one(self.draw);
        sink.one(self.size);
        sink.one(self.strength);
        sink.text(self.words);
        sink.one(self.n);
        sink.one(self.tokens);
        sink.one(self.presence);
        sink.one(self.presence_error);
        sink.one(self.perplexity);
        sink.one(self.judge_perplexity);
        sink.one(self.distinct_1);
        sink.one(self.distinct_2);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            method: source.text()?,
            label: source.text()?,
            concept: source.text()?,
            order: source.text()?,
            act: source.text()?,
            draw: source.one()?,
            size: source.one()?,
            strength: source.one()?,
            words: source.text()?,
            n: source.one()?,
            tokens: source.one()?,
            presence: source.one()?,
            presence_error: source.one()?,
            perplexity: source.one()?,
            judge_perplexity: source.one()?,
            distinct_1: source.one()?,
            distinct_2: source.one()?,
        })
    }
}
