//! Every key of a run file, as data: the checker, the "did you mean", the tests and the reference
//! in the README are made from this one table.

/// One key of a run file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted path; `[]` stands for "each table of the list".
    pub path: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// A run file without it is refused.
    pub required: bool,
    /// One line for the reference.
    pub meaning: &'static str,
}

/// What the value of a key may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Text of at least one character, without control characters.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number of this range, both ends included.
    Integer(i64, i64),
    /// 0, or a whole number of this range.
    ZeroOr(i64, i64),
    /// A number of this range, both ends included.
    Number(f64, f64),
    /// `true` or `false`.
    Flag,
    /// A list of at least this many texts.
    Texts(usize),
    /// A list of whole numbers of this range.
    Integers(i64, i64),
    /// A list of numbers of this range.
    Numbers(f64, f64),
    /// A table whose values are texts.
    TextByName,
    /// A table whose values are lists of texts.
    TextsByName,
}

impl Kind {
    /// What a message says was expected.
    pub fn expected(self) -> String {
        match self {
            Self::Text => "a text in quotes".to_owned(),
            Self::Choice(words) => format!("one of \"{}\"", words.join("\", \"")),
            Self::Integer(low, high) => format!("a whole number from {low} to {high}"),
            Self::ZeroOr(low, high) => format!("0, or a whole number from {low} to {high}"),
            Self::Number(low, high) => format!("a number from {low} to {high}"),
            Self::Flag => "true or false".to_owned(),
            Self::Texts(0) => "a list of texts".to_owned(),
            Self::Texts(_) => "a list of at least one text".to_owned(),
            Self::Integers(low, high) => format!("a list of whole numbers from {low} to {high}"),
            Self::Numbers(low, high) => format!("a list of numbers from {low} to {high}"),
            Self::TextByName => "a table of texts".to_owned(),
            Self::TextsByName => "a table of lists of texts".to_owned(),
        }
    }
}

/// The largest count TOML can hold: its integers are signed.
pub const ANY: i64 = i64::MAX;
/// Tokens, rows and neurons are indexed by 32 bits.
pub const INDEX: i64 = u32::MAX as i64;

/// A key that must be there.
pub const fn required(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, required: true, meaning }
}

/// A key that may be left out.
pub const fn optional(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, required: false, meaning }
}

// Keys that every kind of file has.

/// What it is called.
pub const NAME: Key = required("name", Kind::Text, "title of the report");
/// Where results go.
pub const OUT: Key = required("out", Kind::Text, "the run folder; not part of the run's identity");
/// Which model.
pub const MODEL_PATH: Key =
    required("model.path", Kind::Text, "folder with `config.json`, or `org/name` in the Hub cache");
/// Its numbers.
pub const MODEL_DTYPE: Key =
    optional("model.dtype", Kind::Choice(&["f32", "bf16"]), "of the forward pass (`f32`)");
/// Where it runs.
pub const DEVICE_NAME: Key = optional(
    "device.name",
    Kind::Text,
    "`auto`, `cpu`, `cuda` (every GPU) or `cuda:0,2`; how many is not part of the identity",
);
/// How many threads.
pub const DEVICE_THREADS: Key =
    optional("device.threads", Kind::Integer(1, 4096), "CPU threads; not part of the identity");
/// How often states are put on disk.
pub const DEVICE_COMMIT_SECONDS: Key = optional(
    "device.commit_seconds",
    Kind::Integer(0, 86_400),
    "seconds between two states on disk, 0: after every block (20); not part of the identity",
);

