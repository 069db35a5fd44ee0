//! The tables of an experiment: `effects.parquet` and `curves.parquet`.

use std::path::Path;

use super::columns::{Field, Kind, Shape, Sink};
use super::table::{Record, Source, read_table, write_table};
use crate::error::Result;

/// File name of the table of [`EffectRow`].
pub const EFFECTS: &str = "effects.parquet";
/// File name of the table of [`CurveRow`].
pub const CURVES: &str = "curves.parquet";

/// File name of the table of [`SetRow`].
pub const SETS: &str = "sets.parquet";

/// `effects.parquet`: one row per (method, group of questions, neuron), most important first.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectRow {
    /// Method with its settings, as written.
    pub method: String,
    /// Key by which questions are grouped; empty without groups.
    pub label: String,
    /// The group; `*` for all questions.
    pub concept: String,
    /// Full site name.
    pub site: String,
    /// Layer.
    pub layer: Option<i32>,
    /// Column of the site.
    pub neuron: i32,
    /// From 1, over all neurons asked.
    pub rank: i32,
    /// Importance: higher is better, comparable within one ranking only.
    pub score: f64,
    /// Mean over questions of the method's number.
    pub effect: f64,
    /// Standard error of that mean.
    pub error: f64,
    /// Questions.
    pub n: i64,
    /// Of a mean this far from 0 if the neuron did nothing (Student's t).
    pub p_value: Option<f64>,
    /// Benjamini-Hochberg over all neurons of the ranking.
    pub q_value: Option<f64>,
    /// `kn`: share of the questions whose coarse set has the neuron.
    pub share: Option<f64>,
    /// `kn`: the neuron is in the group's refined set.
    pub selected: bool,
}

/// `curves.parquet`: how questions are answered when a set of neurons is taken away or moved.
#[derive(Clone, Debug, PartialEq)]
pub struct CurveRow {
    /// Method whose ranking chose the neurons; `none` for the untouched model.
    pub method: String,
    /// `top`, `bottom`, `random`, `set`, `greedy`, or empty.
    pub order: String,
    /// `zero`, `mean`: the set is taken away; `keep-zero`, `keep-mean`: everything else; `steer`; or
    /// empty.
    pub act: String,
    /// Draw of a random order, from 0.
    pub draw: i32,
    /// Neurons of the set.
    pub size: i32,
    /// Strength of steering; 0 for ablations.
    pub strength: f64,
    /// Key by which questions are grouped; empty without groups.
    pub label: String,
    /// The group; `*` for all questions.
    pub concept: String,
    /// Questions.
    pub n: i64,
    /// Share that prefer the right answer: to the wrong one, or without one to all others.
    pub accuracy: f64,
    /// Its standard error.
    pub accuracy_error: f64,
    /// Mean log probability of the right answer, nats.
    pub log_prob: f64,
    /// Its standard error.
    pub log_prob_error: f64,
    /// Mean logit of the right less the wrong answer; 0 without wrong answers.
    pub logit_difference: f64,
    /// Its standard error.
    pub logit_difference_error: f64,
    /// Mean of what the probe of `[metric]` reads.
    pub probe: Option<f64>,
    /// Its standard error.
    pub probe_error: Option<f64>,
}

/// `sets.parquet`: what a set of neurons is worth, from the curves.
#[derive(Clone, Debug, PartialEq)]
pub struct SetRow {
    /// Method whose ranking chose the neurons, or the name of a set.
    pub method: String,
    /// `top`, `set` or `greedy`.
    pub order: String,
    /// Key by which questions are grouped; empty without groups.
    pub label: String,
    /// The group; `*` for all questions.
    pub concept: String,
    /// Neurons of the set.
    pub size: i32,
    /// 1 - accuracy without the set / accuracy of the untouched model.
    pub necessity: Option<f64>,
    /// Accuracy with the set alone / accuracy of the untouched model (`judge.keep`).
    pub sufficiency: Option<f64>,
    /// Harmonic mean of both; 0 where one is not positive.
    pub pnps: Option<f64>,
    /// Area between the curves of bottom and top up to this size, over the share of neurons taken
    /// away (`judge.bottom`).
    pub area: Option<f64>,
    /// The neurons, as `layers.3.mlp_act.17`; empty in rows of groups.
    pub neurons: Vec<String>,
}

