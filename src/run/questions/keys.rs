//! Every key of an experiment file, as data.

use crate::config::keys::{
    ANY, DEVICE_COMMIT_SECONDS, DEVICE_NAME, DEVICE_THREADS, INDEX, Key, Kind, MODEL_DTYPE,
    MODEL_PATH, NAME, OUT, optional, required,
};

/// All keys, in the order of the reference.
pub const KEYS: &[Key] = &[
    NAME,
    OUT,
    MODEL_PATH,
    MODEL_DTYPE,
    required("questions.files", Kind::Texts(1), "JSON Lines, one question a line"),
    optional("questions.prompt", Kind::Text, "key of the prompt (`prompt`); `___` is a blank"),
    optional("questions.answer", Kind::Text, "key of the right answer (`answer`)"),
    optional("questions.wrong", Kind::Text, "key of the wrong answer, for methods that compare"),
    optional(
        "questions.counterfactual",
        Kind::Text,
        "key of a prompt of as many tokens that asks for the wrong answer",
    ),
    optional("questions.group", Kind::Text, "key by which questions are grouped"),
    optional("questions.quantity", Kind::Text, "key of a number that `diag-weights` explains"),
    optional("questions.covariates", Kind::Texts(1), "keys of numbers accounted for beside it"),
    optional("questions.only", Kind::TextByName, "only questions with these values at these keys"),
    optional("questions.limit", Kind::Integer(0, ANY), "only so many, evenly spread; 0 for all (0)"),
    optional(
        "questions.long_answers",
        Kind::Choice(&["refuse", "skip", "first"]),
        "answers of several tokens: end the run, leave out, or take the first token (`refuse`)",
    ),
    required("methods", Kind::Texts(1), "`NAME[:key=value,…]`, the causal ones of `electrode methods`"),
    optional(
        "neurons.site",
        Kind::Choice(&[
            "mlp_act", "mlp_pre", "mlp_gate", "mlp_up", "mlp_out", "head_out", "attn_out",
            "resid_pre", "resid_mid", "resid_post",
        ]),
        "of what the neurons are columns (`mlp_act`)",
    ),
    optional("neurons.layers", Kind::Integers(0, INDEX), "layers whose neurons are asked (all)"),
    optional("neurons.add_bos", Kind::Flag, "begin each prompt with the model's BOS (`false`)"),
    optional("neurons.block", Kind::Integer(1, INDEX), "questions of a block (64)"),
    optional(
        "neurons.batch_tokens",
        Kind::Integer(1, 1 << 24),
        "tokens of a batch, copies included (4096)",
    ),
    optional("judge.sizes", Kind::Integers(1, INDEX), "sizes of the sets taken away (none)"),
    optional("judge.shares", Kind::Numbers(0.0, 1.0), "the same as shares of all neurons (none)"),
    optional("judge.how", Kind::Choice(&["zero", "mean"]), "what their neurons become (`mean`)"),
    optional("judge.random", Kind::Integer(0, 100), "random sets beside each set (3)"),
    optional("judge.bottom", Kind::Flag, "the least important neurons too (`false`)"),
    optional(
        "judge.keep",
        Kind::Flag,
        "each set also kept, all others taken away: sufficiency and necessity (`false`)",
    ),
    optional(
        "judge.steer",
        Kind::Numbers(-1e6, 1e6),
        "strengths at which the largest set is moved towards the other group's mean (none)",
    ),
    optional(
        "judge.greedy",
        Kind::Integer(0, 1000),
        "steps of a greedy search among the top of each ranking (0)",
    ),
    optional("judge.candidates", Kind::Integer(1, INDEX), "so many of the top (32)"),
    optional("judge.sets", Kind::TextsByName, "sets by name, of neurons as `layers.3.mlp_act.17`"),
    required("judge.rankings[].run", Kind::Text, "folder of a run or experiment"),
    required("judge.rankings[].method", Kind::Text, "method of a ranking there, as written"),
    optional("judge.rankings[].label", Kind::Text, "its label column (the only one)"),
    optional("judge.rankings[].concept", Kind::Text, "its class or group (`*`)"),
    optional(
        "probe.align",
        Kind::Choice(&["start", "end"]),
        "probes of the group at each position, tested at the others, counted from there (none)",
    ),
    optional("probe.penalty", Kind::Number(1e-9, 1e9), "half of it times |w|² is added (1)"),
    DEVICE_NAME,
    DEVICE_THREADS,
    DEVICE_COMMIT_SECONDS,
];
