//! Every key of a run file with values that are right and wrong, written by hand.

/// One key: its dotted path, a value, another value that differs in meaning, and wrong ones; all
/// as TOML. `[]` in a path means the first table of a list.
pub(super) struct Row {
    pub(super) path: &'static str,
    pub(super) good: &'static str,
    pub(super) other: &'static str,
    pub(super) bad: &'static [&'static str],
    pub(super) required: bool,
}

const TEXT: &[&str] = &["\"\"", "1", "true", "[\"a\"]", "{}", "\"a\\nb\"", "2024-01-01"];
const WORD: &[&str] = &["\"nonsense\"", "\"\"", "1", "true", "[]", "{}"];
const FLAG: &[&str] = &["\"true\"", "0", "1", "[]"];
const TEXTS: &[&str] = &["\"a\"", "1", "[1]", "[\"\"]", "[[\"a\"]]", "{}", "true"];
const SOME_TEXTS: &[&str] = &["\"a\"", "1", "[1]", "[\"\"]", "[[\"a\"]]", "{}", "[]"];
const SHARE: &[&str] = &["-0.1", "1.1", "2", "nan", "inf", "\"0\"", "true", "[]"];
const COUNT: &[&str] = &["-1", "1.5", "\"1\"", "true", "[]", "{}"];
const POSITIVE: &[&str] = &["0", "-1", "1.5", "\"1\"", "true", "[]", "{}"];

const fn row(
    path: &'static str,
    good: &'static str,
    other: &'static str,
    bad: &'static [&'static str],
) -> Row {
    Row { path, good, other, bad, required: false }
}

const fn must(
    path: &'static str,
    good: &'static str,
    other: &'static str,
    bad: &'static [&'static str],
) -> Row {
    Row { path, good, other, bad, required: true }
}

/// Keys of one table stand together, as in a run file.
pub(super) const ROWS: &[Row] = &[
    must("name", "\"a title\"", "\"another\"", TEXT),
    must("out", "\"out/config-table\"", "\"out/elsewhere\"", TEXT),
    row("methods", "[\"ap2\"]", "[\"ap2\", \"probeless\"]", TEXTS),
    must("model.path", "\"models/tiny-gpt2-en\"", "\"org/name\"", TEXT),
    row("model.dtype", "\"f32\"", "\"bf16\"", WORD),
    must("corpus.files", "[\"a.word\"]", "[\"a.word\", \"b.word\"]", SOME_TEXTS),
    row("corpus.format", "\"parallel\"", "\"parallel\"", WORD),
    row("corpus.label_files", "[\"a.label\"]", "[\"b.label\"]", TEXTS),
    row(
        "corpus.file_labels",
        "{ language = [\"en\"] }",
        "{ language = [\"de\"] }",
        &["[]", "\"en\"", "{ language = \"en\" }", "{ language = [1] }"],
    ),
    row("corpus.text", "\"words\"", "\"original\"", WORD),
    row("corpus.add_bos", "false", "true", FLAG),
    row("corpus.max_tokens", "128", "64", POSITIVE),
    row("corpus.long", "\"split\"", "\"truncate\"", WORD),
    row("corpus.block_bytes", "65536", "1024", &["1023", "0", "-1", "1.5", "\"1024\"", "[]"]),
    row("corpus.max_documents", "100", "1", POSITIVE),
    row("corpus.max_bad", "0.25", "1", SHARE),
    must("concepts[].column", "\"upos\"", "\"xpos\"", TEXT),
    row("concepts[].classes", "[\"NOUN\"]", "[\"VERB\"]", SOME_TEXTS),
    row("concepts[].min_count", "1", "30", POSITIVE),
    row("concepts[].most_frequent", "10", "20", POSITIVE),
    row("concepts[].missing", "\"exclude\"", "\"class\"", WORD),
    must("capture.sites", "[\"embeddings\"]", "[\"layers.*.mlp_act\"]", SOME_TEXTS),
    row("capture.pool", "\"none\"", "\"none\"", WORD),
    row("capture.special_tokens", "\"include\"", "\"exclude\"", WORD),
    row("capture.first_position", "\"auto\"", "\"include\"", WORD),
    row("statistics.bins", "64", "0", &["1", "3", "4097", "-1", "64.0", "\"64\"", "true", "[]"]),
    row("statistics.top", "30", "1000", &["1001", "-1", "1.5", "\"1\"", "true"]),
    row("statistics.bottom", "0", "10", &["1001", "-1", "1.5", "\"1\"", "true"]),
    row("statistics.sample", "256", "0", COUNT),
    row("statistics.calibration_rows", "2048", "1", POSITIVE),
    row("statistics.seed", "0", "9223372036854775807", COUNT),
    row("statistics.max_nan", "0.0", "1", SHARE),
    row(
        "statistics.batch_tokens",
        "2048",
        "16",
        &["15", "1048577", "0", "-1", "1.5", "\"16\"", "true"],
    ),
    row("output.keep", "50", "0", COUNT),
    row("output.pages", "3", "0", COUNT),
    row("output.window", "16", "1000", &["1001", "-1", "1.5", "\"1\"", "true", "{}"]),
    row("device.name", "\"cpu\"", "\"auto\"", TEXT),
    row("device.threads", "1", "4096", &["0", "4097", "-1", "1.5", "\"1\"", "true"]),
    row("device.commit_seconds", "20", "0", &["86401", "-1", "1.5", "\"1\"", "true"]),
];

/// A run file with every key once, where `line` may put something else in a key's place, and the
/// line on which the key `wanted` stands.
pub(super) fn write(wanted: &str, line: impl Fn(&Row, &str) -> Option<String>) -> (String, usize) {
    let (mut text, mut section, mut at) = (String::from("# every key\n"), "", 0);
    for row in ROWS {
        let (table, key) = row.path.rsplit_once('.').unwrap_or(("", row.path));
        if table != section {
            let (open, close) = if table.ends_with("[]") { ("[[", "]]") } else { ("[", "]") };
            text += &format!("\n{open}{}{close}\n", table.trim_end_matches("[]"));
            section = table;
        }
        if row.path == wanted {
            at = text.lines().count() + 1;
        }
        if let Some(line) = line(row, key) {
            text += &(line + "\n");
        }
    }
    (text, at)
}

pub(super) fn plain(row: &Row, key: &str) -> Option<String> {
    Some(format!("{key} = {}", row.good))
}

pub(super) fn with_value(path: &str, value: &str) -> (String, usize) {
    write(path, |row, key| {
        Some(format!("{key} = {}", if row.path == path { value } else { row.good }))
    })
}

/// How messages write the path of a key.
pub(super) fn named(path: &str) -> String {
    path.replace("[]", ".0")
}