/// File name of the table of [`TimeRow`].
pub const TIME: &str = "time.parquet";

/// `time.parquet`: a probe of the questions' group, trained at one position and tested at another.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeRow {
    /// Key by which questions are grouped.
    pub label: String,
    /// Full site name.
    pub site: String,
    /// Layer.
    pub layer: i32,
    /// Position of training.
    pub trained_at: i32,
    /// Position of testing, on other questions.
    pub tested_at: i32,
    /// Questions it was tested on.
    pub n: i64,
    /// Area under the ROC curve: 1/2 knows nothing.
    pub auc: f64,
}

/// Writes `time.parquet`; returns its number of rows.
pub fn write_time(path: &Path, run_id: &str, rows: impl Iterator<Item = TimeRow>) -> Result<u64> {
    write_table(path, run_id, rows)
}

/// Reads `time.parquet`.
pub fn read_time(path: &Path) -> Result<Vec<TimeRow>> {
    read_table(path)
}

/// Writes `sets.parquet`; returns its number of rows.
pub fn write_sets(path: &Path, run_id: &str, rows: impl Iterator<Item = SetRow>) -> Result<u64> {
    write_table(path, run_id, rows)
}

/// Reads `sets.parquet`.
pub fn read_sets(path: &Path) -> Result<Vec<SetRow>> {
    read_table(path)
}

/// Writes `effects.parquet`; returns its number of rows.
pub fn write_effects(
    path: &Path,
    run_id: &str,
    rows: impl Iterator<Item = EffectRow>,
) -> Result<u64> {
    write_table(path, run_id, rows)
}

/// Reads `effects.parquet`.
pub fn read_effects(path: &Path) -> Result<Vec<EffectRow>> {
    read_table(path)
}

/// Writes `curves.parquet`; returns its number of rows.
pub fn write_curves(
    path: &Path,
    run_id: &str,
    rows: impl Iterator<Item = CurveRow>,
) -> Result<u64> {
    write_table(path, run_id, rows)
}

/// Reads `curves.parquet`.
pub fn read_curves(path: &Path) -> Result<Vec<CurveRow>> {
    read_table(path)
}

impl Record for EffectRow {
    fn fields() -> Vec<Field> {
        vec![
            Field::new("method", Kind::Text, Shape::One),
            Field::new("label", Kind::Text, Shape::One),
            Field::new("concept", Kind::Text, Shape::One),
            Field::new("site", Kind::Text, Shape::One),
            Field::new("layer", Kind::I32, Shape::Maybe),
            Field::new("neuron", Kind::I32, Shape::One),
            Field::new("rank", Kind::I32, Shape::One),
            Field::new("score", Kind::F64, Shape::One),
            Field::new("effect", Kind::F64, Shape::One),
            Field::new("error", Kind::F64, Shape::One),
            Field::new("n", Kind::I64, Shape::One),
            Field::new("p_value", Kind::F64, Shape::Maybe),
            Field::new("q_value", Kind::F64, Shape::Maybe),
            Field::new("share", Kind::F64, Shape::Maybe),
            Field::new("selected", Kind::Bool, Shape::One),
        ]
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
        sink.one(self.effect);
        sink.one(self.error);
        sink.one(self.n);
        sink.maybe(self.p_value);
        sink.maybe(self.q_value);
        sink.maybe(self.share);
        sink.one(self.selected);
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
            effect: source.one()?,
            error: source.one()?,
            n: source.one()?,
            p_value: source.maybe()?,
            q_value: source.maybe()?,
            share: source.maybe()?,
            selected: source.one()?,
        })
    }
}

