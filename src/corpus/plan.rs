//! The plan: what the corpus holds and how it is cut into blocks. Made in one pass without a
//! tokenizer, from the files and the configuration alone, so that every machine makes the same.

use std::collections::{BTreeSet, BinaryHeap};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::block::Labels;
use super::config::{ConceptConfig, CorpusConfig};
use super::document::Document;
use super::labels::{self, ColumnCounter, Counted};
use super::read::source::{Source, sources};
use super::read::{Columns, Documents};
use crate::error::{Error, Result, did_you_mean};
use crate::hash::blake3_of_file;

/// A corpus, counted and cut into blocks. Holds no path, so that it is the same everywhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The files in reading order.
    pub files: Vec<FilePlan>,
    /// Documents in the corpus.
    pub documents: u64,
    /// Sentences in the corpus.
    pub sentences: u64,
    /// Words in the corpus; 0 where its format has none, then rows are tokens.
    pub words: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Lines or documents skipped as unreadable.
    pub bad: u64,
    /// Consecutive runs of documents.
    pub blocks: Vec<BlockPlan>,
    /// Columns and classes of the run.
    pub labels: Labels,
    /// Words of each group (sentences where there are no words), before any is dropped.
    pub class_counts: Vec<u64>,
    /// For each column, whether sentences as a whole carry it: what sentence pooling can use.
    pub on_sentences: Vec<bool>,
    /// Documents of the calibration sample, ascending.
    pub calibration: Vec<u64>,
}

/// One file of the corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilePlan {
    /// Its name without its folder.
    pub name: String,
    /// Its size on the disk.
    pub bytes: u64,
    /// BLAKE3 of it, in hex.
    pub hash: String,
    /// BLAKE3 of its label file (`parallel` only).
    pub label_hash: Option<String>,
    /// Number of its first document.
    pub first_document: u64,
    /// Documents in it.
    pub documents: u64,
}

/// A run of documents: the unit of commit and resume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockPlan {
    /// Its number, from 0.
    pub index: u32,
    /// Number of its first document.
    pub first_document: u64,
    /// Documents in it.
    pub documents: u64,
    /// Sentences in it.
    pub sentences: u64,
    /// Words in it.
    pub words: u64,
    /// Unreadable lines met on the way.
    pub bad: u64,
    /// Number of the file it begins in; it may go on into the next ones.
    pub file: u32,
    /// Where in that file, if one can jump there (line formats that are not packed).
    pub byte_offset: Option<u64>,
    /// Bytes of text.
    pub bytes: u64,
}

impl Plan {
    /// Reads the corpus once. `calibration_rows` is how many rows the calibration sample should
    /// have, `seed` chooses its documents.
    pub fn make(
        config: &CorpusConfig,
        concepts: &[ConceptConfig],
        calibration_rows: usize,
        seed: u64,
    ) -> Result<Self> {
        check(config, concepts)?;
        let sources = sources(config)?;
        let mut maker = Maker {
            files: sources.iter().map(file_plan).collect::<Result<_>>()?,
            blocks: Vec::new(),
            open: BlockPlan::default(),
            bad_before: 0,
            block_bytes: config.block_bytes,
            counters: concepts.iter().map(ColumnCounter::new).collect(),
            calibration: Calibration::new(calibration_rows, seed),
        };
        let columns = Columns::only(concepts.iter().map(|concept| concept.column.as_str()));
        let mut documents = Documents::open(config, columns)?;
        while let Some(document) = documents.advance()? {
            maker.add(&document, &documents)?;
        }
        maker.open.bad = documents.bad() - maker.bad_before;
        documents.judge()?;
        maker.finish(config, concepts, &sources[0].path)
    }

    /// BLAKE3 of the plan as JSON, in hex: part of a run's identity.
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).expect("a plan has string keys and finite numbers");
        blake3::hash(&json).to_hex().to_string()
    }

    /// Fails if the files are not those that were planned: statistics of a corpus that changed
    /// while it was read must not stand under the hash of the old one.
    pub fn check_unchanged(&self, config: &CorpusConfig) -> Result<()> {
        let sources = sources(config)?;
        for (source, planned) in sources.iter().zip(&self.files) {
            let now = file_plan(source)?;
            if (&now.hash, &now.label_hash) != (&planned.hash, &planned.label_hash) {
                let what = "the corpus changed while it was read";
                let remedy = "delete the run folder, and begin again once the corpus is complete";
                return Err(Error::input(&source.path, what, remedy));
            }
        }
        Ok(())
    }

    /// The block that holds a document.
    pub fn block_of(&self, document: u64) -> Option<&BlockPlan> {
        let after = self.blocks.partition_point(|block| block.first_document <= document);
        (document < self.documents).then(|| &self.blocks[after - 1])
    }
}

