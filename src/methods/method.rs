//! What a method is, as a row of the registry.

use super::call::MethodCall;
use super::corpus_based::class_means;
use super::rank::ScoreNeuron;
use super::ranking::Ranking;
use super::source::Source;
use crate::error::Result;

/// Where a method stands in the survey (Sajjad, Durrani & Dalvi 2022).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Looks at a neuron over a text.
    Visualization,
    /// From a neuron to what moves it.
    ConceptSearch,
    /// From a concept to its neurons.
    NeuronSearch,
    /// From what a probe of their activations tells of a concept.
    Probing,
    /// From what the model does when its neurons change.
    Causation,
    /// Knows nothing; to compare with.
    Baseline,
}

impl Family {
    /// As the survey calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Visualization => "visualization",
            Self::ConceptSearch => "corpus-based, concept search",
            Self::NeuronSearch => "corpus-based, neuron search",
            Self::Probing => "probing",
            Self::Causation => "causation-based",
            Self::Baseline => "baseline",
        }
    }
}

/// What a setting may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Takes {
    /// A number from `low` to `high`.
    Number {
        /// Smallest allowed.
        low: f64,
        /// Largest allowed.
        high: f64,
    },
    /// A whole number from `low`.
    Whole {
        /// Smallest allowed.
        low: u32,
    },
    /// `true` or `false`; the key alone means true.
    Flag,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Any words.
    Text,
    /// The name of a method that ranks.
    Ranker,
}

/// One setting of a method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Param {
    /// Its key.
    pub name: &'static str,
    /// What it may be.
    pub takes: Takes,
    /// Its value when not given.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// How a method is run.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Neuron by neuron.
    PerNeuron(ScoreNeuron),
    /// Over all neurons at once.
    Whole(fn(&MethodCall, &dyn Source) -> Result<Ranking>),
    /// Over rows that are split in train, dev and test, by a probe.
    Probing(Probing),
    /// Over questions, by changing or differentiating the model.
    Causal(Causal),
}

/// How a probing method comes to its neurons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    /// By the weights of the probes that `[[penalties]]` lists.
    Weights,
    /// By the difference of class means.
    MassMean,
    /// By a direction on which two forms of a statement get opposite answers.
    Ccs,
    /// By a heuristic, and a probe on the first of it.
    Sparse,
    /// By the best set of a size.
    OptimalSparse,
    /// Greedily, with a Gaussian of each class.
    Gaussian,
    /// Greedily, with one probe that was trained under masks.
    Latent,
    /// By the weights of a probe of two adjacent words.
    Tree,
}

/// What a causal method does to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Causal {
    /// Replaces neurons one at a time.
    Ablate,
    /// The same, and asks how many answers that costs.
    Agreement,
    /// Replaces neurons by those of a second prompt, one at a time.
    Patch,
    /// The same to first order.
    AttributionPatch,
    /// Gradient times activation.
    GradientActivation,
    /// Integrated gradients at the answer.
    Knowledge,
    /// What neurons add to a prediction by themselves.
    LogProbIncrease,
    /// A regression on all neurons together.
    DiagnosticWeights,
    /// Gates on all neurons, learned.
    Mask,
}

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// As users write it.
    pub name: &'static str,
    /// Its place in the survey.
    pub family: Family,
    /// One line.
    pub summary: &'static str,
    /// Its score of one neuron: + is the class, - the rest, g and h any class.
    pub formula: &'static str,
    /// The test behind p; empty for methods without one.
    pub test: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// Its settings.
    pub params: &'static [Param],
    /// Needs a label column; without, it is run once per corpus.
    pub needs_labels: bool,
    /// Needs the order of the values (histograms in a run), with these settings.
    pub needs_order: fn(&MethodCall) -> bool,
    /// Needs every value, not histograms: for `electrode rank` only.
    pub needs_matrix: bool,
    /// Kept rows at the ends of each neuron (`statistics.top`, `.bottom`) are read.
    pub needs_top: bool,
    /// What runs it.
    pub kind: Kind,
}

pub(super) const fn flag(
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Param {
    Param { name, takes: Takes::Flag, default, meaning }
}

pub(super) const fn share(
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Param {
    Param { name, takes: Takes::Number { low: 0.0, high: 1.0 }, default, meaning }
}

pub(super) const fn whole(
    name: &'static str,
    low: u32,
    default: &'static str,
    meaning: &'static str,
) -> Param {
    Param { name, takes: Takes::Whole { low }, default, meaning }
}

pub(super) const fn positive(
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Param {
    Param { name, takes: Takes::Number { low: 1e-6, high: 1e6 }, default, meaning }
}

pub(super) const STD: Param = flag("std", "false", "divide by the standard deviation");

/// A row with everything at its most common value.
pub(super) const PLAIN: Method = Method {
    name: "",
    family: Family::NeuronSearch,
    summary: "",
    formula: "",
    test: "",
    paper: "",
    params: &[],
    needs_labels: true,
    needs_order: |_| false,
    needs_matrix: false,
    needs_top: false,
    kind: Kind::PerNeuron(class_means::mean_difference),
};
