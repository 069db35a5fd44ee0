//! The tables of `electrode sparsity`: `sparsity.parquet`, `perplexity.parquet`, `firing.parquet` and
//! `firing_histogram.parquet`.

use super::columns::{Field, Kind, Shape, Sink};
use super::table::{Record, Source};

/// File name of the table of [`SparsityRow`].
pub const SPARSITY: &str = "sparsity.parquet";
/// File name of the table of [`PerplexityRow`].
pub const PERPLEXITY: &str = "perplexity.parquet";
/// File name of the table of [`FiringRow`].
pub const FIRING: &str = "firing.parquet";
/// File name of the table of [`FiringBinRow`].
pub const FIRING_HISTOGRAM: &str = "firing_histogram.parquet";

/// `sparsity.parquet`: how many neurons of a layer are active, by several definitions.
#[derive(Clone, Debug, PartialEq)]
pub struct SparsityRow {
    /// `firing` (|x| > threshold), `cett`, `ppl` (the largest c within the perplexity allowed, to the
    /// tolerance asked for; 0 where none is), or `curve` (every threshold that was measured).
    pub definition: String,
    /// Layer; none for all layers together.
    pub layer: Option<i32>,
    /// Share of the output that was asked for.
    pub c: Option<f64>,
    /// |x| (firing) or |x| ||v|| (others) above which a neuron is active.
    pub threshold: Option<f64>,
    /// CETT measured there.
    pub cett: Option<f64>,
    /// Share of neurons above it, over all tokens.
    pub activation_ratio: f64,
}

/// `perplexity.parquet`: the perplexity of a model whose tails are cut.
#[derive(Clone, Debug, PartialEq)]
pub struct PerplexityRow {
    /// `dense`, `cett`, `topk` or `fat_eps`.
    pub method: String,
    /// c, k or eps; none for dense.
    pub parameter: Option<f64>,
    /// Share of neurons that are not 0.
    pub activation_ratio: f64,
    /// Perplexity.
    pub perplexity: f64,
    /// Divided by that of the dense model.
    pub ratio: f64,
    /// It is at most 1 + p.
    pub within: bool,
    /// The sparsest of its method that is.
    pub best: bool,
}

/// `firing.parquet`: how often each neuron fires.
#[derive(Clone, Debug, PartialEq)]
pub struct FiringRow {
    /// Layer.
    pub layer: i32,
    /// Neuron.
    pub neuron: i32,
    /// Tokens seen.
    pub n: i64,
    /// Share of them at which |x| > eps.
    pub rate: f64,
    /// At none of them.
    pub never: bool,
    /// At all of them.
    pub always: bool,
}

/// `firing_histogram.parquet`: how many neurons fire how often.
#[derive(Clone, Debug, PartialEq)]
pub struct FiringBinRow {
    /// Layer; none for all layers together.
    pub layer: Option<i32>,
    /// Firing rates above this and
    pub low: f64,
    /// at most this. Where both are 0, neurons that never fire; where both are 1, those that always
    /// do, and only there.
    pub high: f64,
    /// Neurons.
    pub neurons: i64,
}

impl Record for SparsityRow {
    fn fields() -> Vec<Field> {
        vec![
            Field::new("definition", Kind::Text, Shape::One),
            Field::new("layer", Kind::I32, Shape::Maybe),
            Field::new("c", Kind::F64, Shape::Maybe),
            Field::new("threshold", Kind::F64, Shape::Maybe),
            Field::new("cett", Kind::F64, Shape::Maybe),
            Field::new("activation_ratio", Kind::F64, Shape::One),
        ]
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self.definition);
        sink.maybe(self.layer);
        sink.maybe(self.c);
        sink.maybe(self.threshold);
        sink.maybe(self.cett);
        sink.one(self.activation_ratio);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            definition: source.text()?,
            layer: source.maybe()?,
            c: source.maybe()?,
            threshold: source.maybe()?,
            cett: source.maybe()?,
            activation_ratio: source.one()?,
        })
    }
}

impl Record for PerplexityRow {
    fn fields() -> Vec<Field> {
        vec![
            Field::new("method", Kind::Text, Shape::One),
            Field::new("parameter", Kind::F64, Shape::Maybe),
            Field::new("activation_ratio", Kind::F64, Shape::One),
            Field::new("perplexity", Kind::F64, Shape::One),
            Field::new("ratio", Kind::F64, Shape::One),
            Field::new("within", Kind::Bool, Shape::One),
            Field::new("best", Kind::Bool, Shape::One),
        ]
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.text(self.method);
        sink.maybe(self.parameter);
        sink.one(self.activation_ratio);
        sink.one(self.perplexity);
        sink.one(self.ratio);
        sink.one(self.within);
        sink.one(self.best);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            method: source.text()?,
            parameter: source.maybe()?,
            activation_ratio: source.one()?,
            perplexity: source.one()?,
            ratio: source.one()?,
            within: source.one()?,
            best: source.one()?,
        })
    }
}

impl Record for FiringRow {
    fn fields() -> Vec<Field> {
        vec![
            Field::new("layer", Kind::I32, Shape::One),
            Field::new("neuron", Kind::I32, Shape::One),
            Field::new("n", Kind::I64, Shape::One),
            Field::new("rate", Kind::F64, Shape::One),
            Field::new("never", Kind::Bool, Shape::One),
            Field::new("always", Kind::Bool, Shape::One),
        ]
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.one(self.layer);
        sink.one(self.neuron);
        sink.one(self.n);
        sink.one(self.rate);
        sink.one(self.never);
        sink.one(self.always);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            layer: source.one()?,
            neuron: source.one()?,
            n: source.one()?,
            rate: source.one()?,
            never: source.one()?,
            always: source.one()?,
        })
    }
}

impl Record for FiringBinRow {
    fn fields() -> Vec<Field> {
        vec![
            Field::new("layer", Kind::I32, Shape::Maybe),
            Field::new("low", Kind::F64, Shape::One),
            Field::new("high", Kind::F64, Shape::One),
            Field::new("neurons", Kind::I64, Shape::One),
        ]
    }

    fn put(self, sink: &mut Sink<'_>) {
        sink.maybe(self.layer);
        sink.one(self.low);
        sink.one(self.high);
        sink.one(self.neurons);
    }

    fn get(source: &mut Source<'_>) -> std::result::Result<Self, String> {
        Ok(Self {
            layer: source.maybe()?,
            low: source.one()?,
            high: source.one()?,
            neurons: source.one()?,
        })
    }
}