/// Refuses settings that make no sense before anything is read.
fn check(config: &CorpusConfig, concepts: &[ConceptConfig]) -> Result<()> {
    if config.block_bytes == 0 {
        return Err(Error::config("corpus.block_bytes", "is 0", "use 1048576 or so"));
    }
    if !(0.0..=1.0).contains(&config.max_bad) {
        let what = format!("{} is not a share", config.max_bad);
        return Err(Error::config("corpus.max_bad", what, "use a number from 0 to 1"));
    }
    let mut names = BTreeSet::new();
    for concept in concepts {
        let place = format!("concepts[column = \"{}\"]", concept.column);
        if !names.insert(&concept.column) {
            return Err(Error::config(place, "the column is named twice", "merge the two entries"));
        }
        if concept.classes.is_some() && concept.most_frequent.is_some() {
            let what = "classes and most_frequent are both given";
            return Err(Error::config(place, what, "give one of them"));
        }
        if concept.most_frequent == Some(0) || concept.classes.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::config(place, "keeps no class", "keep at least one, or none of it"));
        }
    }
    Ok(())
}

/// Size and hash of a file.
fn file_plan(source: &Source) -> Result<FilePlan> {
    let name = source.path.file_name().unwrap_or(source.path.as_os_str());
    let hash = |path: &Path| blake3_of_file(path).map(|(_, hash)| hash);
    let label_hash = source.label_path.as_deref().map(hash).transpose()?;
    let metadata = std::fs::metadata(&source.path).map_err(Error::io(&source.path, "read"))?;
    Ok(FilePlan {
        name: name.to_string_lossy().into_owned(),
        bytes: metadata.len(),
        hash: hash(&source.path)?,
        label_hash,
        first_document: 0,
        documents: 0,
    })
}

/// A plan in the making.
struct Maker<'a> {
    files: Vec<FilePlan>,
    blocks: Vec<BlockPlan>,
    /// The block being filled.
    open: BlockPlan,
    /// Unreadable lines of the blocks before it.
    bad_before: u64,
    block_bytes: u64,
    counters: Vec<ColumnCounter<'a>>,
    calibration: Calibration,
}

impl Maker<'_> {
    fn add(&mut self, document: &Document, reader: &Documents) -> Result<()> {
        if self.open.bytes >= self.block_bytes {
            self.close();
        }
        let block = &mut self.open;
        if block.documents == 0 {
            block.first_document = document.ordinal;
            block.file = u32::try_from(reader.file()).expect("fewer than 2^32 files");
            block.byte_offset = reader.offset();
        }
        let (mut bytes, mut words) = (0, 0);
        for sentence in &document.sentences {
            bytes += sentence.text.len() as u64;
            words += sentence.words.len() as u64;
            for counter in &mut self.counters {
                counter.add(sentence)?;
            }
        }
        block.documents += 1;
        block.sentences += document.sentences.len() as u64;
        block.words += words;
        block.bytes += bytes;
        block.bad = reader.bad() - self.bad_before;
        self.files[reader.file()].documents += 1;
        self.calibration.offer(document.ordinal, if words > 0 { words } else { bytes.div_ceil(5) });
        Ok(())
    }

    fn close(&mut self) {
        let next = BlockPlan { index: self.open.index + 1, ..BlockPlan::default() };
        self.bad_before += self.open.bad;
        self.blocks.push(std::mem::replace(&mut self.open, next));
    }

    fn finish(
        mut self,
        config: &CorpusConfig,
        concepts: &[ConceptConfig],
        first: &Path,
    ) -> Result<Plan> {
        if self.open.documents > 0 {
            self.close();
        }
        let sum = |of: fn(&BlockPlan) -> u64| self.blocks.iter().map(of).sum::<u64>();
        let (documents, sentences) = (sum(|b| b.documents), sum(|b| b.sentences));
        let (words, bytes, bad) = (sum(|b| b.words), sum(|b| b.bytes), sum(|b| b.bad));
        if sentences == 0 {
            let what = "empty corpus: no document with text in it";
            return Err(Error::input(first, what, "check corpus.files and corpus.format"));
        }
        let mut next = 0;
        for file in &mut self.files {
            file.first_document = next;
            next += file.documents;
        }
        if let Some(absent) = self.counters.iter().position(|counter| !counter.seen()) {
            return Err(unknown_column(config, &concepts[absent].column)?);
        }
        let counted = self.counters.into_iter().map(ColumnCounter::finish);
        let counted: Vec<Counted> = counted.collect::<Result<_>>()?;
        let class_counts = counted.iter().flat_map(|column| column.counts.clone()).collect();
        let on_sentences = counted.iter().map(|column| column.on_sentences).collect();
        let labels = labels::number(concepts, counted)?;
        let (files, blocks) = (self.files, self.blocks);
        let calibration = self.calibration.finish();
        Ok(Plan {
            files,
            documents,
            sentences,
            words,
            bytes,
            bad,
            blocks,
            labels,
            class_counts,
            on_sentences,
            calibration,
        })
    }
}

