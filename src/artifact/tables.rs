//! The four tables of a run: which column holds which field of a row.

use std::path::Path;

use super::columns::{Field, Kind, Shape, Sink};
use super::rows::{ContextRow, HistogramRow, NeuronRow, RankingRow, TopWordRow};
use super::table::{Record, Source, read_table, write_table};
use crate::error::Result;

/// File name of the table of [`NeuronRow`] in a run folder.
pub const NEURONS: &str = "neurons.parquet";
/// File name of the table of [`RankingRow`] in a run folder.
pub const RANKINGS: &str = "rankings.parquet";
/// File name of the table of [`ContextRow`] in a run folder.
pub const CONTEXTS: &str = "contexts.parquet";
/// File name of the table of [`HistogramRow`] in a run folder.
pub const HISTOGRAMS: &str = "histograms.parquet";

/// File name of the table of [`TopWordRow`] in a run folder.
pub const TOP_WORDS: &str = "topwords.parquet";

/// Writes `topwords.parquet`; returns its number of rows.
pub fn write_top_words(
    path: &Path,
    run_id: &str,
    rows: impl Iterator<Item = TopWordRow>,
) -> Result<u64> {
    write_table(path, run_id, rows)
}

/// Reads `topwords.parquet`.
pub fn read_top_words(path: &Path) -> Result<Vec<TopWordRow>> {
    read_table(path)
}

/// Writes `neurons.parquet`; returns its number of rows.
pub fn write_neurons(
    path: &Path,
    run_id: &str,
    rows: impl Iterator<Item = NeuronRow>,
) -> Result<u64> {
    write_table(path, run_id, rows)
}

/// Writes `rankings.parquet`; returns its number of rows.
pub fn write_rankings(
    path: &Path,
    run_id: &str,
    rows: impl Iterator<Item = RankingRow>,
) -> Result<u64> {
    write_table(path, run_id, rows)
}

/// Writes `contexts.parquet`; returns its number of rows.
pub fn write_contexts(
    path: &Path,
    run_id: &str,
    rows: impl Iterator<Item = ContextRow>,
) -> Result<u64> {
    write_table(path, run_id, rows)
}

/// Writes `histograms.parquet`; returns its number of rows.
pub fn write_histograms(
    path: &Path,
    run_id: &str,
    rows: impl Iterator<Item = HistogramRow>,
) -> Result<u64> {
    write_table(path, run_id, rows)
}

/// Reads `neurons.parquet`.
pub fn read_neurons(path: &Path) -> Result<Vec<NeuronRow>> {
    read_table(path)
}

/// Reads `rankings.parquet`.
pub fn read_rankings(path: &Path) -> Result<Vec<RankingRow>> {
    read_table(path)
}

/// Reads `contexts.parquet`.
pub fn read_contexts(path: &Path) -> Result<Vec<ContextRow>> {
    read_table(path)
}

/// Reads `histograms.parquet`.
pub fn read_histograms(path: &Path) -> Result<Vec<HistogramRow>> {
    read_table(path)
}

/// The columns that name a neuron, with which every table but the rankings begins.
fn neuron_fields() -> Vec<Field> {
    vec![
        Field::new("site", Kind::Text, Shape::One),
        Field::new("layer", Kind::I32, Shape::Maybe),
        Field::new("neuron", Kind::I32, Shape::One),
    ]
}

impl Record for NeuronRow {
    fn fields() -> Vec<Field> {
        let mut fields = neuron_fields();
        fields.extend([
            Field::new("n", Kind::I64, Shape::One),
            Field::new("non_finite", Kind::I64, Shape::One),
            Field::new("mean", Kind::F64, Shape::One),
            Field::new("sd", Kind::F64, Shape::One),
            Field::new("min", Kind::F32, Shape::One),
            Field::new("max", Kind::F32, Shape::One),
            Field::new("firing_rate", Kind::F64, Shape::One),
            Field::new("constant", Kind::Bool, Shape::One),
            Field::new("quantiles", Kind::F32, Shape::Many),
        ]);
        fields
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self.site);
        sink.maybe(self.layer);
        sink.one(self.neuron);
        sink.one(self.n);
        sink.one(self.non_finite);
        sink.one(self.mean);
        sink.one(self.sd);
        sink.one(self.min);
        sink.one(self.max);
        sink.one(self.firing_rate);
        sink.one(self.constant);
        sink.many(self.quantiles);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            site: source.text()?,
            layer: source.maybe()?,
            neuron: source.one()?,
            n: source.one()?,
            non_finite: source.one()?,
            mean: source.one()?,
            sd: source.one()?,
            min: source.one()?,
            max: source.one()?,
            firing_rate: source.one()?,
            constant: source.one()?,
            quantiles: source.many()?,
        })
    }
}