impl Record for CurveRow {
    fn fields() -> Vec<Field> {
        vec![
            Field::new("method", Kind::Text, Shape::One),
            Field::new("order", Kind::Text, Shape::One),
            Field::new("act", Kind::Text, Shape::One),
            Field::new("draw", Kind::I32, Shape::One),
            Field::new("size", Kind::I32, Shape::One),
            Field::new("strength", Kind::F64, Shape::One),
            Field::new("label", Kind::Text, Shape::One),
            Field::new("concept", Kind::Text, Shape::One),
            Field::new("n", Kind::I64, Shape::One),
            Field::new("accuracy", Kind::F64, Shape::One),
            Field::new("accuracy_error", Kind::F64, Shape::One),
            Field::new("log_prob", Kind::F64, Shape::One),
            Field::new("log_prob_error", Kind::F64, Shape::One),
            Field::new("logit_difference", Kind::F64, Shape::One),
            Field::new("logit_difference_error", Kind::F64, Shape::One),
            Field::new("probe", Kind::F64, Shape::Maybe),
            Field::new("probe_error", Kind::F64, Shape::Maybe),
        ]
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self.method);
        sink.text(self.order);
        sink.text(self.act);
        sink.one(self.draw);
        sink.one(self.size);
        sink.one(self.strength);
        sink.text(self.label);
        sink.text(self.concept);
        sink.one(self.n);
        sink.one(self.accuracy);
        sink.one(self.accuracy_error);
        sink.one(self.log_prob);
        sink.one(self.log_prob_error);
        sink.one(self.logit_difference);
        sink.one(self.logit_difference_error);
        sink.maybe(self.probe);
        sink.maybe(self.probe_error);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            method: source.text()?,
            order: source.text()?,
            act: source.text()?,
            draw: source.one()?,
            size: source.one()?,
            strength: source.one()?,
            label: source.text()?,
            concept: source.text()?,
            n: source.one()?,
            accuracy: source.one()?,
            accuracy_error: source.one()?,
            log_prob: source.one()?,
            log_prob_error: source.one()?,
            logit_difference: source.one()?,
            logit_difference_error: source.one()?,
            probe: source.maybe()?,
            probe_error: source.maybe()?,
        })
    }
}

impl Record for TimeRow {
    fn fields() -> Vec<Field> {
        vec![
            Field::new("label", Kind::Text, Shape::One),
            Field::new("site", Kind::Text, Shape::One),
            Field::new("layer", Kind::I32, Shape::One),
            Field::new("trained_at", Kind::I32, Shape::One),
            Field::new("tested_at", Kind::I32, Shape::One),
            Field::new("n", Kind::I64, Shape::One),
            Field::new("auc", Kind::F64, Shape::One),
        ]
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self.label);
        sink.text(self.site);
        sink.one(self.layer);
        sink.one(self.trained_at);
        sink.one(self.tested_at);
        sink.one(self.n);
        sink.one(self.auc);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            label: source.text()?,
            site: source.text()?,
            layer: source.one()?,
            trained_at: source.one()?,
            tested_at: source.one()?,
            n: source.one()?,
            auc: source.one()?,
        })
    }
}

impl Record for SetRow {
    fn fields() -> Vec<Field> {
        vec![
            Field::new("method", Kind::Text, Shape::One),
            Field::new("order", Kind::Text, Shape::One),
            Field::new("label", Kind::Text, Shape::One),
            Field::new("concept", Kind::Text, Shape::One),
            Field::new("size", Kind::I32, Shape::One),
            Field::new("necessity", Kind::F64, Shape::Maybe),
            Field::new("sufficiency", Kind::F64, Shape::Maybe),
            Field::new("pnps", Kind::F64, Shape::Maybe),
            Field::new("area", Kind::F64, Shape::Maybe),
            Field::new("neurons", Kind::Text, Shape::Many),
        ]
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self.method);
        sink.text(self.order);
        sink.text(self.label);
        sink.text(self.concept);
        sink.one(self.size);
        sink.maybe(self.necessity);
        sink.maybe(self.sufficiency);
        sink.maybe(self.pnps);
        sink.maybe(self.area);
        sink.texts(self.neurons);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            method: source.text()?,
            order: source.text()?,
            label: source.text()?,
            concept: source.text()?,
            size: source.one()?,
            necessity: source.maybe()?,
            sufficiency: source.maybe()?,
            pnps: source.maybe()?,
            area: source.maybe()?,
            neurons: source.texts()?,
        })
    }
}