/// All keys, in the order of the reference.
pub const KEYS: &[Key] = &[
    NAME,
    OUT,
    MODEL_PATH,
    MODEL_DTYPE,
    required("corpus.files", Kind::Texts(1), "files, folders and globs, read in this order"),
    optional(
        "corpus.format",
        Kind::Choice(&["text", "jsonl", "conllu", "parallel", "parquet"]),
        "told from the suffix by default",
    ),
    optional("corpus.label_files", Kind::Texts(0), "`parallel`: one label file per word file"),
    optional(
        "corpus.file_labels",
        Kind::TextsByName,
        "a class for everything in a file, one per file and column",
    ),
    optional(
        "corpus.text",
        Kind::Choice(&["words", "original"]),
        "CoNLL-U: words joined by blanks (`words`), or the text as written",
    ),
    optional("corpus.add_bos", Kind::Flag, "put the BOS id before each sequence (`false`)"),
    optional("corpus.max_tokens", Kind::Integer(1, INDEX), "longest sequence (the model's limit)"),
    optional(
        "corpus.long",
        Kind::Choice(&["split", "truncate"]),
        "what happens to longer sentences (`split`)",
    ),
    optional("corpus.block_bytes", Kind::Integer(1024, ANY), "bytes of text in a block (256 KiB)"),
    optional("corpus.max_documents", Kind::Integer(1, ANY), "stop after this many documents"),
    optional("corpus.max_bad", Kind::Number(0.0, 1.0), "share that may be unreadable (0)"),
    required("concepts[].column", Kind::Text, "a label column: `upos`, `feats.Number`, …"),
    optional("concepts[].classes", Kind::Texts(1), "only these classes (all)"),
    optional("concepts[].min_count", Kind::Integer(1, ANY), "rows a class needs to be ranked (1)"),
    optional("concepts[].most_frequent", Kind::Integer(1, INDEX), "keep the K most frequent"),
    optional(
        "concepts[].missing",
        Kind::Choice(&["exclude", "class"]),
        "rows without a value: left out, or the class `_`",
    ),
    required("capture.sites", Kind::Texts(1), "site names and globs: `layers.*.mlp_act`"),
    optional(
        "capture.pool",
        Kind::Choice(&[
            "first",
            "last",
            "mean",
            "none",
            "sentence-max",
            "sentence-mean",
            "sentence-last",
            "sentence-first",
        ]),
        "how tokens become rows (`last`)",
    ),
    optional(
        "capture.special_tokens",
        Kind::Choice(&["exclude", "include"]),
        "whether special tokens are rows; `include` with `pool = \"none\"` only",
    ),
    optional(
        "capture.first_position",
        Kind::Choice(&["auto", "exclude", "include"]),
        "whether the first position is a row (`auto`)",
    ),
    optional("statistics.bins", Kind::ZeroOr(4, 4096), "histogram bins, 0 for none (64)"),
    optional("statistics.top", Kind::Integer(0, 1000), "largest values kept per neuron (30)"),
    optional("statistics.bottom", Kind::Integer(0, 1000), "smallest values kept per neuron (0)"),
    optional("statistics.sample", Kind::Integer(0, 1 << 20), "rows of the uniform sample (256)"),
    optional(
        "statistics.calibration_rows",
        Kind::Integer(1, 1 << 20),
        "rows read beforehand for bin edges (2048)",
    ),
    optional("statistics.seed", Kind::Integer(0, ANY), "of sample and baselines (0)"),
    optional("statistics.max_nan", Kind::Number(0.0, 1.0), "share of non-finite values (0)"),
    optional(
        "statistics.batch_tokens",
        Kind::Integer(16, 1 << 20),
        "tokens per device call (2048 on the CPU; 16384 on a GPU, less where its memory is short); \
         not part of the identity",
    ),
    optional("methods", Kind::Texts(0), "`NAME[:key=value,…]`, see `electrode methods`"),
    optional(
        "output.keep",
        Kind::Integer(0, INDEX),
        "neurons kept per ranking and per site of it, 0 for all (50)",
    ),
    optional("output.pages", Kind::Integer(0, 1000), "neuron pages per concept and method (3)"),
    optional("output.window", Kind::Integer(0, 1000), "words of context on each side (16)"),
    DEVICE_NAME,
    DEVICE_THREADS,
    DEVICE_COMMIT_SECONDS,
];

/// The reference of keys as a table in Markdown, as it stands in the README.
pub fn reference(keys: &[Key]) -> String {
    let mut out = String::from("| key | value | meaning (default) |\n|---|---|---|\n");
    for key in keys {
        let meaning = if key.required {
            format!("**required**: {}", key.meaning)
        } else {
            key.meaning.to_owned()
        };
        let value = match key.kind.expected() {
            long if long.starts_with("one of") => long.replace('"', "`"),
            other => other,
        };
        out += &format!(
            "| `{}` | {} | {} |\n",
            key.path,
            value.replace(&i64::MAX.to_string(), "2^63 - 1"),
            meaning
        );
    }
    out
}
