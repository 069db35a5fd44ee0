//! Plans and block streams. Oracles: counts by hand; and laws: a block is the same whatever was
//! asked for beside it, whatever threads there are and however its files are packed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use electrode::config::Pool;
use electrode::corpus::block::{Block, Counts};
use electrode::corpus::config::{ConceptConfig, CorpusConfig, Missing};
use electrode::corpus::plan::Plan;
use electrode::corpus::stream::{BlockRules, BlockStream, documents};
use tempfile::TempDir;

use super::readers::CONLLU;
use super::{bert_tokenizer, concept, config, rules, write};

/// Documents of one to five sentences of one to four words.
fn conllu(documents: usize) -> String {
    let mut text = String::new();
    for document in 0..documents {
        writeln!(text, "# newdoc id = d{document}").expect("memory");
        for sentence in 0..=document % 5 {
            for word in 0..=(document + sentence) % 4 {
                let (form, upos) = [("cat", "NOUN"), ("the", "DET"), ("sat", "VERB")][word % 3];
                let id = word + 1;
                writeln!(text, "{id}\t{form}\t{form}\t{upos}\t_\t_\t0\tdep\t_\t_").expect("memory");
            }
            text.push('\n');
        }
    }
    text
}

fn block_rules(folder: &TempDir, config: &CorpusConfig, concepts: &[ConceptConfig]) -> BlockRules {
    let plan = Plan::make(config, concepts, 50, 1).expect("it plans");
    BlockRules {
        plan: Arc::new(plan),
        config: config.clone(),
        concepts: concepts.to_vec(),
        tokenizer: Arc::new(bert_tokenizer(folder)),
        rows: rules(Pool::Last),
    }
}

fn blocks(rules: &BlockRules, wanted: &[u32]) -> Vec<Block> {
    let stream = BlockStream::start(rules.clone(), wanted.to_vec()).expect("it starts");
    stream.collect::<Result<_, _>>().expect("it streams")
}

fn all(rules: &BlockRules) -> Vec<Block> {
    blocks(rules, &(0..rules.plan.blocks.len() as u32).collect::<Vec<_>>())
}

#[test]
fn plan_counts_by_hand() {
    let folder = TempDir::new().expect("temp");
    let config = config(&[write(&folder, "a.conllu", CONLLU)]);
    let mut number = concept("feats.Number");
    number.missing = Missing::Class;
    let mut form = concept("form");
    form.most_frequent = Some(2);
    let concepts = [concept("upos"), concept("position"), number, form];
    let plan = Plan::make(&config, &concepts, 10, 0).expect("it plans");
    assert_eq!((plan.documents, plan.sentences, plan.words, plan.bad), (2, 3, 11, 0));
    let classes = |column: usize| plan.labels.columns[column].classes.join(" ");
    assert_eq!(classes(0), "ADP ADV AUX DET NOUN PART PUNCT SYM VERB");
    assert_eq!(classes(1), "0 1 2 3 4 5 6");
    assert_eq!(classes(2), "Sing _");
    assert_eq!(classes(3), "( )", "all forms occur once, so the first by name");
    let numeric: Vec<bool> = plan.labels.columns.iter().map(|column| column.numeric).collect();
    assert_eq!(numeric, [false, true, false, false]);
    assert_eq!(plan.labels.columns[1].first_group, 9);
    assert_eq!(plan.class_counts[..9], [1, 1, 1, 1, 1, 1, 3, 1, 1]);
    assert_eq!(plan.class_counts[9..16], [3, 2, 2, 1, 1, 1, 1]);
    assert_eq!((plan.files[0].documents, plan.files[0].first_document), (2, 0));
    assert_eq!(plan.blocks[0].byte_offset, Some(0));
    let json = serde_json::to_string(&plan).expect("json");
    let again: Plan = serde_json::from_str(&json).expect("json");
    assert_eq!((again.hash(), &again), (plan.hash(), &plan));
    assert!(!json.contains(&folder.path().display().to_string()), "a plan holds no path");
}

