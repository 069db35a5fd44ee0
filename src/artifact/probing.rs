//! The tables of `electrode probe`.

use super::record::record;

/// File name of the table of [`ProbeRow`].
pub const PROBES: &str = "probes.parquet";
/// File name of the table of [`ClassRow`].
pub const CLASSES: &str = "classes.parquet";
/// File name of the table of [`LayerRow`].
pub const LAYERS: &str = "layers.parquet";
/// File name of the table of [`SubsetRow`].
pub const SUBSETS: &str = "subsets.parquet";
/// File name of the table of [`SmallestRow`].
pub const SMALLEST: &str = "smallest.parquet";
/// File name of the table of [`CodeRow`].
pub const CODES: &str = "codes.parquet";
/// File name of the table of [`AgreementRow`].
pub const AGREEMENT: &str = "agreement.parquet";
/// File name of the table of [`SpreadRow`].
pub const SPREAD: &str = "spread.parquet";
/// File name of the table of [`MethodRow`].
pub const METHODS: &str = "methods.parquet";
/// File name of the table of [`SelectionRow`].
pub const SELECTION: &str = "selection.parquet";
/// Weights of the chosen probes, and the scales of their inputs.
pub const WEIGHTS: &str = "probes.safetensors";

record! {
    /// `probes.parquet`: one row per (probe, part of the data).
    pub struct ProbeRow {
        /// Full site name; `*` for all sites side by side.
        pub site: String,
        /// Layer, or none for sites that exist once.
        pub layer: Option<i32>,
        /// Label column.
        pub label: String,
        /// Trained on control labels: a class drawn for each word type.
        pub control: bool,
        /// Weight of the sum of magnitudes.
        pub l1: f64,
        /// Weight of the squared norm (of the norm, with objective `neurox`).
        pub l2: f64,
        /// Of its first weights, the order of its rows and its control labels.
        pub seed: i64,
        /// `train`, `dev` or `test`.
        pub part: String,
        /// Rows.
        pub n: i64,
        /// Share answered right; 0 where the label is a number.
        pub accuracy: f64,
        /// Mean loss, bits; the mean squared error where the label is a number.
        pub loss: f64,
        /// Entropy of the labels in this part, bits.
        pub entropy: f64,
        /// Entropy less loss, bits: a lower bound of what the site tells of the label; 0 for
        /// numbers.
        pub information: f64,
        /// Share answered right by the most frequent class of the training rows.
        pub majority: f64,
        /// Share answered right by the most frequent class of each word type.
        pub type_majority: Option<f64>,
        /// Accuracy less that of the same probe on control labels.
        pub selectivity: Option<f64>,
        /// Passes over the training rows.
        pub passes: i32,
        /// How far from the optimum: generalised gradient against that at 0; none for Adam.
        pub residual: Option<f64>,
        /// This penalty did best on dev, by its mean over seeds.
        pub chosen: bool,
    }
}

record! {
    /// `classes.parquet`: chosen probes class by class, all seeds together.
    pub struct ClassRow {
        /// Full site name; `*` for all sites side by side.
        pub site: String,
        /// Layer, or none.
        pub layer: Option<i32>,
        /// Label column.
        pub label: String,
        /// The class.
        pub concept: String,
        /// `train`, `dev` or `test`.
        pub part: String,
        /// Rows of the class, over all seeds.
        pub n: i64,
        /// Answered right.
        pub right: i64,
        /// Rows that were said to be of this class.
        pub said: i64,
        /// Harmonic mean of right / n and right / said.
        pub f1: f64,
    }
}

