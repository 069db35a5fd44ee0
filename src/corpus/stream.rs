//! Blocks in order, read in one thread and tokenised in parallel ahead of their consumer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rayon::prelude::*;

use super::align::{RowRules, align};
use super::block::{Block, Counts, Sequence};
use super::config::{ConceptConfig, CorpusConfig};
use super::document::Document;
use super::labels::LabelIndex;
use super::plan::{BlockPlan, Plan};
use super::read::source::{Source, sources};
use super::read::{Columns, Documents, Start};
use super::tokenize::Tokenizer;
use crate::config::Pool;
use crate::error::{Error, Result};

/// Finished blocks that wait for their consumer; one more is in the making.
const AHEAD: usize = 2;

/// All that decides what a block holds, beside the corpus itself.
#[derive(Clone)]
pub struct BlockRules {
    /// The plan of the corpus.
    pub plan: Arc<Plan>,
    /// The configuration it was made from.
    pub config: CorpusConfig,
    /// The concepts it was made from.
    pub concepts: Vec<ConceptConfig>,
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// How tokens become rows.
    pub rows: RowRules,
}

/// Blocks of a corpus, in the order asked for.
pub struct BlockStream {
    blocks: Option<Receiver<Result<Block>>>,
    worker: Option<JoinHandle<()>>,
}

impl BlockStream {
    /// Begins to read. `blocks` are numbers of the plan, ascending.
    pub fn start(rules: BlockRules, blocks: Vec<u32>) -> Result<Self> {
        Self::start_for(1, rules, blocks)
    }

    /// As [`BlockStream::start`], far enough ahead for so many consumers at once.
    pub fn start_for(consumers: usize, rules: BlockRules, blocks: Vec<u32>) -> Result<Self> {
        assert!(blocks.is_sorted_by(|a, b| a < b), "blocks are asked for in ascending order");
        check_pooling(&rules)?;
        let columns = rules.concepts.iter().map(|concept| concept.column.as_str());
        let reader = BlockReader::new(&rules.plan, &rules.config, Columns::only(columns))?;
        let (sender, receiver) = sync_channel(consumers.max(AHEAD));
        let worker = std::thread::Builder::new()
            .name("corpus".to_owned())
            .spawn(move || work(&rules, reader, &blocks, &sender))
            .map_err(Error::io("corpus thread", "create"))?;
        Ok(Self { blocks: Some(receiver), worker: Some(worker) })
    }
}

impl Iterator for BlockStream {
    type Item = Result<Block>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(block) = self.blocks.as_ref()?.recv() {
            return Some(block);
        }
        self.blocks = None;
        // The worker is done; if it was by a panic, that is the program's.
        if let Some(Err(panic)) = self.worker.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        None
    }
}

