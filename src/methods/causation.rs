//! The table of causal methods. What they do to a model stands in `stimulate/`; here is what they are
//! called, what they take and where they come from.

use super::method::{Causal, Family, Kind, Method, PLAIN, Param, Takes, positive, share, whole};

/// What is measured of an answer, where a gradient is needed.
const METRIC: Param = Param {
    name: "metric",
    takes: Takes::OneOf(&["logit_difference", "log_prob", "prob", "loss", "probe"]),
    default: "logit_difference",
    meaning: "what is measured of an answer; logit_difference needs wrong answers, probe a [metric]",
};

/// The same, and what has no gradient.
const VALUE: Param = Param {
    takes: Takes::OneOf(&[
        "logit_difference",
        "log_prob",
        "prob",
        "loss",
        "accuracy",
        "kl",
        "cosine",
        "probe",
    ]),
    meaning: "what is measured of an answer; kl and cosine: how far it is from the untouched model's; \
              probe needs a [metric]",
    ..METRIC
};

const HOW: Param = Param {
    name: "how",
    takes: Takes::OneOf(&["zero", "mean", "resample"]),
    default: "zero",
    meaning: "what the neuron becomes: 0, its mean, or its value at another token",
};

const SEED: Param = whole("seed", 0, "0", "of resample");

const PLACE: Param = Param {
    name: "where",
    takes: Takes::OneOf(&["everywhere", "answer"]),
    default: "everywhere",
    meaning: "at every token, or only where the model answers",
};

/// Which neurons are replaced one by one.
const TOP: Param = whole(
    "top",
    0,
    "0",
    "only so many of the largest effects to first order (its own gradient), 0 for all neurons",
);

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
        params: &[HOW, PLACE, VALUE, SEED, TOP],
        kind: Kind::Causal(Causal::Ablate),
        ..CAUSAL
    },
    Method {
        name: "lakretz",
        summary: "units whose ablation alone costs the model its agreement",
        formula: "share of questions answered right, less the share without the neuron; set: above t",
        paper: "Lakretz et al. 2019, arXiv 1903.07435",
        params: &[HOW, PLACE, share("t", "0.1", "of the questions lost, to be in the set"), SEED],
        kind: Kind::Causal(Causal::Agreement),
        ..CAUSAL
    },
    Method {
        name: "patch",
        summary: "what the neuron carries from a counterfactual prompt",
        formula: "natural indirect effect |m(x with x_n := x_n of the other prompt) - m(x)|",
        paper: "Vig et al. 2020, arXiv 2004.12265",
        params: &[
            PLACE,
            VALUE,
            TOP,
            share(
                "share",
                "0.95",
                "of the other prompt's whole effect, which the first neurons patched together must \
                 recover; 0: not asked (nor for kl and cosine)",
            ),
        ],
        kind: Kind::Causal(Causal::Patch),
        ..CAUSAL
    },
    Method {
        name: "attrpatch",
        summary: "patch to first order, all neurons at once",
        formula: "|Σ_t (x_n of the other prompt - x_n) dm/dx_n|, at the clean prompt",
        paper: "Nanda 2023, Attribution patching; steps: Hanna et al. 2024, arXiv 2403.17806",
        params: &[
            METRIC,
            whole("steps", 1, "1", "inputs between counterfactual and clean to average over"),
        ],
        kind: Kind::Causal(Causal::AttributionPatch),
        ..CAUSAL
    },
    Method {
        name: "gradact",
        summary: "gradient times activation: the drop to first order if the neuron were 0",
        formula: "mean over questions of |s|, s = Σ_t x_n dm/dx_n; signed, |mean of s|; magnitude, mean \
                  of |x_n dm/dx_n| over tokens; fisher, mean of s²",
        paper: "Leng & Xiong 2024, arXiv 2407.06488; fisher: Molchanov et al. 2017, arXiv 1611.06440",
        params: &[
            METRIC,
            Param {
                name: "mode",
                takes: Takes::OneOf(&["abs", "signed", "magnitude", "fisher"]),
                default: "abs",
                meaning: "what is made of the products, see the formula",
            },
            PLACE,
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
    Method {
        name: "diag-weights",
        summary: "syntax units: weights of a number of the prompt regressed on all neurons together",
        formula: "|w_n|, w the ridge regression of questions.quantity on the standardised neurons at \
                  the answering token, questions.covariates accounted for; set: w > mean ± sd times",
        test: "",
        paper: "Lakretz et al. 2019, arXiv 1903.07435",
        params: &[positive("sd", "3", "standard deviations of the weights, to be in the set")],
        kind: Kind::Causal(Causal::DiagnosticWeights),
        ..CAUSAL
    },
    Method {
        name: "logprob-inc",
        summary: "what the neuron adds to the prediction by itself, read at its own layer",
        formula: "log p(w | r + x_n v_n) - log p(w | r), r the stream before the MLP, v_n the neuron's \
                  column; the final norm at its last scale, without bias",
        paper: "Yu & Ananiadou 2024, arXiv 2312.12141",
        params: &[whole(
            "exact",
            0,
            "256",
            "neurons of each question and layer; the others to first order",
        )],
        kind: Kind::Causal(Causal::LogProbIncrease),
        ..CAUSAL
    },
    Method {
        name: "diffmask",
        summary: "the fewest neurons that suffice, or that turn the answer, by gates learned together",
        formula: "min Σ_n P(z_n ≠ 0) s.t. KL(p || p̃) <= eps (keep), or logit(right) - logit(wrong) <= \
                  -margin (flip); x̃ = z x + (1 - z) b, z hard concrete; score P(z_n ≠ 0)",
        paper: "De Cao et al. 2020, arXiv 2004.14992; 2022, arXiv 2104.08646",
        test: "",
        params: &[
            Param {
                name: "mode",
                takes: Takes::OneOf(&["keep", "flip"]),
                default: "keep",
                meaning: "the smallest set with which alone answers stay, or without which they turn",
            },
            Param {
                name: "towards",
                takes: Takes::OneOf(&["mean", "zero", "learn"]),
                default: "mean",
                meaning: "what gated neurons become: their means, 0, or values learned with the gates",
            },
            positive("eps", "0.1", "how far answers may miss, mean over questions"),
            Param {
                name: "margin",
                takes: Takes::Number { low: 0.0, high: 1e6 },
                default: "0",
                meaning: "flip: by how much the wrong answer must win",
            },
            whole("steps", 1, "300", "of the search, each over all questions"),
            positive("rate", "0.05", "of the gates' logits (Adam)"),
            PLACE,
            whole("seed", 0, "0", "of the draws"),
        ],
        kind: Kind::Causal(Causal::Mask),
        ..CAUSAL
    },
];