#[test]
fn blocks_cover_the_corpus_once() {
    let folder = TempDir::new().expect("temp");
    let files = [
        write(&folder, "a.conllu", conllu(40)),
        write(&folder, "b.conllu", conllu(7)),
        write(&folder, "c.conllu", conllu(23)),
    ];
    let mut config = config(&files);
    config.block_bytes = 100;
    let rules = block_rules(&folder, &config, &[concept("upos")]);
    assert!(rules.plan.blocks.len() > 8, "{} blocks", rules.plan.blocks.len());
    let blocks = all(&rules);
    let mut total = Counts::default();
    let mut next = 0;
    for (block, planned) in blocks.iter().zip(&rules.plan.blocks) {
        assert_eq!((block.index, planned.first_document), (planned.index, next));
        next += planned.documents;
        total += block.counts;
        let own = planned.first_document..next;
        assert!(block.sequences.iter().all(|sequence| own.contains(&sequence.document)));
    }
    assert_eq!(next, 70);
    let plan = &rules.plan;
    assert_eq!((total.documents, total.sentences), (plan.documents, plan.sentences));
    assert_eq!((total.words, total.rows), (plan.words, plan.words));
    let mut groups = vec![0; 3];
    let sequences = blocks.iter().flat_map(|block| &block.sequences);
    for row in sequences.flat_map(|sequence| &sequence.rows) {
        row.groups.iter().for_each(|group| groups[*group as usize] += 1);
    }
    assert_eq!(groups, plan.class_counts);
}

#[test]
fn a_block_is_the_same_however_it_is_reached() {
    let folder = TempDir::new().expect("temp");
    let text = conllu(60);
    let zst = zstd::encode_all(text.as_bytes(), 3).expect("memory");
    let packed = write(&folder, "p.conllu.zst", zst);
    let plain = write(&folder, "p.conllu", text);
    let other = write(&folder, "q.conllu", conllu(9));
    let make = |first: PathBuf| {
        let mut config = config(&[first, other.clone()]);
        config.block_bytes = 150;
        block_rules(&folder, &config, &[concept("upos")])
    };
    let rules = make(plain);
    let whole = all(&rules);
    let wanted = [1, 4, 5, u32::try_from(whole.len()).expect("few") - 1];
    let picked: Vec<Block> = wanted.iter().map(|index| whole[*index as usize].clone()).collect();
    assert_eq!(blocks(&rules, &wanted), picked);
    let packed = make(packed);
    assert!(packed.plan.blocks[1].byte_offset.is_none());
    assert_eq!(blocks(&packed, &wanted), picked);
    for threads in [1, 2, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let (plan, documents) = pool.install(|| {
            let plan = Plan::make(&rules.config, &rules.concepts, 50, 1).expect("it plans");
            (plan.hash(), tokenized(&rules))
        });
        assert_eq!(plan, rules.plan.hash());
        assert_eq!(documents, whole.iter().flat_map(|b| b.sequences.clone()).collect::<Vec<_>>());
    }
}

/// The whole corpus tokenised on the threads of the caller.
fn tokenized(rules: &BlockRules) -> Vec<electrode::corpus::block::Sequence> {
    let wanted: BTreeSet<u64> = (0..rules.plan.documents).collect();
    let documents = documents(&rules.plan, &rules.config, &wanted).expect("it reads");
    let labels = electrode::corpus::labels::LabelIndex::new(&rules.plan.labels, &rules.concepts);
    electrode::corpus::stream::tokenize_documents(
        &documents,
        &rules.tokenizer,
        &labels,
        &rules.rows,
    )
    .expect("it tokenises")
    .0
}

