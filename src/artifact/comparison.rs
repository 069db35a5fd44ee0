//! The tables of `electrode compare`.

use super::record::record;

/// File name of the table of [`SourceRow`].
pub const SOURCES: &str = "sources.parquet";
/// File name of the table of [`OverlapRow`].
pub const OVERLAPS: &str = "overlaps.parquet";
/// File name of the table of [`CorrelationRow`].
pub const CORRELATIONS: &str = "correlations.parquet";
/// File name of the table of [`ProfileRow`].
pub const PROFILES: &str = "profiles.parquet";
/// File name of the table of [`LocalityRow`].
pub const LOCALITY: &str = "locality.parquet";
/// File name of the table of [`ConceptPairRow`].
pub const CONCEPTS: &str = "concepts.parquet";
/// File name of the table of [`PolysemyRow`].
pub const POLYSEMY: &str = "polysemy.parquet";
/// File name of the table of [`ProbedLayerRow`].
pub const PROBED_LAYERS: &str = "layers.parquet";

record! {
    /// `sources.parquet`: what was compared.
    pub struct SourceRow {
        /// What the other tables call it.
        pub source: String,
        /// Its folder, as it was given.
        pub folder: String,
        /// Identity of the run that wrote it.
        pub run_id: String,
        /// Its model.
        pub model: String,
        /// The model's architecture.
        pub architecture: String,
        /// The model's layers.
        pub layers: i32,
        /// Neurons of the sites that were watched.
        pub neurons: i64,
        /// Rankings found.
        pub rankings: i32,
        /// Rows of probes found, by label and site.
        pub probes: i32,
    }
}

record! {
    /// `overlaps.parquet`: how alike the tops of two rankings of one concept are.
    pub struct OverlapRow {
        /// Label column, or key of question groups.
        pub label: String,
        /// Class or group; `*` for all.
        pub concept: String,
        /// The ranked sites, joined by blanks.
        pub sites: String,
        /// Source of the first ranking.
        pub source_a: String,
        /// Method of the first ranking.
        pub method_a: String,
        /// Source of the second; `*` where it is several rankings of the first one's model.
        pub source_b: String,
        /// Method of the second; `*` for the mean over all others (AvgOverlap), `vote` for their vote
        /// (NeuronVote), `family:NAME` for the mean over the others of a family.
        pub method_b: String,
        /// Whether both are of one model: neurons of two mean the same only if one was made of the other.
        pub same_model: bool,
        /// Neurons of each.
        pub size: i32,
        /// Shared neurons over those of either (Jaccard).
        pub overlap: f64,
        /// What random rankings share.
        pub chance: f64,
    }
}

record! {
    /// `correlations.parquet`: how alike two whole rankings of one concept are.
    pub struct CorrelationRow {
        /// Label column, or key of question groups.
        pub label: String,
        /// Class or group; `*` for all.
        pub concept: String,
        /// The ranked sites, joined by blanks.
        pub sites: String,
        /// Source of the first ranking.
        pub source_a: String,
        /// Method of the first ranking.
        pub method_a: String,
        /// Source of the second ranking.
        pub source_b: String,
        /// Method of the second ranking.
        pub method_b: String,
        /// Whether both are of one model.
        pub same_model: bool,
        /// Kendall's tau-b over the neurons that both kept; none if one side is all ties.
        pub tau: Option<f64>,
        /// Rank-biased overlap, p = 0.9, of what both kept.
        pub rank_biased: f64,
    }
}

record! {
    /// `profiles.parquet`: where the top neurons of a ranking stand.
    pub struct ProfileRow {
        /// Source.
        pub source: String,
        /// Its model.
        pub model: String,
        /// Method.
        pub method: String,
        /// Label column, or key of question groups.
        pub label: String,
        /// Class or group; `*` for all.
        pub concept: String,
        /// Site.
        pub site: String,
        /// Its layer, or none for sites that exist once.
        pub layer: Option<i32>,
        /// The layer over the last one, 0 to 1.
        pub depth: Option<f64>,
        /// Neurons of the site.
        pub neurons: i32,
        /// How many of them are among the top.
        pub top: i32,
        /// That over the neurons of the site.
        pub share: f64,
        /// Lower end of the 95 % interval over the sources that rank the same with the same method.
        pub low: f64,
        /// Upper end.
        pub high: f64,
    }
}

record! {
    /// `locality.parquet`: whether few neurons carry a concept or many.
    pub struct LocalityRow {
        /// Source.
        pub source: String,
        /// Its model.
        pub model: String,
        /// Method.
        pub method: String,
        /// Label column, or key of question groups.
        pub label: String,
        /// Class or group; `*` for all.
        pub concept: String,
        /// Neurons that could be ranked.
        pub neurons: i32,
        /// The first so many stand in the table without a gap.
        pub ranked: i32,
        /// Gini coefficient of the scores; none where not all neurons were kept.
        pub gini: Option<f64>,
        /// As many neurons as an even spread would have, exp of the entropy; none as above.
        pub effective: Option<f64>,
        /// Entropy of the layers' scores over what they can have; none as above, or with one site.
        pub layer_entropy: Option<f64>,
        /// Neurons within 95 % of the best score.
        pub near_best: i32,
        /// Mean relative depth of the top neurons; none where they are not all kept.
        pub depth: Option<f64>,
    }
}

record! {
    /// `concepts.parquet`: neurons that two concepts of a label share.
    pub struct ConceptPairRow {
        /// Source.
        pub source: String,
        /// Method.
        pub method: String,
        /// The ranked sites, joined by blanks.
        pub sites: String,
        /// Label column, or key of question groups.
        pub label: String,
        /// A concept.
        pub concept_a: String,
        /// Another.
        pub concept_b: String,
        /// Neurons of each.
        pub size: i32,
        /// Shared neurons over those of either (Jaccard).
        pub overlap: f64,
        /// What random rankings share.
        pub chance: f64,
    }
}

record! {
    /// `polysemy.parquet`: how many concepts neurons have.
    pub struct PolysemyRow {
        /// Source.
        pub source: String,
        /// Method.
        pub method: String,
        /// The ranked sites, joined by blanks.
        pub sites: String,
        /// Label column, or key of question groups.
        pub label: String,
        /// Top neurons of each concept.
        pub size: i32,
        /// So many concepts.
        pub concepts: i32,
        /// Neurons that are among the top of that many.
        pub neurons: i32,
    }
}

record! {
    /// `layers.parquet`: which sites hold a label, source by source, on test rows.
    pub struct ProbedLayerRow {
        /// Label column.
        pub label: String,
        /// Source.
        pub source: String,
        /// Its model.
        pub model: String,
        /// Site; `*` for all sites side by side.
        pub site: String,
        /// Its layer, or none.
        pub layer: Option<i32>,
        /// The layer over the last one, 0 to 1.
        pub depth: Option<f64>,
        /// Rows.
        pub n: i64,
        /// Mean share answered right.
        pub accuracy: f64,
        /// Lower end of its 95 % interval.
        pub low: f64,
        /// Upper end.
        pub high: f64,
        /// Accuracy less that on control labels.
        pub selectivity: Option<f64>,
        /// Entropy less loss, bits.
        pub information: f64,
        /// Within 1 % of the best site on dev, and the first such.
        pub first: bool,
    }
}