record! {
    /// `layers.parquet`: which sites hold a label: chosen probes over their seeds.
    pub struct LayerRow {
        /// Full site name; `*` for all sites side by side.
        pub site: String,
        /// Layer, or none.
        pub layer: Option<i32>,
        /// Label column.
        pub label: String,
        /// `dev` or `test`.
        pub part: String,
        /// Seeds.
        pub seeds: i32,
        /// Rows.
        pub n: i64,
        /// Mean share answered right.
        pub accuracy: f64,
        /// Lower end of its 95 % interval: rows and seeds vary.
        pub low: f64,
        /// Upper end.
        pub high: f64,
        /// Mean share answered right on control labels.
        pub control: Option<f64>,
        /// Accuracy less that.
        pub selectivity: Option<f64>,
        /// Lower end of its 95 % interval.
        pub selectivity_low: Option<f64>,
        /// Upper end.
        pub selectivity_high: Option<f64>,
        /// Mean of entropy less loss, bits.
        pub information: f64,
        /// That over the entropy of the labels.
        pub information_share: f64,
        /// Share answered right by the most frequent class.
        pub majority: f64,
        /// Weight of the sum of magnitudes that was chosen on dev.
        pub l1: f64,
        /// Weight of the squared norm that was chosen on dev.
        pub l2: f64,
        /// Within 1 % of the best site on dev, and the first such.
        pub first: bool,
    }
}

record! {
    /// `subsets.parquet`: probes that read some neurons only.
    pub struct SubsetRow {
        /// Full site name; `*` for all sites side by side.
        pub site: String,
        /// Layer, or none.
        pub layer: Option<i32>,
        /// Label column.
        pub label: String,
        /// Method whose ranking chose the neurons.
        pub method: String,
        /// `top`, `bottom` or `random`.
        pub order: String,
        /// Draw of a random order, from 0.
        pub draw: i32,
        /// `retrain`: a new probe on the neurons; `keep`: the probe of all, others at 0; `remove`: these at 0.
        pub how: String,
        /// Neurons.
        pub size: i32,
        /// `dev` or `test`.
        pub part: String,
        /// Rows.
        pub n: i64,
        /// Share answered right.
        pub accuracy: f64,
        /// Its standard error over rows.
        pub error: f64,
        /// Entropy less loss, bits.
        pub information: f64,
        /// Accuracy on control labels of a probe retrained on the same neurons.
        pub control: Option<f64>,
    }
}

record! {
    /// `methods.parquet`: what methods with probes of their own did with some neurons.
    pub struct MethodRow {
        /// Full site name; `*` for all sites side by side.
        pub site: String,
        /// Layer, or none.
        pub layer: Option<i32>,
        /// Label column.
        pub label: String,
        /// Class, against all others; `*` for all classes with one probe.
        pub concept: String,
        /// Method with its settings.
        pub method: String,
        /// `dev` or `test`.
        pub part: String,
        /// Neurons that the probe reads.
        pub size: i32,
        /// Rows; pairs for `ccs`.
        pub n: i64,
        /// Share answered right.
        pub accuracy: f64,
        /// Harmonic mean of precision and recall, for two classes.
        pub f1: Option<f64>,
        /// Matthews' correlation, for two classes.
        pub mcc: Option<f64>,
        /// Average precision of the scores, for two classes.
        pub pr_auc: Option<f64>,
        /// Area under the ROC curve, for two classes.
        pub roc_auc: Option<f64>,
        /// Entropy less loss, bits, where the method gives probabilities.
        pub information: Option<f64>,
        /// Expected calibration error of `ccs`.
        pub ece: Option<f64>,
        /// Accuracy of `ccs` with the better of both signs.
        pub either_way: Option<f64>,
        /// The neurons, best first, as `layers.3.mlp_act.17`; none where it reads a whole site.
        pub neurons: Vec<String>,
        /// `chosen`: best on dev; `heuristic`: not proved optimal; `calibrated`: answers scaled on dev labels.
        pub flags: Vec<String>,
    }
}

record! {
    /// `smallest.parquet`: how few neurons suffice.
    pub struct SmallestRow {
        /// Full site name; `*` for all sites side by side.
        pub site: String,
        /// Layer, or none.
        pub layer: Option<i32>,
        /// Label column.
        pub label: String,
        /// Method whose ranking chose the neurons.
        pub method: String,
        /// What may be lost of the dev accuracy of all neurons.
        pub delta: f64,
        /// Smallest size tried whose dev accuracy is no less than that; none if none is.
        pub size: Option<i32>,
        /// That over the neurons there are.
        pub share: Option<f64>,
        /// Dev accuracy with them.
        pub dev: Option<f64>,
        /// Test accuracy with them.
        pub test: Option<f64>,
        /// Dev accuracy of all neurons.
        pub dev_all: f64,
        /// Test accuracy of all neurons.
        pub test_all: Option<f64>,
        /// Area between the accuracies of top and bottom over the share of neurons.
        pub area: Option<f64>,
    }
}

