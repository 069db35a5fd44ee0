//! Every reader on corpora written out here. Oracle: by hand.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use electrode::corpus::config::{CorpusConfig, Format, TextSource};
use electrode::corpus::document::{Document, Word};
use electrode::corpus::read::{Columns, Documents};
use tempfile::TempDir;

use super::{config, write};

pub(super) const CONLLU: &str = "\
# newdoc id = first
# sent_id = s1
# text = Don't go (now).
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVBP\tMood=Imp|VerbForm=Fin\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\tPolarity=Neg\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\tVerbForm=Fin\t0\troot\t_\t_
3.1\tgone\tgo\tVERB\t_\t_\t_\t_\t_\t_
4\t(\t(\tPUNCT\t-LRB-\t_\t5\tpunct\t_\tSpaceAfter=No
5\tnow\tnow\tADV\tRB\t_\t3\tadvmod\t_\tSpaceAfter=No|X=1
6\t)\t)\tPUNCT\t-RRB-\t_\t5\tpunct\t_\tSpaceAfter=No
7\t.\t.\tPUNCT\t.\t_\t3\tpunct\t_\t_

# sent_id = s2
1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_
1\tde\tde\tADP\t_\t_\t3\tcase\t_\t_
2\tle\tle\tDET\t_\tDefinite=Def\t3\tdet\t_\t_
3\t_\t_\tSYM\t_\t_\t0\troot\t_\t_

# newdoc
1\tEnd\tend\tNOUN\tNN\tNumber=Sing\t0\troot\t_\t_
";

fn read(config: &CorpusConfig) -> Vec<Document> {
    let documents = Documents::open(config, Columns::all()).expect("the corpus opens");
    documents.collect::<Result<_, _>>().expect("the corpus reads")
}

fn label<'a>(word: &'a Word, column: &str) -> Option<&'a str> {
    word.labels.iter().find(|(name, _)| name == column).map(|(_, value)| value.as_str())
}

fn spelled(document: &Document, sentence: usize) -> Vec<&str> {
    let sentence = &document.sentences[sentence];
    sentence.words.iter().map(|word| &sentence.text[word.span.clone()]).collect()
}

#[test]
fn conllu_words() {
    let folder = TempDir::new().expect("temp");
    let documents = read(&config(&[write(&folder, "a.conllu", CONLLU)]));
    assert_eq!(documents.len(), 2);
    assert_eq!((documents[0].ordinal, documents[0].id.as_deref()), (0, Some("first")));
    assert_eq!((documents[1].ordinal, documents[1].id.as_deref()), (1, None));
    let sentence = &documents[0].sentences[0];
    assert_eq!(sentence.id.as_deref(), Some("s1"));
    assert_eq!(sentence.text, "Do n't go ( now ) .");
    assert_eq!(spelled(&documents[0], 0), ["Do", "n't", "go", "(", "now", ")", "."]);
    let word = &sentence.words[0];
    let columns = ["form", "lemma", "upos", "xpos", "deprel", "position", "feats.Mood"];
    let values = columns.map(|column| label(word, column).expect("it has one"));
    assert_eq!(values, ["do", "do", "AUX", "VBP", "aux", "0", "Imp"]);
    assert_eq!(label(word, "feats.Polarity"), None);
    assert_eq!(label(&documents[0].sentences[1].words[0], "xpos"), None);
    // The word "_" has a lemma of its own; elsewhere `_` means none.
    assert_eq!(label(&documents[0].sentences[1].words[2], "lemma"), Some("_"));
}

#[test]
fn conllu_original_text() {
    let folder = TempDir::new().expect("temp");
    let mut config = config(&[write(&folder, "a.conllu", CONLLU)]);
    config.text = TextSource::Original;
    let documents = read(&config);
    assert_eq!(documents[0].sentences[0].text, "Don't go (now).");
    assert_eq!(spelled(&documents[0], 0), ["Do", "n't", "go", "(", "now", ")", "."]);
    // "de" + "le" do not spell "du", so each stands for all of it.
    assert_eq!(documents[0].sentences[1].text, "du _");
    assert_eq!(spelled(&documents[0], 1), ["du", "du", "_"]);
}

#[test]
fn conllu_without_newdoc_has_a_document_per_sentence() {
    let folder = TempDir::new().expect("temp");
    let line = "1\tHi\thi\tINTJ\tUH\t_\t0\troot\t_\t_\n";
    let text = format!("# sent_id = a\n{line}\n\n# sent_id = b\n{line}");
    let documents = read(&config(&[write(&folder, "a.conllu", text)]));
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[1].sentences[0].id.as_deref(), Some("b"));
}

#[test]
fn wanted_columns_only() {
    let folder = TempDir::new().expect("temp");
    let config = config(&[write(&folder, "a.conllu", CONLLU)]);
    let columns = Columns::only(["upos", "feats.Mood"]);
    let documents: Vec<_> =
        Documents::open(&config, columns).expect("opens").map(|d| d.expect("reads")).collect();
    let labels = &documents[0].sentences[0].words[0].labels;
    let names: Vec<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["upos", "feats.Mood"]);
}

#[test]
fn text_and_jsonl() {
    let folder = TempDir::new().expect("temp");
    let text = write(&folder, "a.txt", "\u{feff}first line\r\n\n  second\nlast");
    let texts: Vec<_> =
        read(&config(&[text])).iter().map(|d| d.sentences[0].text.clone()).collect();
    assert_eq!(texts, ["first line", "  second", "last"]);

    let jsonl = "{\"text\": \"a\", \"id\": 7, \"label\": \"pos\", \"n\": 2.5, \"ok\": true, \
                 \"x\": null, \"y\": [1]}\n\n{\"text\": \"\", \"id\": \"e\"}\n";
    let documents = read(&config(&[write(&folder, "a.jsonl", jsonl)]));
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[0].id.as_deref(), Some("7"));
    let labels = &documents[0].sentences[0].labels;
    let expected = [("label", "pos"), ("n", "2.5"), ("ok", "true")];
    assert_eq!(*labels, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert!(documents[1].sentences.is_empty(), "an empty text is a document without sentences");
}