impl Record for TopWordRow {
    fn fields() -> Vec<Field> {
        let mut fields = vec![
            Field::new("method", Kind::Text, Shape::One),
            Field::new("label", Kind::Text, Shape::One),
        ];
        fields.extend(neuron_fields());
        fields.extend([
            Field::new("word", Kind::Text, Shape::One),
            Field::new("score", Kind::F64, Shape::One),
            Field::new("signed", Kind::F64, Shape::One),
            Field::new("n", Kind::I64, Shape::One),
        ]);
        fields
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self.method);
        sink.text(self.label);
        sink.text(self.site);
        sink.maybe(self.layer);
        sink.one(self.neuron);
        sink.text(self.word);
        sink.one(self.score);
        sink.one(self.signed);
        sink.one(self.n);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            method: source.text()?,
            label: source.text()?,
            site: source.text()?,
            layer: source.maybe()?,
            neuron: source.one()?,
            word: source.text()?,
            score: source.one()?,
            signed: source.one()?,
            n: source.one()?,
        })
    }
}

impl Record for RankingRow {
    fn fields() -> Vec<Field> {
        let mut fields = vec![
            Field::new("method", Kind::Text, Shape::One),
            Field::new("label", Kind::Text, Shape::One),
            Field::new("concept", Kind::Text, Shape::One),
        ];
        fields.extend(neuron_fields());
        fields.extend([
            Field::new("rank", Kind::I32, Shape::One),
            Field::new("score", Kind::F64, Shape::One),
            Field::new("sign", Kind::I8, Shape::One),
            Field::new("n", Kind::I64, Shape::One),
            Field::new("n_concept", Kind::I64, Shape::One),
            Field::new("p_value", Kind::F64, Shape::Maybe),
            Field::new("q_value", Kind::F64, Shape::Maybe),
        ]);
        fields
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self.method);
        sink.text(self.label);
        sink.text(self.concept);
        sink.text(self.site);
        sink.maybe(self.layer);
        sink.one(self.neuron);
        sink.one(self.rank);
        sink.one(self.score);
        sink.one(i32::from(self.sign));
        sink.one(self.n);
        sink.one(self.n_concept);
        sink.maybe(self.p_value);
        sink.maybe(self.q_value);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            method: source.text()?,
            label: source.text()?,
            concept: source.text()?,
            site: source.text()?,
            layer: source.maybe()?,
            neuron: source.one()?,
            rank: source.one()?,
            score: source.one()?,
            sign: sign(source.one()?)?,
            n: source.one()?,
            n_concept: source.one()?,
            p_value: source.maybe()?,
            q_value: source.maybe()?,
        })
    }
}

fn sign(value: i32) -> std::result::Result<i8, String> {
    match i8::try_from(value) {
        Ok(sign @ -1..=1) => Ok(sign),
        _ => Err(format!("sign {value} is none of -1, 0, 1")),
    }
}

impl Record for ContextRow {
    fn fields() -> Vec<Field> {
        let mut fields = neuron_fields();
        fields.extend([
            Field::new("side", Kind::Text, Shape::One),
            Field::new("rank", Kind::I32, Shape::One),
            Field::new("value", Kind::F32, Shape::One),
            Field::new("document", Kind::I64, Shape::One),
            Field::new("sentence", Kind::I32, Shape::One),
            Field::new("place", Kind::I64, Shape::One),
            Field::new("focus", Kind::I32, Shape::One),
            Field::new("words", Kind::Text, Shape::Many),
            Field::new("activations", Kind::F32, Shape::Many),
        ]);
        fields
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self.site);
        sink.maybe(self.layer);
        sink.one(self.neuron);
        sink.text(self.side);
        sink.one(self.rank);
        sink.one(self.value);
        sink.one(self.document);
        sink.one(self.sentence);
        sink.one(self.place);
        sink.one(self.focus);
        sink.texts(self.words);
        sink.many(self.activations);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            site: source.text()?,
            layer: source.maybe()?,
            neuron: source.one()?,
            side: source.text()?,
            rank: source.one()?,
            value: source.one()?,
            document: source.one()?,
            sentence: source.one()?,
            place: source.one()?,
            focus: source.one()?,
            words: source.texts()?,
            activations: source.many()?,
        })
    }
}

impl Record for HistogramRow {
    fn fields() -> Vec<Field> {
        let mut fields = neuron_fields();
        fields.extend([
            Field::new("label", Kind::Text, Shape::One),
            Field::new("concept", Kind::Text, Shape::One),
            Field::new("edges", Kind::F32, Shape::Many),
            Field::new("counts", Kind::I64, Shape::Many),
        ]);
        fields
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self.site);
        sink.maybe(self.layer);
        sink.one(self.neuron);
        sink.text(self.label);
        sink.text(self.concept);
        sink.many(self.edges);
        sink.many(self.counts);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            site: source.text()?,
            layer: source.maybe()?,
            neuron: source.one()?,
            label: source.text()?,
            concept: source.text()?,
            edges: source.many()?,
            counts: source.many()?,
        })
    }
}
