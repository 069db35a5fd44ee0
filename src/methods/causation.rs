//! The table of causal methods. What they do to a model stands in `stimulate/`; here is what they are
//! called, what they take and where they come from.

use super::method::{Causal, Family, Kind, Method, PLAIN, Param, Takes, share, whole};

/// What is measured of an answer, where a gradient is needed.
const METRIC: Param = Param {
    name: "metric",
    takes: Takes::OneOf(&["logit_difference", "log_prob", "prob", "loss"]),
    default: "logit_difference",
    meaning: "what is measured of an answer; logit_difference needs wrong answers",
};

/// The same, and what has no gradient.
const VALUE: Param = Param {
    takes: Takes::OneOf(&["logit_difference", "log_prob", "prob", "loss", "accuracy"]),
    ..METRIC
};

const PLACE: Param = Param {
    name: "where",
    takes: Takes::OneOf(&["everywhere", "answer"]),
    default: "everywhere",
    meaning: "at every token, or only where the model answers",
};

const CAUSAL: Method = Method {
    family: Family::Causation,
    needs_labels: false,
    test: "t of the mean over questions",
    ..PLAIN
};

/// Every causal method.
pub const CAUSATION: &[Method] = &[
    Method {
        name: "ablate",
        summary: "what the answer loses when the neuron is replaced, one neuron at a time",
        formula: "m(x) - m(x̃) (loss: the other way round), x̃_n = 0, its mean, or its value elsewhere",
        paper: "Bau et al. 2019, arXiv 1811.01157; Lakretz et al. 2019, arXiv 1903.07435",
        params: &[
            Param {
                name: "how",
                takes: Takes::OneOf(&["zero", "mean", "resample"]),
                default: "zero",
                meaning: "what the neuron becomes: 0, its mean, or its value at another token",
            },
            PLACE,
            VALUE,
            whole("seed", 0, "0", "of resample"),
        ],
        kind: Kind::Causal(Causal::Ablate),
        ..CAUSAL
    },
    Method {
        name: "patch",
        summary: "what the neuron carries from a counterfactual prompt",
        formula: "natural indirect effect |m(x with x_n := x_n of the other prompt) - m(x)|",
        paper: "Vig et al. 2020, arXiv 2004.12265",
        params: &[PLACE, VALUE],
        kind: Kind::Causal(Causal::Patch),
        ..CAUSAL
    },
    Method {
        name: "attrpatch",
        summary: "patch to first order, all neurons at once",
        formula: "|Σ_t (x_n of the other prompt - x_n) dm/dx_n|, at the clean prompt",
        paper: "Nanda 2023, Attribution patching",
        params: &[METRIC],
        kind: Kind::Causal(Causal::AttributionPatch),
        ..CAUSAL
    },
    Method {
        name: "gradact",
        summary: "gradient times activation: the drop to first order if the neuron were 0",
        formula: "mean over questions of |Σ_t x_n dm/dx_n|; signed, |mean of the sum|",
        paper: "Leng & Xiong 2024, arXiv 2407.06488",
        params: &[
            METRIC,
            Param {
                name: "mode",
                takes: Takes::OneOf(&["abs", "signed"]),
                default: "abs",
                meaning: "magnitude of each question's sum, or the sum itself",
            },
        ],
        kind: Kind::Causal(Causal::GradientActivation),
        ..CAUSAL
    },
    Method {
        name: "kn",
        summary: "knowledge neurons: integrated gradients at the answer, layer by layer",
        formula: "w_n (1/m) Σ_k dP(y | α_k w)/dw_n; sets: >= t max of all layers, in >= p of a group",
        paper: "Dai et al. 2022, arXiv 2104.08696",
        params: &[
            whole("steps", 1, "20", "points m of the path"),
            Param {
                name: "rule",
                takes: Takes::OneOf(&["midpoint", "right", "left", "ends"]),
                default: "midpoint",
                meaning: "of the sum: the paper's is right, its code's left, EleutherAI's ends",
            },
            Param { default: "prob", ..METRIC },
            share("t", "0.2", "of the question's largest attribution, to be in its coarse set"),
            share("p", "0.7", "of a group's questions, at least 3, to be in its refined set"),
        ],
        kind: Kind::Causal(Causal::Knowledge),
        ..CAUSAL
    },
];