#[test]
fn parallel_files() {
    let folder = TempDir::new().expect("temp");
    let mut config = config(&[write(&folder, "words", "The  cat\n\nsleeps\n")]);
    config.label_files = vec![write(&folder, "labels", "DET NOUN\n\nVERB\n")];
    config.format = Some(Format::Parallel);
    let documents = read(&config);
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[0].sentences[0].text, "The cat");
    let words = &documents[0].sentences[0].words;
    assert_eq!(
        words.iter().map(|w| label(w, "label")).collect::<Vec<_>>(),
        [Some("DET"), Some("NOUN")]
    );
    assert_eq!(label(&words[0], "form"), Some("the"));
    assert_eq!(label(&words[1], "position"), Some("1"));
}

#[test]
fn packed_files_read_like_plain_ones() {
    let folder = TempDir::new().expect("temp");
    let plain = read(&config(&[write(&folder, "a.conllu", CONLLU)]));
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let (first, second) = CONLLU.split_at(CONLLU.len() / 2);
    gz.write_all(first.as_bytes()).expect("memory");
    let mut members = gz.finish().expect("memory");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(second.as_bytes()).expect("memory");
    members.extend(gz.finish().expect("memory")); // Two members, as `cat a.gz b.gz` makes.
    let zst = zstd::encode_all(CONLLU.as_bytes(), 3).expect("memory");
    assert_eq!(read(&config(&[write(&folder, "b.conllu.gz", members)])), plain);
    assert_eq!(read(&config(&[write(&folder, "c.conllu.zst", zst)])), plain);
}

/// Writes a Parquet file of (text, id, label, number) with 5 rows in row groups of 2.
fn parquet_file(folder: &TempDir) -> PathBuf {
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;

    let schema = "message m { required binary text (UTF8); optional binary id (UTF8);
                  required binary label (UTF8); required int64 n; required double score; }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).expect("schema"));
    let path = folder.path().join("a.parquet");
    let file = std::fs::File::create(&path).expect("temp");
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, schema, properties).expect("writer");
    for rows in [0..2_i64, 2..4, 4..5] {
        let bytes = |of: &dyn Fn(i64) -> String| -> Vec<ByteArray> {
            rows.clone().map(|row| ByteArray::from(of(row).into_bytes())).collect()
        };
        let columns = [bytes(&|row| format!("text {row}")), bytes(&|row| format!("id{row}"))];
        let labels = bytes(&|row| if row % 2 == 0 { "even".into() } else { "odd".into() });
        let numbers: Vec<i64> = rows.clone().collect();
        let levels = vec![1_i16; columns[1].len()];
        let mut group = writer.next_row_group().expect("group");
        let mut index = 0;
        while let Some(mut column) = group.next_column().expect("column") {
            let written = match index {
                0 => column.typed::<ByteArrayType>().write_batch(&columns[0], None, None),
                1 => column.typed::<ByteArrayType>().write_batch(&columns[1], Some(&levels), None),
                2 => column.typed::<ByteArrayType>().write_batch(&labels, None, None),
                3 => column.typed::<Int64Type>().write_batch(&numbers, None, None),
                _ => column.typed::<parquet::data_type::DoubleType>().write_batch(
                    &vec![0.5; numbers.len()],
                    None,
                    None,
                ),
            };
            written.expect("batch");
            column.close().expect("column");
            index += 1;
        }
        group.close().expect("group");
    }
    writer.close().expect("file");
    path
}

#[test]
fn parquet() {
    let folder = TempDir::new().expect("temp");
    let documents = read(&config(&[parquet_file(&folder)]));
    assert_eq!(documents.len(), 5);
    assert_eq!(documents[3].id.as_deref(), Some("id3"));
    assert_eq!(documents[3].sentences[0].text, "text 3");
    let labels = &documents[3].sentences[0].labels;
    // A double is no label: it has no classes.
    assert_eq!(*labels, [("label", "odd"), ("n", "3")].map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[test]
fn folders_globs_and_labels_of_files() {
    let folder = TempDir::new().expect("temp");
    for (name, text) in [("b.txt", "bee"), ("a.txt", "ay"), ("README.md", "no"), (".c.txt", "no")] {
        write(&folder, name, text);
    }
    let other = TempDir::new().expect("temp");
    let last = write(&other, "z.txt", "zed");
    let texts = |config: &CorpusConfig| -> Vec<String> {
        read(config).iter().map(|d| d.sentences[0].text.clone()).collect()
    };
    let mut by_folder = config(&[folder.path().to_path_buf(), last.clone()]);
    assert_eq!(texts(&by_folder), ["ay", "bee", "zed"]);
    assert_eq!(texts(&config(&[folder.path().join("[ab].txt")])), ["ay", "bee"]);
    // One class per entry of `files`, or one per file.
    for (classes, expected) in
        [(vec!["x", "y"], ["x", "x", "y"]), (vec!["x", "y", "z"], ["x", "y", "z"])]
    {
        let classes = classes.into_iter().map(str::to_owned).collect();
        by_folder.file_labels.insert("lang".to_owned(), classes);
        let found: Vec<_> =
            read(&by_folder).iter().map(|d| d.sentences[0].labels[0].1.clone()).collect();
        assert_eq!(found, expected);
    }
    by_folder.max_documents = Some(2);
    assert_eq!(read(&by_folder).len(), 2);
}
