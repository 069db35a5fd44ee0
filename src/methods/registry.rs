//! The table of methods. The command line, the documentation and the tests are made from it.

use super::baselines;
use super::call::MethodCall;
use super::corpus_based::{
    average_precision, class_means, correlation, firing_entropy, mask_overlap, mutual_information,
    top_contexts, top_words,
};
pub use super::method::{Causal, Family, Kind, Method, Param, Probing, Takes};
use super::method::{PLAIN, STD, flag, share, whole};
use super::visualization;

/// Every method, grouped by family.
pub const METHODS: &[Method] = &[
    Method {
        name: "meandiff",
        summary: "mean with the concept minus mean without",
        formula: "|μ+ - μ-|; with std, |μ+ - μ-| / sqrt(((n+ - 1) s+² + (n- - 1) s-²) / (n - 2))",
        test: "Welch's t",
        paper: "baseline in Gurnee et al. 2023, arXiv 2305.01610",
        params: &[
            flag("std", "false", "divide by the pooled standard deviation (Cohen's d)"),
            flag("abs", "true", "rank by magnitude; false ranks the largest increase first"),
        ],
        kind: Kind::PerNeuron(class_means::mean_difference),
        ..PLAIN
    },
    Method {
        name: "probeless",
        summary: "sum of distances between class means, for each class and overall",
        formula: "Σ_h |μ_g - μ_h| of a class; overall Σ_{g<h} |μ_g - μ_h|; with std, over σ",
        test: "analysis of variance",
        paper: "Antverg & Belinkov 2022, arXiv 2110.07483",
        params: &[STD],
        kind: Kind::PerNeuron(class_means::probeless),
        ..PLAIN
    },
    Method {
        name: "selectivity",
        summary: "difference of means over the neuron's range",
        formula: "|μ+ - μ-| / (max x - min x)",
        test: "Welch's t",
        paper: "Na et al. 2019, arXiv 1902.07249",
        params: &[flag("robust", "false", "range between the 0.1 and 99.9 percentiles")],
        needs_order: |call| call.flag("robust"),
        kind: Kind::PerNeuron(class_means::selectivity),
        ..PLAIN
    },
    Method {
        name: "ccmas",
        summary: "(mean - mean of other classes) / their sum, for non-negative activations",
        formula: "(μ_g - m) / (μ_g + m), m the mean of the other classes' means; overall the largest μ_g",
        test: "Welch's t; overall analysis of variance",
        paper: "Morcos et al. 2018, arXiv 1803.06959",
        kind: Kind::PerNeuron(class_means::class_selectivity),
        ..PLAIN
    },
    Method {
        name: "ap",
        summary: "average precision of the neuron as a detector of the class",
        formula: "Σ_i (R_i - R_{i-1}) P_i over distinct thresholds from the largest x down",
        test: "Mann-Whitney, one-sided",
        paper: "Suau et al. 2020, arXiv 2005.07647",
        needs_order: |_| true,
        kind: Kind::PerNeuron(average_precision::precision),
        ..PLAIN
    },
    Method {
        name: "ap2",
        summary: "average precision in the better of two directions",
        formula: "max(AP of x, AP of -x); with complement, max(AP(y), AP(1 - y))",
        test: "Mann-Whitney, two-sided",
        paper: "Zhang et al. 2023, arXiv 2305.18390",
        params: &[flag("complement", "false", "the paper's max(AP(y), AP(1 - y)) instead of -x")],
        needs_order: |_| true,
        kind: Kind::PerNeuron(average_precision::predictivity),
        ..PLAIN
    },
    Method {
        name: "auroc",
        summary: "area under the ROC curve, ranked by its distance from 1/2",
        formula: "|AUC - 1/2|, AUC = P(x+ > x-) + P(x+ = x-) / 2",
        test: "Mann-Whitney, two-sided",
        paper: "Mann & Whitney 1947",
        needs_order: |_| true,
        kind: Kind::PerNeuron(average_precision::auroc),
        ..PLAIN
    },
    Method {
        name: "iou",
        summary: "overlap of the rows where the neuron fires with those of the class",
        formula: "|fires ∧ class| / |fires ∨ class|; precision over |fires|, recall over |class|",
        test: "hypergeometric tail; doubled with two-sided",
        paper: "Mu & Andreas 2020, arXiv 2006.14032",
        params: &[
            Param {
                name: "tau",
                takes: Takes::Number { low: f64::MIN, high: f64::MAX },
                default: "0",
                meaning: "when given, fires where x > tau instead of alpha",
            },
            share("alpha", "0.05", "fires in this share of the rows, above its quantile"),
            flag("two-sided", "false", "also try the low end, and keep the better"),
            Param {
                name: "measure",
                takes: Takes::OneOf(&["iou", "precision", "recall"]),
                default: "iou",
                meaning: "what the overlap is divided by: the union, the firings, the class",
            },
        ],
        needs_order: mask_overlap::needs_order,
        kind: Kind::PerNeuron(mask_overlap::iou),
        ..PLAIN
    },
    Method {
        name: "iou-neurox",
        summary: "what NeuroX calls IoU: average precision after |x| < 0.05 is set to 0",
        formula: "AP of x where |x| >= 0.05, else of 0",
        test: "Mann-Whitney, one-sided",
        paper: "parity with NeuroX, arXiv 2305.17073; on a matrix only",
        needs_order: |_| true,
        needs_matrix: true,
        kind: Kind::PerNeuron(average_precision::neurox),
        ..PLAIN
    },
    Method {
        name: "corr",
        summary: "correlation with the class, or with the number a class stands for",
        formula: "|r| of x and y = 1 in the class, 0 outside; overall, y the class as a number",
        test: "t with n - 2 degrees of freedom",
        paper: "Bau et al. 2019, arXiv 1811.01157",
        params: &[
            flag("spearman", "false", "of ranks instead of values"),
            flag("numeric", "false", "class names are numbers: an overall ranking with them"),
        ],
        needs_order: |call| call.flag("spearman"),
        kind: Kind::PerNeuron(correlation::correlation),
        ..PLAIN
    },
    Method {
        name: "fstat",
        summary: "F of the analysis of variance, for each class and overall",
        formula: "(SS between / (G - 1)) / (SS within / (n - G)); of a class, with G = 2",
        test: "analysis of variance",
        paper: "Fisher 1925; in Gurnee et al. 2023, arXiv 2305.01610",
        kind: Kind::PerNeuron(class_means::f_statistic),
        ..PLAIN
    },
    Method {
        name: "mi",
        summary: "mutual information with the class in bits, for each class and overall",
        formula: "max(0, I(bin; class) - (B - 1)(G - 1) / 2n)",
        test: "G with Williams' correction",
        paper: "bias by Miller & Madow 1955; in Gurnee et al. 2023, arXiv 2305.01610",
        params: &[
            whole("bins", 2, "32", "bins of equal mass"),
            flag("normalised", "false", "divide by the entropy of the label"),
        ],
        needs_order: |_| true,
        kind: Kind::PerNeuron(mutual_information::mutual_information),
        ..PLAIN
    },
    Method {
        name: "lape",
        summary: "entropy of firing over corpora: neurons of one language or domain",
        formula: "overall Σ_g q_g ln q_g, q_g = P(x > 0 | g) / Σ_h P(x > 0 | h); of a corpus q_g",
        test: "chi-square of equal firing",
        paper: "Tang et al. 2024, arXiv 2402.16438",
        params: &[
            share("filter", "0.95", "must fire more than this share of all probabilities"),
            share("share", "0.01", "share of all neurons that is selected"),
            share("bar", "0.95", "belongs to a corpus above this share of all probabilities"),
        ],
        kind: Kind::Whole(firing_entropy::lape),
        ..PLAIN
    },
    Method {
        name: "topctx",
        family: Family::ConceptSearch,
        summary: "the rows where the neuron is most active",
        formula: "the k largest of x, -x, |x| or (x - μ)/σ",
        paper: "Kadar et al. 2017, arXiv 1602.08952; Na et al. 2019, arXiv 1902.07249",
        params: &[
            whole("k", 1, "30", "rows per neuron"),
            Param {
                name: "side",
                takes: Takes::OneOf(&["top", "bottom", "abs", "z"]),
                default: "top",
                meaning: "largest x, -x, |x|, or (x - mean)/sd",
            },
        ],
        needs_labels: false,
        needs_top: true,
        kind: Kind::Whole(top_contexts::top_contexts),
        ..PLAIN
    },
    Method {
        name: "topword",
        family: Family::ConceptSearch,
        summary: "word types that move the neuron; the labels are the words",
        formula: "mean |x - μ|/σ over a word's rows, divided by the largest of all words",
        paper: "Dalvi et al. 2019, arXiv 1812.09355 (NeuroX get_top_words)",
        params: &[
            share("threshold", "0.1", "kept above this, where the best word has 1"),
            whole("min_count", 1, "1", "occurrences a word needs"),
            whole("max", 0, "20", "words per neuron; 0 for all"),
        ],
        kind: Kind::Whole(top_words::top_words),
        ..PLAIN
    },
    Method {
        name: "viz",
        family: Family::Visualization,
        summary: "centre and scale that colour the neuron over a text",
        formula: "colour clip((x - centre) / scale, -1, 1)",
        paper: "Karpathy et al. 2015, arXiv 1506.02078",
        params: &[
            Param {
                name: "percentile",
                takes: Takes::Number { low: 50.0, high: 100.0 },
                default: "99.9",
                meaning: "of |x - centre|, becomes full colour",
            },
            flag("signed", "true", "centre 0; false centres on the median"),
        ],
        needs_labels: false,
        needs_order: |_| true,
        kind: Kind::Whole(visualization::scales),
        ..PLAIN
    },
    Method {
        name: "random",
        family: Family::Baseline,
        summary: "a seeded permutation",
        formula: "uniform, a function of seed, class and neuron",
        paper: "baseline in Antverg & Belinkov 2022, arXiv 2110.07483",
        params: &[whole("seed", 0, "0", "of the permutation")],
        kind: Kind::Whole(baselines::random),
        ..PLAIN
    },
    Method {
        name: "bottom",
        family: Family::Baseline,
        summary: "another method's ranking from its end",
        formula: "minus the other method's score",
        test: "of the other method",
        paper: "baseline in Antverg & Belinkov 2022, arXiv 2110.07483",
        params: &[Param {
            name: "of",
            takes: Takes::Ranker,
            default: "probeless",
            meaning: "the method that is reversed",
        }],
        needs_order: |call| MethodCall::parse(&call.text("of")).is_ok_and(|of| of.needs_order()),
        kind: Kind::Whole(baselines::bottom),
        ..PLAIN
    },
];
