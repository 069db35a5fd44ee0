//! Oracle: the rows written. Bits are compared, so that NaN and -0 count.

use std::path::Path;

use electrode::artifact::rows::{ContextRow, HistogramRow, NeuronRow, RankingRow};
use electrode::artifact::table::{Record, run_id_of};
use electrode::artifact::tables::{
    read_contexts, read_histograms, read_neurons, read_rankings, write_contexts, write_histograms,
    write_neurons, write_rankings,
};
use electrode::artifact::words::{WordRow, write_words};
use parquet::file::reader::{FileReader, SerializedFileReader};

/// `Debug` writes NaN as itself, so equal text is equal rows but for the bits of NaN.
fn same<R: std::fmt::Debug>(read: &[R], written: &[R]) {
    assert_eq!(format!("{read:?}"), format!("{written:?}"));
}

fn neuron(i: i32) -> NeuronRow {
    NeuronRow {
        site: if i % 2 == 0 { "embeddings".into() } else { format!("layers.{i}.mlp_act") },
        layer: (i % 2 != 0).then_some(i),
        neuron: i,
        n: i64::MAX - i64::from(i),
        non_finite: i64::from(i),
        mean: if i == 3 { f64::NAN } else { 0.1 * f64::from(i) },
        sd: 5e-324,
        min: f32::NEG_INFINITY,
        max: f32::MAX,
        firing_rate: -0.0,
        constant: i % 3 == 0,
        quantiles: (0..i % 8).map(|q| q as f32 + 0.5).collect(),
    }
}

fn ranking(i: i32) -> RankingRow {
    RankingRow {
        method: "ap:k=3".into(),
        label: "feats.Number".into(),
        concept: ["名詞", "", "a\0b", "\u{202e}x", "*"][i as usize % 5].into(),
        site: "final_norm".into(),
        layer: None,
        neuron: i,
        rank: i + 1,
        score: if i == 1 { f64::INFINITY } else { -f64::from(i) },
        sign: (i % 3 - 1) as i8,
        n: 10,
        n_concept: 5,
        p_value: (i % 2 == 0).then_some(1e-300),
        q_value: (i % 4 == 0).then_some(f64::NAN),
    }
}

fn context(i: i32) -> ContextRow {
    let words = (i % 4) as usize;
    ContextRow {
        site: "layers.0.mlp_act".into(),
        layer: Some(0),
        neuron: i,
        side: "top".into(),
        rank: 1,
        value: 0.5,
        document: 1 << 40,
        sentence: 2,
        place: 3,
        focus: 0,
        words: ["<b>", "é", ""].iter().cycle().take(words).map(|w| (*w).to_string()).collect(),
        activations: if i % 3 == 0 { vec![f32::NAN; words] } else { Vec::new() },
    }
}

fn histogram(i: i32) -> HistogramRow {
    HistogramRow {
        site: "layers.0.mlp_act".into(),
        layer: Some(0),
        neuron: i,
        label: String::new(),
        concept: "*".into(),
        edges: vec![-1.0, 0.0, 1.0],
        counts: if i == 0 { Vec::new() } else { vec![i64::from(i), 1 << 40] },
    }
}

#[test]
fn every_table_comes_back_as_it_was() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let path = folder.path().join("table.parquet");
    for rows in [0, 1, 2, 7, 300] {
        let written: Vec<_> = (0..rows).map(neuron).collect();
        let count = write_neurons(&path, "r", written.iter().cloned()).expect("writes");
        assert_eq!(count, rows as u64);
        same(&read_neurons(&path).expect("reads"), &written);
        let written: Vec<_> = (0..rows).map(ranking).collect();
        write_rankings(&path, "r", written.iter().cloned()).expect("writes");
        same(&read_rankings(&path).expect("reads"), &written);
        let written: Vec<_> = (0..rows).map(context).collect();
        write_contexts(&path, "r", written.iter().cloned()).expect("writes");
        same(&read_contexts(&path).expect("reads"), &written);
        let written: Vec<_> = (0..rows).map(histogram).collect();
        write_histograms(&path, "r 1", written.iter().cloned()).expect("writes");
        same(&read_histograms(&path).expect("reads"), &written);
        assert_eq!(run_id_of(&path).expect("reads").as_deref(), Some("r 1"));
    }
}

