//! `extract --corpus`: the activations of every word of a corpus, streamed to a safetensors file
//! whose rows stand in corpus order, with one row of a table for each. The corpus is read twice:
//! once for the rows, and once for the devices, which share it.

use std::collections::{BTreeMap, BTreeSet};

use std::io::Write as _;

use std::path::Path;

use crate::artifact::words::check_columns;
use crate::capture::intervention::Intervention;
use crate::config::Pool;
use crate::corpus::align::RowRules;
use crate::corpus::batch::{Batch, pack};
use crate::corpus::block::{Counts, Sequence};
use crate::corpus::config::CorpusConfig;
use crate::corpus::document::Document;
use crate::corpus::labels::LabelIndex;
use crate::corpus::read::{Columns, Documents};
use crate::corpus::stream::tokenize_documents;
use crate::corpus::tokenize::Tokenizer;
use crate::device::forward::{Forward, ForwardInput, Limits, SiteWork};
use crate::device::ops::{Edit, Ops, RowRuns};
use crate::device::site_view::{SiteView, SiteVisitor};
use crate::disk::File;
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::share::share;
use crate::engine::tokenizer::open_tokenizer;
use crate::engine::watch::pooling;
use crate::engine::word_rows::Words;
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};
use crate::model::Model;

/// Tokens of a device call.
const BATCH_TOKENS: usize = 2048;
/// Documents tokenised together.
const DOCUMENTS: usize = 64;

/// What `extract --corpus` asks for.
#[derive(Clone, Debug)]
pub struct WordRequest {
    /// The corpus.
    pub corpus: CorpusConfig,
    /// How subwords become words.
    pub pool: Pool,
    /// Site names and globs.
    pub sites: Vec<String>,
    /// Edits.
    pub intervention: Option<Intervention>,
}

/// Everything that stays the same over the corpus.
struct Extraction<'a> {
    request: &'a WordRequest,
    tokenizer: Tokenizer,
    rules: RowRules,
    sites: Vec<Site>,
    longest: usize,
}

/// Some documents' sequences, and where their rows stand in the file.
struct Chunk {
    sequences: Vec<Sequence>,
    row: usize,
}

/// What every device does alike.
struct Task<'a> {
    wanted: &'a BTreeSet<Site>,
    edits: &'a BTreeMap<Site, Vec<Edit>>,
    layout: &'a Layout,
    pool: Pool,
    file: &'a File,
    path: &'a Path,
}

/// Runs the corpus on all devices and writes every site to `file`: `(words, N)` float32 each. Rows
/// have their places beforehand, so that it does not matter who writes which, and when.
pub fn extract_words<O: Device>(
    slots: Vec<Slot<'_, O>>,
    model: &Model,
    request: &WordRequest,
    (file, path): (&mut File, &Path),
) -> Result<Words> {
    let extraction = Extraction::new(model, request)?;
    let edits = extraction.edits(model)?;
    let words = extraction.words()?;
    check_columns(path, &words.columns)?;
    if words.counts.words == 0 && request.pool != Pool::None {
        tracing::warn!("the corpus has no words: each row is a token");
    }
    if words.rows.is_empty() {
        return Err(Error::input(
            &request.corpus.files[0],
            "no word has a token",
            "check the format and the tokenizer",
        ));
    }
    let layout = Layout::new(model, &extraction.sites, words.rows.len());
    file.write_all(&layout.header).map_err(Error::io(path, "write"))?;
    let wanted: BTreeSet<Site> = extraction.sites.iter().copied().collect();
    let longest = extraction.longest;
    let limits = Limits { tokens: BATCH_TOKENS.max(longest), sequence: longest };
    let mut fleet = Fleet::new(slots, Setup::forward(model, limits, &wanted));
    let (file, pool) = (&*file, request.pool);
    let task = Task { wanted: &wanted, edits: &edits, layout: &layout, pool, file, path };
    let mut next = 0;
    let pieces = extraction.chunks()?.map(|chunk| {
        let (_, sequences, _) = chunk?;
        let row = next;
        next += sequences.iter().map(|sequence| sequence.rows.len()).sum::<usize>();
        Ok(Chunk { sequences, row })
    });
    share(&mut fleet, pieces, |forward, chunk| task.run(forward, chunk), Ok)?;
    Ok(words)
}

impl Task<'_> {
    fn run<O: Ops>(&self, forward: &mut Forward<O>, chunk: &Chunk) -> Result<()> {
        let mut writer = RowWriter::new(forward, self, chunk.row)?;
        let budget = BATCH_TOKENS.min(forward.limits().tokens);
        for batch in &pack(&chunk.sequences, budget) {
            writer.batch = Some(batch);
            let (wanted, edits) = (self.wanted, self.edits);
            let mut work = SiteWork { wanted, edits, visitor: &mut writer };
            forward.run(ForwardInput::of(batch), &mut work)?;
            writer.row += batch.rows();
        }
        Ok(())
    }
}

