//! The states of one pass over blocks: what earlier attempts left, and what this one adds. At most one
//! finished node stays in memory beside the running block; the others wait in segment files until
//! their other half is there, so that memory does not grow with the corpus.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::merge::{Node, Tree};
use super::segment::{RunId, SegmentWriter};
use super::segment_reader::{Loaded, StoredNode, load_folder, load_folders};
use crate::accumulate::{Merge, State};
use crate::corpus::block::Counts;
use crate::error::{Error, Result};

/// At most this long between two states on disk, unless the run file says otherwise.
pub const COMMIT_INTERVAL: Duration = Duration::from_secs(20);
/// Finished nodes kept in memory.
const RESIDENT: usize = 1;
/// The same while stored ones are merged, which come in the order of their blocks: of n blocks without a
/// gap log2 n are waiting at a time, and with gaps never more than twice this.
const LOADED: usize = 24;

/// See the module.
pub struct States<S: State> {
    folder: PathBuf,
    reading: Arc<Reading<S>>,
    tree: Tree<Held<S>>,
    writer: Option<SegmentWriter>,
    last_commit: Instant,
    interval: Duration,
}

/// What it takes to read a state from its file.
struct Reading<S: State> {
    run_id: RunId,
    plan: S::Plan,
}

/// A node's state, here or on disk.
struct Held<S: State> {
    place: Place<S>,
    counts: Counts,
    reading: Arc<Reading<S>>,
}

enum Place<S> {
    Memory(S),
    Disk(Box<StoredNode>),
    /// While it is merged.
    Nowhere,
}

impl<S: State> Held<S> {
    fn load(self) -> Result<S> {
        match self.place {
            Place::Memory(state) => Ok(state),
            Place::Disk(stored) => {
                let payload = stored.payload(self.reading.run_id)?;
                S::decode(&self.reading.plan, &payload)
            }
            Place::Nowhere => unreachable!("a state is merged into one node"),
        }
    }
}

impl<S: State> Merge for Held<S> {
    fn merge(&mut self, later: Self) -> Result<()> {
        let reading = Arc::clone(&self.reading);
        let empty = Self {
            place: Place::Nowhere,
            counts: Counts::default(),
            reading: Arc::clone(&reading),
        };
        let earlier = std::mem::replace(self, empty);
        let on_disk = |held: &Self| matches!(held.place, Place::Disk(_));
        // Unpacking is most of the work of a merge of many segments.
        let (state, later) = if on_disk(&earlier) && on_disk(&later) {
            rayon::join(|| earlier.load(), || later.load())
        } else {
            (earlier.load(), later.load())
        };
        let mut state = state?;
        state.merge(later?)?;
        *self = Self { counts: state.counts(), place: Place::Memory(state), reading };
        Ok(())
    }
}

impl<S: State> States<S> {
    /// Finds what earlier attempts of the same run finished.
    pub fn load(folder: &Path, run_id: RunId, plan: S::Plan) -> Result<Self> {
        Self::with(folder, load_folder(folder, run_id)?, (run_id, plan))
    }

    /// As [`Self::load`], of several folders, whose files are left as they are: what is written goes
    /// to the first.
    ///
    /// # Panics
    /// If there is no folder.
    pub fn load_all(folders: &[PathBuf], run_id: RunId, plan: S::Plan) -> Result<Self> {
        Self::with(&folders[0], load_folders(folders, run_id)?, (run_id, plan))
    }

    fn with(folder: &Path, loaded: Loaded, (run_id, plan): (RunId, S::Plan)) -> Result<Self> {
        let reading = Arc::new(Reading { run_id, plan });
        let Loaded { nodes, damage } = loaded;
        for damage in &damage {
            tracing::warn!(?damage, "a stored state is unusable; its blocks are done again");
        }
        let mut states = Self {
            folder: folder.to_path_buf(),
            reading: Arc::clone(&reading),
            tree: Tree::new(),
            writer: None,
            last_commit: Instant::now(),
            interval: COMMIT_INTERVAL,
        };
        let mut merged = 0;
        for stored in nodes {
            let (node, counts) = (stored.node, stored.counts);
            let place = Place::Disk(Box::new(stored));
            let held = Held { place, counts, reading: Arc::clone(&reading) };
            merged += usize::from(states.tree.insert(node, held)? != node);
            if merged >= LOADED {
                merged = 0;
                if states.resident() > LOADED {
                    states.commit()?;
                }
            }
        }
        Ok(states)
    }

    /// Nodes whose states are in memory.
    fn resident(&self) -> usize {
        self.tree.nodes().filter(|(_, held)| matches!(held.place, Place::Memory(_))).count()
    }

    /// Another time between two states on disk; zero for a state after every block.
    #[must_use]
    pub fn commit_every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Blocks that no state covers yet, ascending.
    pub fn missing(&self, blocks: u32) -> Vec<u32> {
        (0..blocks).filter(|block| !self.tree.contains(*block)).collect()
    }

    /// Tokens of the blocks that are done.
    pub fn tokens(&self) -> u64 {
        self.tree.nodes().map(|(_, held)| held.counts.tokens).sum()
    }

    /// Takes a finished block in; writes to disk when it is time.
    pub fn add(&mut self, block: u32, state: S) -> Result<()> {
        let reading = Arc::clone(&self.reading);
        let held = Held { counts: state.counts(), place: Place::Memory(state), reading };
        self.tree.insert(Node::block(block), held)?;
        if self.resident() > RESIDENT || self.last_commit.elapsed() >= self.interval {
            self.commit()?;
        }
        Ok(())
    }

    /// Puts every state that is only in memory on disk, and lets it go.
    pub fn commit(&mut self) -> Result<()> {
        let in_memory = |held: &Held<S>| matches!(held.place, Place::Memory(_));
        if !self.tree.nodes().any(|(_, held)| in_memory(held)) {
            return Ok(());
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => SegmentWriter::create(&self.folder, self.reading.run_id)?,
        };
        let mut payload = Vec::new();
        for (node, held) in self.tree.nodes() {
            if let Place::Memory(state) = &held.place {
                payload.clear();
                state.encode(&mut payload);
                writer.append(node, &held.counts, &payload)?;
            }
        }
        writer.sync()?;
        let rotated = writer.should_rotate();
        let writer = if rotated { writer.rotate()? } else { writer };
        for (node, held) in self.tree.nodes_mut() {
            // The others stand where they stood, unless their file has gone.
            let moved = rotated || matches!(held.place, Place::Memory(_));
            if moved && let Some(stored) = writer.stored(node) {
                held.place = Place::Disk(Box::new(stored));
            }
        }
        self.writer = Some(writer);
        self.last_commit = Instant::now();
        Ok(())
    }

    /// Takes back what this attempt has put on the disk: its blocks count as not done.
    pub fn take_back(&mut self) -> Result<()> {
        match self.writer.take() {
            Some(writer) => writer.remove(),
            None => Ok(()),
        }
    }

    /// What there is, merged, of an unfinished pass: `None` of no blocks. Its bits depend on which
    /// blocks are there.
    pub fn fold(mut self) -> Result<Option<S>> {
        self.commit()?;
        self.tree.fold()?.map(Held::load).transpose()
    }

    /// The merged state, once every block is in.
    pub fn finish(mut self, blocks: u32) -> Result<S> {
        self.commit()?;
        let merged = self.tree.finish(blocks)?.ok_or_else(|| Error::Contradiction {
            what: "a pass over no blocks has nothing to merge".into(),
        })?;
        merged.load()
    }
}
