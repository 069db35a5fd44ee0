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
    optional("questions.only", Kind::TextByName, "only questions with these values at these keys"),
    optional("questions.limit", Kind::Integer(0, ANY), "only so many, evenly spread; 0 for all (0)"),
    optional(
        "questions.long_answers",
        Kind::Choice(&["refuse", "skip", "first"]),
        "answers of several tokens: end the run, leave out, or take the first token (`refuse`)",
    ),
    required("methods", Kind::Texts(1), "`NAME[:key=value,…]`, the causal ones of `electrode methods`"),
    optional("neurons.layers", Kind::Integers(0, INDEX), "layers whose neurons are asked (all)"),
    optional("neurons.add_bos", Kind::Flag, "begin each prompt with the model's BOS (`false`)"),
    optional("neurons.block", Kind::Integer(1, INDEX), "questions of a block (64)"),
    optional(
        "neurons.batch_tokens",
        Kind::Integer(1, 1 << 24),
        "tokens of a batch, copies included (4096)",
    ),
    optional("judge.sizes", Kind::Integers(1, INDEX), "sizes of the sets taken away (none)"),
    optional("judge.how", Kind::Choice(&["zero", "mean"]), "what their neurons become (`mean`)"),
    optional("judge.random", Kind::Integer(0, 100), "random sets beside each set (3)"),
    optional(
        "judge.steer",
        Kind::Numbers(-1e6, 1e6),
        "strengths at which the largest set is moved towards the other group's mean (none)",
    ),
    DEVICE_NAME,
    DEVICE_THREADS,
    DEVICE_COMMIT_SECONDS,
];