/// Lists of 70 000 values make row groups before a million rows are reached.
#[test]
fn long_lists_cross_row_groups() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let path = folder.path().join("table.parquet");
    let make = |i: i32| HistogramRow { counts: vec![i64::from(i); 70_000], ..histogram(i) };
    write_histograms(&path, "r", (0..500).map(make)).expect("writes");
    let read = read_histograms(&path).expect("reads");
    assert_eq!(read.len(), 500);
    for (i, row) in (0..).zip(read) {
        assert_eq!(row.neuron, i);
        assert!(row.counts.len() == 70_000 && row.counts.iter().all(|&c| c == i64::from(i)));
    }
}

#[test]
fn damaged_and_foreign_files_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let path = folder.path().join("table.parquet");
    write_neurons(&path, "r", (0..50).map(neuron)).expect("writes");
    let bytes = std::fs::read(&path).expect("reads");
    let refused = |path: &Path, what: &str| {
        let error = read_neurons(path).expect_err(what);
        assert_eq!(error.exit_code(), 65, "{error}");
        assert!(error.to_string().contains("table.parquet"), "{error}");
        error.to_string()
    };
    for length in [0, 4, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).expect("writes");
        refused(&path, "cut off");
    }
    write_contexts(&path, "r", (0..5).map(context)).expect("writes");
    assert!(refused(&path, "another table").contains("column 'n' is missing"));
    let columns = NeuronRow::fields().into_iter().map(|f| f.name).collect::<Vec<_>>();
    let row = WordRow { labels: vec![None; columns.len()], ..WordRow::default() };
    write_words(&path, "r", &columns, [row].into_iter()).expect("writes");
    assert!(refused(&path, "another type").contains("column 'site' should be One of Text"));
    let absent = read_neurons(&folder.path().join("none")).expect_err("absent");
    assert_eq!(absent.exit_code(), 2);
}

#[test]
fn words_have_a_column_per_label() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let path = folder.path().join("x.words.parquet");
    let row = |i: i64| WordRow {
        document: i,
        sentence: 0,
        position: i,
        form: "naïve".into(),
        document_id: Some("d\n".into()),
        sentence_id: None,
        labels: vec![Some("NOUN".into()), None],
    };
    let columns = ["upos".to_string(), "form".to_string()];
    assert_eq!(write_words(&path, "r", &columns, (0..9).map(row)).expect("writes"), 9);
    let twice = ["upos".to_string(), "upos".to_string()];
    let error = write_words(&path, "r", &twice, (0..9).map(row)).expect_err("refused");
    assert!(error.to_string().contains("'upos'"), "{error}");
    // Read back by the record reader of the crate, which shares no code with ours.
    let file = std::fs::File::open(&path).expect("opens");
    let reader = SerializedFileReader::new(file).expect("is Parquet");
    let rows: Vec<String> = reader
        .get_row_iter(None)
        .expect("has rows")
        .map(|row| row.expect("reads").to_string())
        .collect();
    assert_eq!(rows.len(), 9);
    let last = r#"{document: 8, sentence: 0, position: 8, form: "naïve", document_id: "d
", sentence_id: null, upos: "NOUN", label.form: null}"#;
    assert_eq!(rows[8], last);
}

/// The record reader of the crate reads lists only where they have the standard form.
#[test]
fn lists_have_the_standard_form() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let path = folder.path().join("table.parquet");
    write_histograms(&path, "r", (0..3).map(histogram)).expect("writes");
    let file = std::fs::File::open(&path).expect("opens");
    let reader = SerializedFileReader::new(file).expect("is Parquet");
    let rows = reader.get_row_iter(None).expect("has rows");
    let rows: Vec<String> = rows.map(|row| row.expect("reads").to_string()).collect();
    assert!(rows[0].contains("counts: []"), "{}", rows[0]);
    assert!(rows[2].contains("counts: [2, 1099511627776]"), "{}", rows[2]);
}
