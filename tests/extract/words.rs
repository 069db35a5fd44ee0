//! `extract --corpus`. Oracles: the corpus as written below, the tokenizer, and the poolings held
//! against the rows of single tokens.

use std::collections::BTreeMap;
use std::path::Path;

use electrode::corpus::tokenize::Tokenizer;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;

use super::{Raw, extract, floats, read};

/// Two documents; words of one token and of several.
const CORPUS: &str = "\
# newdoc id = first
# sent_id = a1
1\tThe\tthe\tDET\tDT\tDefinite=Def|PronType=Art\t2\tdet\t_\t_
2\tdogs\tdog\tNOUN\tNNS\tNumber=Plur\t3\tnsubj\t_\t_
3\tvocalised\tvocalise\tVERB\tVBD\tTense=Past\t0\troot\t_\t_
4\tunfathomably\tunfathomably\tADV\tRB\t_\t3\tadvmod\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t.\t_\t3\tpunct\t_\t_

# sent_id = a2
1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tdo\tdo\tAUX\tVBP\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_

# newdoc id = second
# sent_id = b1
1\tParis\tParis\tPROPN\tNNP\tNumber=Sing\t2\tnsubj\t_\t_
2\tsleeps\tsleep\tVERB\tVBZ\tNumber=Sing\t0\troot\t_\t_

";
/// Its sentences, as the model sees them.
const SENTENCES: [&str; 3] = ["The dogs vocalised unfathomably .", "do n't go", "Paris sleeps"];
const SITES: [&str; 3] = ["embeddings", "layers.1.mlp_act", "layers.3.resid_post"];

type Table = Vec<BTreeMap<String, Field>>;

fn table(path: &Path) -> Table {
    let file = std::fs::File::open(path).expect("it was written");
    let reader = SerializedFileReader::new(file).expect("it is a Parquet file");
    let rows = reader.get_row_iter(None).expect("rows");
    rows.map(|row| row.expect("a row").into_columns().into_iter().collect()).collect()
}

/// Runs one pooling: tensors and table.
fn pooled(pool: &[&str]) -> (BTreeMap<String, Raw>, Table, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let corpus = folder.path().join("c.conllu");
    std::fs::write(&corpus, CORPUS).expect("written");
    let out = folder.path().join("acts.safetensors");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2-en");
    let corpus = corpus.display().to_string();
    let sites = SITES.join(",");
    let arguments = [&["--corpus", &corpus, "--sites", &sites], pool].concat();
    let done = extract(&model, &arguments, &out);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let words = folder.path().join("acts.words.parquet");
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .expect("readable")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["acts.safetensors", "acts.words.parquet", "c.conllu"]);
    (read(&out), table(&words), done.stdout)
}

fn text(value: &str) -> Field {
    Field::Str(value.to_owned())
}

#[test]
fn rows_are_the_words_in_corpus_order_with_their_labels() {
    let (tensors, rows, said) = pooled(&[]);
    assert!(said.starts_with("10 rows of 10 words (0 dropped, 0 truncated)"), "{said}");
    assert_eq!(tensors.keys().map(String::as_str).collect::<Vec<_>>(), SITES);
    assert_eq!(tensors["layers.1.mlp_act"].1, [10, 1024]);
    assert_eq!(tensors["embeddings"].1, [10, 256]);
    let places: Vec<_> = rows
        .iter()
        .map(|row| match (&row["document"], &row["sentence"], &row["position"]) {
            (Field::Long(d), Field::Long(s), Field::Long(p)) => (*d, *s, *p),
            other => panic!("{other:?}"),
        })
        .collect();
    let want = [(0, 0, 0..5), (0, 1, 0..3), (1, 0, 0..2)];
    let want: Vec<_> =
        want.into_iter().flat_map(|(d, s, words)| words.map(move |p| (d, s, p))).collect();
    assert_eq!(places, want);
    let column = |name: &str| -> Vec<Field> { rows.iter().map(|row| row[name].clone()).collect() };
    let forms: Vec<Field> = SENTENCES.iter().flat_map(|s| s.split(' ')).map(text).collect();
    assert_eq!(column("form"), forms);
    let tags = "DET NOUN VERB ADV PUNCT AUX PART VERB PROPN VERB";
    assert_eq!(column("upos"), tags.split(' ').map(text).collect::<Vec<_>>());
    assert_eq!(column("xpos")[1], text("NNS"));
    assert_eq!(column("deprel")[8], text("nsubj"));
    assert_eq!(column("lemma")[6], text("not"));
    let mut number = vec![Field::Null; 10];
    (number[1], number[8], number[9]) = (text("Plur"), text("Sing"), text("Sing"));
    assert_eq!(column("feats.Number"), number);
    assert_eq!(column("feats.Tense")[2], text("Past"));
    assert_eq!(column("document_id")[0], text("first"));
    assert_eq!(column("sentence_id")[7], text("a2"));
}