record! {
    /// `codes.parquet`: online code length of the labels (Voita & Titov 2020).
    pub struct CodeRow {
        /// Full site name; `*` for all sites side by side.
        pub site: String,
        /// Layer, or none.
        pub layer: Option<i32>,
        /// Label column.
        pub label: String,
        /// Of control labels.
        pub control: bool,
        /// Of the order of the rows.
        pub seed: i64,
        /// Training rows.
        pub n: i64,
        /// Bits of a uniform code.
        pub uniform: f64,
        /// Bits of the online code.
        pub online: f64,
        /// Uniform over online.
        pub compression: f64,
        /// Rows after which each probe was trained.
        pub portions: Vec<i64>,
        /// Mean loss on the block after it, bits.
        pub losses: Vec<f64>,
    }
}

record! {
    /// `agreement.parquet`: how alike two rankings of a concept are.
    pub struct AgreementRow {
        /// Full site name; `*` for all sites side by side.
        pub site: String,
        /// Layer, or none.
        pub layer: Option<i32>,
        /// Label column.
        pub label: String,
        /// Class; `*` for the column as a whole.
        pub concept: String,
        /// A method.
        pub method: String,
        /// Another method; `*` for the mean over all others (AvgOverlap), `vote` for theirs (NeuronVote).
        pub other: String,
        /// Neurons of each.
        pub size: i32,
        /// Shared neurons over those of either (Jaccard).
        pub overlap: f64,
        /// What random rankings share.
        pub chance: f64,
    }
}

record! {
    /// `spread.parquet`: how a ranking's importance is spread over neurons and layers.
    pub struct SpreadRow {
        /// Full site name; `*` for all sites side by side.
        pub site: String,
        /// Layer, or none.
        pub layer: Option<i32>,
        /// Label column.
        pub label: String,
        /// Class; `*` for the column as a whole.
        pub concept: String,
        /// Method.
        pub method: String,
        /// Gini coefficient of the scores: 0 evenly spread, 1 in one neuron.
        pub gini: f64,
        /// exp of the entropy of the scores' shares: as many neurons as an even spread would have.
        pub effective: f64,
        /// Neurons that hold half of the scores.
        pub half: i32,
        /// Mean overlap of the top 50 (of all with fewer) over pairs of seeds (Jaccard).
        pub stability: Option<f64>,
    }
}

record! {
    /// `selection.parquet`: the fewest features of all sites that do (`feat-select`), step by step.
    pub struct SelectionRow {
        /// Label column.
        pub label: String,
        /// What the first sites may lose of the dev accuracy of all.
        pub layer_delta: f64,
        /// Distance 1 - |r| at which neurons were clustered; 0 for not at all.
        pub cluster: f64,
        /// What the selected neurons may lose of the dev accuracy of the representatives.
        pub delta: f64,
        /// Neurons of all sites.
        pub neurons: i32,
        /// Dev accuracy of all of them.
        pub dev: f64,
        /// Test accuracy of all of them.
        pub test: Option<f64>,
        /// First sites that do.
        pub sites: i32,
        /// The last of these.
        pub last_site: String,
        /// Their neurons.
        pub of_sites: i32,
        /// Dev accuracy with them.
        pub dev_of_sites: f64,
        /// Test accuracy with them.
        pub test_of_sites: Option<f64>,
        /// Neurons that speak for a cluster of those.
        pub representatives: i32,
        /// Dev accuracy with them.
        pub dev_of_representatives: f64,
        /// Test accuracy with them.
        pub test_of_representatives: Option<f64>,
        /// Neurons that were selected.
        pub selected: i32,
        /// That over all neurons.
        pub share: f64,
        /// Dev accuracy with them.
        pub dev_of_selected: f64,
        /// Test accuracy with them.
        pub test_of_selected: Option<f64>,
        /// They, most important first, as `layers.3.resid_post.17`.
        pub members: Vec<String>,
    }
}