/// The error for a column that never occurs, with the columns of the first documents.
fn unknown_column(config: &CorpusConfig, column: &str) -> Result<Error> {
    let mut seen = BTreeSet::new();
    let config = CorpusConfig { max_documents: Some(1000), max_bad: 1.0, ..config.clone() };
    for document in Documents::open(&config, Columns::all())? {
        for sentence in document?.sentences {
            let words = sentence.words.into_iter().flat_map(|word| word.labels);
            seen.extend(sentence.labels.into_iter().chain(words).map(|(name, _)| name));
        }
    }
    let names: Vec<&str> = seen.iter().map(String::as_str).collect();
    Ok(Error::config(
        format!("concepts[column = \"{column}\"]"),
        format!("the corpus has no column '{column}'{}", did_you_mean(column, names.clone())),
        if names.is_empty() {
            "the corpus has no labels: use CoNLL-U, label fields or corpus.file_labels".to_owned()
        } else {
            format!("choose among: {}", names.join(", "))
        },
    ))
}

/// A uniform sample of documents: those with the smallest hashes, until they have enough rows.
/// The same whatever order documents come in.
struct Calibration {
    rows: u64,
    seed: u64,
    kept_rows: u64,
    kept: BinaryHeap<(u64, u64, u64)>,
}

impl Calibration {
    fn new(rows: usize, seed: u64) -> Self {
        Self { rows: rows as u64, seed, kept_rows: 0, kept: BinaryHeap::new() }
    }

    fn offer(&mut self, ordinal: u64, rows: u64) {
        if rows == 0 || self.rows == 0 {
            return;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(&ordinal.to_le_bytes());
        let bytes = hasher.finalize();
        let bytes = bytes.as_bytes().first_chunk().expect("a hash has 32 bytes");
        self.kept.push((u64::from_le_bytes(*bytes), ordinal, rows));
        self.kept_rows += rows;
        while let Some(&(_, _, last)) = self.kept.peek()
            && self.kept_rows - last >= self.rows
        {
            self.kept.pop();
            self.kept_rows -= last;
        }
    }

    fn finish(self) -> Vec<u64> {
        let mut documents: Vec<u64> =
            self.kept.into_iter().map(|(_, ordinal, _)| ordinal).collect();
        documents.sort_unstable();
        documents
    }
}

#[cfg(test)]
mod tests {
    //! Oracle: the definition, computed by sorting everything.
    use super::*;

    #[test]
    fn calibration_is_the_shortest_prefix_by_hash() {
        let rows = |ordinal: u64| ordinal * 7 % 23;
        let all = |order: &mut dyn Iterator<Item = u64>, target| {
            let mut calibration = Calibration::new(target, 3);
            order.for_each(|ordinal| calibration.offer(ordinal, rows(ordinal)));
            calibration.finish()
        };
        let forward = all(&mut (0..500), 200);
        assert_eq!(forward, all(&mut (0..500).rev(), 200));
        let sum: u64 = forward.iter().map(|ordinal| rows(*ordinal)).sum();
        assert!((200..200 + 23).contains(&sum), "{sum} rows");
        assert!(all(&mut (0..500), 0).is_empty());
        assert!(all(&mut (0..500), 100).iter().all(|ordinal| forward.contains(ordinal)));
    }
}
