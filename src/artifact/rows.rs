//! The rows of the result tables: one struct per Parquet file, column for column.

/// `neurons.parquet`: one row per watched neuron.
#[derive(Clone, Debug, PartialEq)]
pub struct NeuronRow {
    /// Full site name (`layers.3.mlp_act`).
    pub site: String,
    /// Layer, or none for sites that exist once.
    pub layer: Option<i32>,
    /// Column of the site.
    pub neuron: i32,
    /// Finite values seen.
    pub n: i64,
    /// Non-finite values seen.
    pub non_finite: i64,
    /// Mean.
    pub mean: f64,
    /// Population standard deviation.
    pub sd: f64,
    /// Smallest value.
    pub min: f32,
    /// Largest value.
    pub max: f32,
    /// Share of values above 0.
    pub firing_rate: f64,
    /// Variance <= 1e-12 * max(1, mean^2).
    pub constant: bool,
    /// Quantiles 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99 at bin resolution; empty without a histogram.
    pub quantiles: Vec<f32>,
}

/// `rankings.parquet`: one row per (method, label column, concept, neuron), best first.
#[derive(Clone, Debug, PartialEq)]
pub struct RankingRow {
    /// Method with its settings, as written in the run file.
    pub method: String,
    /// Label column (`upos`).
    pub label: String,
    /// Class of that column; `*` for the column as a whole.
    pub concept: String,
    /// Full site name.
    pub site: String,
    /// Layer, or none for sites that exist once.
    pub layer: Option<i32>,
    /// Column of the site.
    pub neuron: i32,
    /// From 1, over all watched neurons.
    pub rank: i32,
    /// Importance: higher is better, comparable within one ranking only.
    pub score: f64,
    /// +1 fires more with the concept, -1 less, 0 unsigned.
    pub sign: i8,
    /// Labelled rows.
    pub n: i64,
    /// Rows of the concept.
    pub n_concept: i64,
    /// Probability of a score this far out if the neuron knew nothing of the concept.
    pub p_value: Option<f64>,
    /// Benjamini-Hochberg over all neurons of the ranking.
    pub q_value: Option<f64>,
}

/// `topwords.parquet`: word types that move a neuron (`topword`), for neurons with a page.
#[derive(Clone, Debug, PartialEq)]
pub struct TopWordRow {
    /// Method with its settings, as written in the run file.
    pub method: String,
    /// Label column whose classes are the words.
    pub label: String,
    /// Full site name.
    pub site: String,
    /// Layer, or none for sites that exist once.
    pub layer: Option<i32>,
    /// Column of the site.
    pub neuron: i32,
    /// The word.
    pub word: String,
    /// Mean |z| of its occurrences, divided by the neuron's largest such mean.
    pub score: f64,
    /// Mean z of its occurrences.
    pub signed: f64,
    /// Occurrences that were seen.
    pub n: i64,
}

/// `contexts.parquet`: where a neuron is most (or least) active.
#[derive(Clone, Debug, PartialEq)]
pub struct ContextRow {
    /// Full site name.
    pub site: String,
    /// Layer, or none for sites that exist once.
    pub layer: Option<i32>,
    /// Column of the site.
    pub neuron: i32,
    /// `top` or `bottom`.
    pub side: String,
    /// From 1.
    pub rank: i32,
    /// The activation there.
    pub value: f32,
    /// Document number in the corpus, from 0.
    pub document: i64,
    /// Sentence number in the document, from 0.
    pub sentence: i32,
    /// Row number in the document, from 0.
    pub place: i64,
    /// Index into `words` of the word that fired.
    pub focus: i32,
    /// The window around it.
    pub words: Vec<String>,
    /// The neuron's activation on each of `words`; empty for neurons that were not traced.
    pub activations: Vec<f32>,
}

/// `histograms.parquet`: distribution of a ranked neuron, by class.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramRow {
    /// Full site name.
    pub site: String,
    /// Layer, or none for sites that exist once.
    pub layer: Option<i32>,
    /// Column of the site.
    pub neuron: i32,
    /// Label column; empty for all rows.
    pub label: String,
    /// Class; `*` for all rows.
    pub concept: String,
    /// Ascending bin borders, one more than `counts`: min, inner edges, max.
    pub edges: Vec<f32>,
    /// Rows per bin.
    pub counts: Vec<i64>,
}
