//! The table of probing methods, which `electrode probe` runs. How is in the files beside this one; here
//! is what they are called, what they take and where they come from.

use crate::methods::method::{
    Family, Kind, Method, PLAIN, Param, Probing, Takes, flag, positive, share, whole,
};

const ROWS: Param =
    whole("rows", 2, "20000", "rows of each part that are read at most, drawn by the seed");

const SEED: Param = whole("seed", 0, "0", "of everything drawn");

const CANDIDATES: Param = whole(
    "candidates",
    0,
    "1024",
    "neurons that are tried at most, the first by difference of class means; 0 for all",
);

const BY_WEIGHTS: Method = Method {
    family: Family::Probing,
    paper: "Dalvi et al. 2019, arXiv 1812.09355",
    formula: "class g: |w_g|, mean over seeds; overall 1 - min_g of the share of g's |w| before the neuron",
    kind: Kind::Probing(Probing::Weights),
    ..PLAIN
};

const ON_ROWS: Method = Method { family: Family::Probing, ..PLAIN };

/// Every probing method.
pub const PROBING: &[Method] = &[
    Method {
        name: "lca",
        summary: "by the weights of elastic-net probes; `electrode probe` ranks so by each of \
                  [[penalties]] with l1 and l2, and `methods` need not name it",
        ..BY_WEIGHTS
    },
    Method {
        name: "lasso",
        summary: "the same, for each of [[penalties]] with l1 alone",
        paper: "Radford et al. 2017, arXiv 1704.01444; Tibshirani 1996",
        ..BY_WEIGHTS
    },
    Method {
        name: "ridge",
        summary: "the same, for each of [[penalties]] with l2 alone",
        paper: "Lakretz et al. 2019, arXiv 1903.07435; Hoerl & Kennard 1970",
        ..BY_WEIGHTS
    },
    Method {
        name: "noreg",
        summary: "the same, for each of [[penalties]] with neither",
        paper: "baseline in Sajjad et al. 2022, arXiv 2108.13138",
        ..BY_WEIGHTS
    },
    Method {
        name: "massmean",
        summary: "the direction between the means of a class and of all other rows",
        formula: "|w_n| σ_n, w = μ+ - μ-; whitened, w = S^+ (μ+ - μ-), S the covariance inside both",
        paper: "Marks & Tegmark 2023, arXiv 2310.06824",
        params: &[
            flag(
                "whiten",
                "false",
                "for rows of the distribution trained on; reads candidates only",
            ),
            CANDIDATES,
            ROWS,
            SEED,
        ],
        kind: Kind::Probing(Probing::MassMean),
        ..ON_ROWS
    },
    Method {
        name: "ccs",
        summary: "a direction on which the two forms of a statement get opposite answers, found \
                  without labels; dev labels say which end is the class",
        formula: "|w_n| σ_n, w at the least mean of (p+ - (1 - p-))² + min(p+, p-)², \
                  p = sigmoid(w.x + b)",
        paper: "Burns et al. 2022, arXiv 2212.03827; calibrated: Guo et al. 2017, arXiv 1706.04599",
        params: &[
            Param {
                name: "pair",
                takes: Takes::Text,
                default: "",
                meaning: "label column that is the same for the two forms of a statement, which must be \
                          of two classes; the first to come is the \"yes\" form",
            },
            Param {
                name: "calibrate",
                takes: Takes::OneOf(&["none", "temperature", "platt"]),
                default: "none",
                meaning: "scale answers on dev labels (ccs-cal)",
            },
            whole("epochs", 1, "1000", "steps, each over all pairs"),
            whole("restarts", 1, "10", "starts; the one that ends lowest is kept"),
            positive("rate", "0.001", "length of a step (AdamW)"),
            positive("decay", "0.01", "decay of weights, relative to the step"),
            flag("bias", "true", "a bias beside the direction"),
            ROWS,
            SEED,
        ],
        kind: Kind::Probing(Probing::Ccs),
        ..ON_ROWS
    },
    Method {
        name: "sparse",
        summary: "k-sparse probes: the first k neurons of a heuristic, for growing k",
        formula: "|μ+ - μ-| (mean_dif), F, bits, or |w| of a probe; curve: F1 of a logistic probe on the \
                  first k; telescope: how long the neuron is kept",
        paper: "Gurnee et al. 2023, arXiv 2305.01610",
        params: &[
            whole("k", 1, "16", "neurons of the largest support; sizes 1 to 8, 10, 12, 16, 32, …"),
            Param {
                name: "heuristic",
                takes: Takes::OneOf(&["mean_dif", "f_stat", "mi", "lr", "svm", "random"]),
                default: "mean_dif",
                meaning: "what neurons are ordered by, on training rows",
            },
            flag("telescope", "false", "supports shrink, each ordered anew by an elastic net"),
            flag("mono", "false", "also a probe on each of the first 30 neurons alone"),
            CANDIDATES,
            ROWS,
            SEED,
        ],
        kind: Kind::Probing(Probing::Sparse),
        ..ON_ROWS
    },
    Method {
        name: "osp",
        summary: "the k neurons on which a probe does best, of a few dozen candidates",
        formula: "|w_n| at the least of Σ c_i hinge(y_i (w.x_i + b)) + |w|² / (2 reg), |w|_0 = k, \
                  reg = 1 / sqrt(rows)",
        paper: "Bertsimas et al. 2021, arXiv 1710.01352, in Gurnee et al. 2023, arXiv 2305.01610",
        params: &[
            whole("k", 1, "3", "neurons; proved best up to 3, by exchanges beyond"),
            whole(
                "prune",
                0,
                "0",
                "rounds in which the best single neuron of the best k is taken away: good ones that keep \
                 coming are an ensemble",
            ),
            Param { default: "50", ..CANDIDATES },
            Param { default: "5000", ..ROWS },
            SEED,
        ],
        kind: Kind::Probing(Probing::OptimalSparse),
        ..ON_ROWS
    },
    Method {
        name: "tree-probe",
        summary: "a label of each word and the next, as of their lowest common ancestor, that stands on the \
                  first word; a treebank of nonce words among split.test_files shows what is lexical",
        formula: "[x_i ; x_i+1] to the label by one ridge-penalised softmax; 1 - min_g of the share of \
                  g's |w| of both words before the neuron",
        paper: "Arps et al. 2022, arXiv 2204.06201",
        params: &[
            positive("l2", "0.01", "weight of |W|²"),
            Param { default: "128", ..CANDIDATES },
            Param { default: "5000", ..ROWS },
            SEED,
        ],
        kind: Kind::Probing(Probing::Tree),
        ..ON_ROWS
    },
    Method {
        name: "gauss",
        summary: "neurons chosen one after another on dev rows, with a Gaussian of each class",
        formula: "greedy by H(V) - mean -log2 p(v | h) of the neurons so far; score 1 - place / k",
        paper: "Torroba Hennigen et al. 2020, arXiv 2010.02812",
        params: &[
            whole("k", 1, "50", "neurons that are chosen"),
            Param {
                name: "by",
                takes: Takes::OneOf(&["information", "likelihood", "accuracy"]),
                default: "information",
                meaning: "what the next neuron must make largest",
            },
            Param {
                name: "covariance",
                takes: Takes::OneOf(&["map", "mle"]),
                default: "map",
                meaning: "under a prior taken from the data, or as it is",
            },
            flag("diagonal", "false", "without covariances between neurons"),
            CANDIDATES,
            ROWS,
            SEED,
        ],
        kind: Kind::Probing(Probing::Gaussian),
        ..ON_ROWS
    },
    Method {
        name: "latent-probe",
        summary: "neurons chosen one after another on dev rows, with one probe trained under random masks",
        formula: "min E_m[CE(W (m x) + b)] - scale H(m), then greedy as gauss; score 1 - place / k",
        paper: "Stańczak et al. 2023, arXiv 2201.08214",
        params: &[
            whole("k", 1, "50", "neurons that are chosen"),
            flag("joint", "false", "one probe for all classes; else one for each against the rest"),
            Param {
                name: "sampling",
                takes: Takes::OneOf(&["poisson", "conditional"]),
                default: "poisson",
                meaning: "of masks: each neuron by itself, or a size and then a set",
            },
            whole("epochs", 1, "1000", "steps at most, each over all rows; ends 50 after the best"),
            whole("masks", 1, "5", "of a step"),
            positive("rate", "0.01", "length of a step (Adam)"),
            share("entropy", "0.01", "weight of the entropy of masks"),
            CANDIDATES,
            Param { default: "2000", ..ROWS },
            SEED,
        ],
        kind: Kind::Probing(Probing::Latent),
        ..ON_ROWS
    },
];