#[test]
fn single_documents_are_found_again() {
    let folder = TempDir::new().expect("temp");
    let zst = zstd::encode_all(conllu(30).as_bytes(), 3).expect("memory");
    let files = [
        write(&folder, "a.conllu.zst", zst),
        write(&folder, "b.conllu", conllu(30)),
        write(&folder, "c.jsonl", "{\"text\": \"x\", \"id\": \"last\"}\n"),
    ];
    let mut config = config(&files);
    config.block_bytes = 60;
    let plan = Plan::make(&config, &[], 5, 0).expect("it plans");
    let wanted: BTreeSet<u64> = [3, 4, 29, 30, 31, 58, 60].into();
    let found = documents(&plan, &config, &wanted).expect("it reads");
    let ids: Vec<&str> = found.iter().filter_map(|document| document.id.as_deref()).collect();
    assert_eq!(ids, ["d3", "d4", "d29", "d0", "d1", "d28", "last"]);
    assert!(found.iter().map(|document| document.ordinal).eq(wanted));
    assert!(documents(&plan, &config, &[61].into()).is_err());
}

#[test]
fn a_changed_corpus_is_refused() {
    let folder = TempDir::new().expect("temp");
    let path = write(&folder, "a.txt", "one two\nthree\nfour\n");
    let mut config = config(std::slice::from_ref(&path));
    config.block_bytes = 8;
    let rules = block_rules(&folder, &config, &[]);
    assert_eq!(all(&rules).len(), 2);
    write(&folder, "a.txt", "one two\nthree\nfour\nfive\n");
    let error = BlockStream::start(rules.clone(), vec![0]).err().expect("another size");
    assert!(error.to_string().contains("changed since"), "{error}");
    assert_eq!(error.exit_code(), 65);
    // The same size, other lines: it shows when the block is read.
    write(&folder, "a.txt", "one two three four\n");
    let stream = BlockStream::start(rules, vec![0, 1]).expect("the size agrees");
    let results: Vec<_> = stream.collect();
    assert_eq!(results.len(), 1, "nothing follows an error");
    assert!(results[0].as_ref().is_err_and(|error| error.to_string().contains("changed since")));
}

#[test]
fn a_stream_may_be_dropped_early() {
    let folder = TempDir::new().expect("temp");
    let mut config = config(&[write(&folder, "a.conllu", conllu(200))]);
    config.block_bytes = 20;
    let rules = block_rules(&folder, &config, &[]);
    let count = u32::try_from(rules.plan.blocks.len()).expect("few");
    let mut stream = BlockStream::start(rules, (0..count).collect()).expect("it starts");
    assert!(stream.next().is_some());
    drop(stream);
}

#[test]
fn sentence_pooling_needs_labels_of_sentences() {
    let folder = TempDir::new().expect("temp");
    let mut config = config(&[write(&folder, "a.conllu", conllu(5))]);
    config.file_labels.insert("lang".to_owned(), vec!["en".to_owned()]);
    let mut rules = block_rules(&folder, &config, &[concept("upos"), concept("lang")]);
    rules.rows.pool = Pool::SentenceMean;
    let error = BlockStream::start(rules, vec![0]).err().expect("upos labels words");
    assert!(error.to_string().contains("'upos' labels words only"), "{error}");
    let mut rules = block_rules(&folder, &config, &[concept("lang")]);
    rules.rows.pool = Pool::SentenceMean;
    let rows: Vec<_> = all(&rules)[0].sequences.iter().flat_map(|s| s.rows.clone()).collect();
    assert_eq!(rows.len() as u64, rules.plan.sentences);
    assert!(rows.iter().all(|row| row.groups == [0]));
}

#[test]
fn calibration_has_about_the_rows_asked_for() {
    let folder = TempDir::new().expect("temp");
    let config = config(&[write(&folder, "a.conllu", conllu(300))]);
    let at = |seed| Plan::make(&config, &[], 100, seed).expect("it plans");
    let plan = at(0);
    let wanted: BTreeSet<u64> = plan.calibration.iter().copied().collect();
    let found = documents(&plan, &config, &wanted).expect("it reads");
    let words: usize =
        found.iter().flat_map(|document| &document.sentences).map(|s| s.words.len()).sum();
    assert!((100..120).contains(&words), "{words} words");
    assert_ne!(plan.calibration, at(1).calibration);
}