#[test]
fn poolings_agree_with_the_rows_of_tokens() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2-en");
    let tokenizer = Tokenizer::open(&model).expect("opens");
    // Tokens of each word, over all sentences: a token belongs to the word its text ends in.
    let (mut words, mut before) = (Vec::new(), 0);
    for sentence in SENTENCES {
        let spans = tokenizer.encode(sentence).expect("tokenises").spans;
        let mut start = 0;
        for word in sentence.split(' ') {
            let range = start..start + word.len();
            let own = (0..spans.len())
                .filter(|&t| range.start < spans[t].end && spans[t].end <= range.end);
            words.push(own.map(|t| before + t).collect::<Vec<usize>>());
            start = range.end + 1;
        }
        before += spans.len();
    }
    assert!(words.iter().any(|tokens| tokens.len() == 1));
    assert!(words.iter().any(|tokens| tokens.len() > 1), "{words:?}");
    let (tokens, rows, _) = pooled(&["--pool", "none"]);
    assert_eq!(rows.len(), before, "a row for each token");
    // Each token has the labels of its word.
    let (_, by_word, _) = pooled(&[]);
    for (word, own) in words.iter().enumerate() {
        for &token in own {
            for column in ["upos", "lemma", "feats.Number", "sentence_id"] {
                assert_eq!(rows[token][column], by_word[word][column], "{column} of {token}");
            }
        }
    }
    let (first, ..) = pooled(&["--pool", "first"]);
    let (last, ..) = pooled(&["--pool", "last"]);
    let (mean, ..) = pooled(&["--pool", "mean"]);
    assert!(last == pooled(&[]).0, "last is the default");
    for site in SITES {
        let width = tokens[site].1[1];
        let [tokens, first, last, mean] =
            [&tokens, &first, &last, &mean].map(|file| floats(&file[site]));
        let row = |matrix: &[f32], at: usize| matrix[at * width..][..width].to_vec();
        for (word, own) in words.iter().enumerate() {
            assert_eq!(row(&first, word), row(&tokens, own[0]), "{site}, word {word}");
            assert_eq!(row(&last, word), row(&tokens, own[own.len() - 1]), "{site}, word {word}");
            if own.len() == 1 {
                assert_eq!(row(&mean, word), row(&tokens, own[0]), "{site}, word {word}");
            }
            for (column, got) in row(&mean, word).into_iter().enumerate() {
                let sum: f64 = own.iter().map(|&t| f64::from(tokens[t * width + column])).sum();
                let want = sum / own.len() as f64;
                let scale =
                    own.iter().map(|&t| tokens[t * width + column].abs()).fold(0.0, f32::max);
                let bound = 4.0 * f64::from(f32::EPSILON) * f64::from(scale);
                assert!(
                    (f64::from(got) - want).abs() <= bound,
                    "{site}, word {word}: {got} {want}"
                );
            }
        }
    }
}

/// The same words as a pair of files, and the text as it was written after a BOS: what the flags
/// change is what the library is told.
#[test]
fn other_formats_and_texts_are_read_as_asked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (words, labels) = (folder.path().join("c.word"), folder.path().join("c.label"));
    std::fs::write(&words, SENTENCES.join("\n")).expect("written");
    let tags = "DET NOUN VERB ADV PUNCT\nAUX PART VERB\nPROPN VERB\n";
    std::fs::write(&labels, tags).expect("written");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2-en");
    let out = folder.path().join("pair.safetensors");
    let (words, labels) = (words.display().to_string(), labels.display().to_string());
    let sites = SITES.join(",");
    let pair = ["--corpus", &words, "--format", "parallel", "--labels", &labels];
    let done = extract(&model, &[&pair[..], &["--sites", &sites]].concat(), &out);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(read(&out) == pooled(&[]).0, "the same words give the same bits");
    let rows = table(&folder.path().join("pair.words.parquet"));
    let found: Vec<Field> = rows.iter().map(|row| row["label"].clone()).collect();
    assert_eq!(found, tags.split_whitespace().map(text).collect::<Vec<_>>());
    let (plain, ..) = pooled(&["--original"]);
    let (with_bos, rows, _) = pooled(&["--original", "--add-bos"]);
    assert_eq!(rows.len(), 10);
    assert!(plain != pooled(&[]).0, "\"unfathomably.\" has no blank before its full stop");
    assert!(plain["layers.3.resid_post"] != with_bos["layers.3.resid_post"]);
}