impl Drop for BlockStream {
    fn drop(&mut self) {
        self.blocks = None; // The worker's next send fails, and it ends.
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// Sentence pooling can only use what sentences carry as a whole.
fn check_pooling(rules: &BlockRules) -> Result<()> {
    let pool = rules.rows.pool;
    if matches!(pool, Pool::None | Pool::First | Pool::Last | Pool::Mean) {
        return Ok(());
    }
    let absent = rules.plan.on_sentences.iter().position(|on_sentences| !on_sentences);
    match absent {
        None => Ok(()),
        Some(column) => Err(Error::config(
            "capture.pool",
            format!(
                "rows are sentences, but column '{}' labels words only",
                rules.plan.labels.columns[column].name
            ),
            "pool words (first, last, mean), or take labels of whole sentences \
             (JSONL or Parquet fields, corpus.file_labels)",
        )),
    }
}

/// The worker thread: reads and tokenises until all is done, something fails, or nobody listens.
fn work(
    rules: &BlockRules,
    mut reader: BlockReader,
    blocks: &[u32],
    sender: &SyncSender<Result<Block>>,
) {
    let labels = LabelIndex::new(&rules.plan.labels, &rules.concepts);
    for index in blocks {
        let planned = rules.plan.blocks[*index as usize];
        let block = reader.read(&planned).and_then(|documents| {
            let (sequences, mut counts) =
                tokenize_documents(&documents, &rules.tokenizer, &labels, &rules.rows)?;
            counts.bad = planned.bad;
            Ok(Block { index: *index, sequences, counts })
        });
        let failed = block.is_err();
        if sender.send(block).is_err() || failed {
            return;
        }
    }
}

/// Tokenises documents in parallel; the result is in their order, whatever the threads.
pub fn tokenize_documents(
    documents: &[Document],
    tokenizer: &Tokenizer,
    labels: &LabelIndex,
    rules: &RowRules,
) -> Result<(Vec<Sequence>, Counts)> {
    let parts: Vec<Result<(Vec<Sequence>, Counts)>> =
        documents.par_iter().map(|document| align(document, tokenizer, labels, rules)).collect();
    let mut sequences = Vec::new();
    let mut counts = Counts::default();
    for part in parts {
        let (more, counted) = part?;
        sequences.extend(more);
        counts += counted;
    }
    Ok((sequences, counts))
}

/// Reads single documents again (contexts, calibration), ascending, with all their labels.
pub fn documents(
    plan: &Plan,
    config: &CorpusConfig,
    wanted: &BTreeSet<u64>,
) -> Result<Vec<Document>> {
    let mut reader = BlockReader::new(plan, config, Columns::all())?;
    let mut found = Vec::with_capacity(wanted.len());
    let mut wanted = wanted.iter().copied().peekable();
    while let Some(first) = wanted.peek().copied() {
        let Some(block) = plan.block_of(first) else {
            let what = format!("document {first} of a corpus of {}", plan.documents);
            return Err(Error::Contradiction { what });
        };
        let end = block.first_document + block.documents;
        while let Some(ordinal) = wanted.next_if(|ordinal| *ordinal < end) {
            found.push(reader.document(block, ordinal)?);
        }
    }
    Ok(found)
}

/// Reads blocks of a plan, jumping over those not wanted where the format allows.
struct BlockReader {
    sources: Arc<Vec<Source>>,
    first_documents: Vec<u64>,
    config: CorpusConfig,
    columns: Columns,
    open: Option<Documents>,
}

impl BlockReader {
    /// Checks that the files are still those of the plan.
    fn new(plan: &Plan, config: &CorpusConfig, columns: Columns) -> Result<Self> {
        let sources = sources(config)?;
        if sources.len() != plan.files.len() {
            let what = format!("{} files, the plan has {}", sources.len(), plan.files.len());
            return Err(changed(&sources[0], &what));
        }
        for (source, planned) in sources.iter().zip(&plan.files) {
            let path = &source.path;
            let bytes = std::fs::metadata(path).map_err(Error::io(path, "read"))?.len();
            if bytes != planned.bytes {
                let what = format!("{bytes} bytes, the plan says {}", planned.bytes);
                return Err(changed(source, &what));
            }
        }
        let first_documents = plan.files.iter().map(|file| file.first_document).collect();
        let (sources, config) = (Arc::new(sources), config.clone());
        Ok(Self { sources, first_documents, config, columns, open: None })
    }

    /// All documents of a block.
    fn read(&mut self, block: &BlockPlan) -> Result<Vec<Document>> {
        let end = block.first_document + block.documents;
        let documents: Vec<Document> = (block.first_document..end)
            .map(|ordinal| self.document(block, ordinal))
            .collect::<Result<_>>()?;
        let sentences = || documents.iter().flat_map(|document| &document.sentences);
        let found = (
            sentences().count() as u64,
            sentences().map(|sentence| sentence.words.len() as u64).sum::<u64>(),
            sentences().map(|sentence| sentence.text.len() as u64).sum::<u64>(),
        );
        if found != (block.sentences, block.words, block.bytes) {
            let what = format!("block {} is not the one that was planned", block.index);
            return Err(changed(&self.sources[block.file as usize], &what));
        }
        Ok(documents)
    }

    /// One document of a block.
    fn document(&mut self, block: &BlockPlan, ordinal: u64) -> Result<Document> {
        let mut open = match self.open.take() {
            Some(open) if self.goes_on(&open, block, ordinal) => open,
            _ => self.open_at(block)?,
        };
        while let Some(document) = open.advance()? {
            if document.ordinal == ordinal {
                self.open = Some(open);
                return Ok(document);
            }
        }
        let what = format!("it ends before document {ordinal}");
        Err(changed(&self.sources[block.file as usize], &what))
    }

    /// Whether reading on gets to a document at least as fast as opening at its block.
    fn goes_on(&self, open: &Documents, block: &BlockPlan, ordinal: u64) -> bool {
        let next = open.next_ordinal();
        let near = next >= block.first_document;
        let file = block.file as usize;
        let must = block.byte_offset.is_none() && next >= self.first_documents[file];
        next <= ordinal && (near || must)
    }

    fn open_at(&self, block: &BlockPlan) -> Result<Documents> {
        let file = block.file as usize;
        let start = match block.byte_offset {
            Some(offset) => Start { file, offset, ordinal: block.first_document },
            None => Start { file, offset: 0, ordinal: self.first_documents[file] },
        };
        Documents::at(Arc::clone(&self.sources), &self.config, self.columns.clone(), start)
    }
}

/// The corpus is not the one that was planned.
fn changed(source: &Source, what: &str) -> Error {
    Error::input(
        &source.path,
        format!("the corpus changed since the run was planned: {what}"),
        "restore it, or begin a new run in another folder",
    )
}