impl<'a> Extraction<'a> {
    fn new(model: &Model, request: &'a WordRequest) -> Result<Self> {
        let tokenizer = open_tokenizer(model, request.corpus.add_bos)?;
        let sites = model.spec.select_sites(&request.sites)?;
        let per_sequence = model.spec.logits_per_sequence();
        let by_token = |site: &Site| match site.kind {
            SiteKind::AttnProbs | SiteKind::Pooled => false,
            SiteKind::Logits => !per_sequence,
            _ => true,
        };
        let sites: Vec<Site> = sites.into_iter().filter(by_token).collect();
        if sites.is_empty() {
            let what = format!("{:?} names no site with a row per token", request.sites);
            return Err(Error::config("--sites", what, "try layers.*.resid_post"));
        }
        let longest = model.spec.sequence_limit(request.corpus.max_tokens);
        let of_words = RowRules::of_words(request.pool, longest);
        let rules = RowRules { long: request.corpus.long, ..of_words };
        Ok(Self { request, tokenizer, rules, sites, longest })
    }

    fn edits(&self, model: &Model) -> Result<BTreeMap<Site, Vec<Edit>>> {
        let intervention = self.request.intervention.as_ref();
        intervention.map_or_else(|| Ok(BTreeMap::new()), |all| all.of_corpus(&model.spec))
    }

    /// Who the rows are, and what was read and lost.
    fn words(&self) -> Result<Words> {
        let mut words = Words::default();
        let by_word = RowRules { pool: Pool::Mean, ..self.rules.clone() };
        let labels = LabelIndex::default();
        for chunk in self.chunks()? {
            let (documents, sequences, counts) = chunk?;
            words.counts += counts;
            // Rows that are tokens take the labels of the words they belong to.
            let (words_of, _) = match self.request.pool {
                Pool::None => tokenize_documents(&documents, &self.tokenizer, &labels, &by_word)?,
                _ => (Vec::new(), Counts::default()),
            };
            words.describe(&documents, (&sequences, &words_of), &self.tokenizer)?;
        }
        Ok(words)
    }

    /// Reads the corpus once, a few documents at a time.
    fn chunks(&self) -> Result<impl Iterator<Item = Result<Tokenized>> + Send> {
        let mut reader = Documents::open(&self.request.corpus, Columns::all())?;
        let labels = LabelIndex::default();
        let mut ended = false;
        let mut next = move || {
            if ended {
                return Ok(None);
            }
            let mut documents = Vec::new();
            while documents.len() < DOCUMENTS && !ended {
                match reader.advance()? {
                    Some(document) => documents.push(document),
                    None => ended = true,
                }
            }
            if ended {
                reader.judge()?;
            }
            let (sequences, counts) =
                tokenize_documents(&documents, &self.tokenizer, &labels, &self.rules)?;
            Ok(Some((documents, sequences, counts)))
        };
        Ok(std::iter::from_fn(move || next().transpose()))
    }
}

/// A few documents, their sequences, and what became of them.
type Tokenized = (Vec<Document>, Vec<Sequence>, Counts);

/// Where each site's matrix stands in the file.
struct Layout {
    header: Vec<u8>,
    /// Width and first byte.
    places: BTreeMap<Site, (usize, u64)>,
}

impl Layout {
    fn new(model: &Model, sites: &[Site], rows: usize) -> Self {
        let mut places = BTreeMap::new();
        let mut entries = serde_json::Map::new();
        let mut end = 0_u64;
        for &site in sites {
            let width = model.spec.site_width(site);
            let start = end;
            end += 4 * (rows * width) as u64;
            places.insert(site, (width, start));
            let entry = serde_json::json!({
                "dtype": "F32", "shape": [rows, width], "data_offsets": [start, end]
            });
            entries.insert(site.to_string(), entry);
        }
        let mut json = serde_json::Value::Object(entries).to_string().into_bytes();
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.extend(json);
        for (_, start) in places.values_mut() {
            *start += header.len() as u64;
        }
        Self { header, places }
    }
}

/// Writes pooled rows where they belong.
struct RowWriter<'a, O: Ops> {
    task: &'a Task<'a>,
    batch: Option<&'a Batch>,
    /// Rows of the file before those of the batch.
    row: usize,
    pooled: BTreeMap<usize, O::Tensor>,
    values: Vec<f32>,
}

impl<'a, O: Ops> RowWriter<'a, O> {
    fn new(forward: &Forward<O>, task: &'a Task<'a>, row: usize) -> Result<Self> {
        let mut pooled = BTreeMap::new();
        for &(width, _) in task.layout.places.values() {
            if let std::collections::btree_map::Entry::Vacant(entry) = pooled.entry(width) {
                entry.insert(forward.ops().tensor(forward.limits().tokens, width)?);
            }
        }
        Ok(Self { task, batch: None, row, pooled, values: Vec::new() })
    }
}

impl<O: Ops> SiteVisitor<O> for RowWriter<'_, O> {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        let batch = self.batch.expect("a batch was announced");
        let (width, start) = self.task.layout.places[&view.site];
        let pooled = self.pooled.get_mut(&width).expect("made for every width");
        ops.set_rows(pooled, batch.rows());
        let runs = RowRuns { first: &batch.row_first, len: &batch.row_len };
        // Rows of one token are gathered, longer ones put together.
        let how = pooling(self.task.pool).unwrap_or(crate::device::ops::Pooling::First);
        ops.pool(how, runs, view.values, pooled);
        ops.read(pooled, &mut self.values)?;
        let at = start + 4 * (self.row * width) as u64;
        self.task
            .file
            .write_all_at(bytemuck::cast_slice(&self.values), at)
            .map_err(Error::io(self.task.path, "write"))
    }
}
