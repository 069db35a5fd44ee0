//! The states of one pass over blocks: what earlier attempts left, and what this one adds. At most one
//! finished node for each device stays in memory beside the running blocks; the others wait in segment
//! files until their other half is there, so that memory does not grow with the corpus.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::merge::{Node, Tree};
use super::segment::{Packed, RunId, SegmentWriter};
use super::segment_reader::{Loaded, StoredNode, load_folder, load_folders};
use crate::accumulate::{Merge, State};
use crate::corpus::block::Counts;
use crate::error::{Error, Result};

/// At most this long between two states on disk, unless the run file says otherwise.
pub const COMMIT_INTERVAL: Duration = Duration::from_secs(20);
/// States packed for the disk at a time: each takes its size once more.
const TOGETHER: usize = 4;
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
    /// Finished nodes that may stay in memory.
    keep: usize,
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
    /// And where it stands on disk, if it does.
    Memory(S, Option<Box<StoredNode>>),
    Disk(Box<StoredNode>),
    /// While it is merged.
    Nowhere,
}

impl<S: State> Held<S> {
    fn load(self) -> Result<S> {
        match self.place {
            Place::Memory(state, _) => Ok(state),
            Place::Disk(stored) => {
                let payload = stored.payload(self.reading.run_id)?;
                S::decode(&self.reading.plan, &payload)
            }
            Place::Nowhere => unreachable!("a state is merged into one node"),
        }
    }
}

impl<S: State> Held<S> {
    /// A state in memory as its record.
    fn pack(&self, node: Node) -> io::Result<Packed> {
        let mut payload = Vec::new();
        if let Place::Memory(state, _) = &self.place {
            state.encode(&mut payload);
        }
        Packed::new(node, &self.counts, &payload)
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
        *self = Self { counts: state.counts(), place: Place::Memory(state, None), reading };
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
            keep: 1,
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
        self.tree.nodes().filter(|(_, held)| matches!(held.place, Place::Memory(..))).count()
    }

    /// How many devices add blocks at once: as many finished nodes may stay in memory. Blocks come out of
    /// order then, so that with fewer places nearly each would go to the disk and be read again.
    pub(super) fn keep(&mut self, devices: usize) {
        self.keep = devices.max(1);
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
        let held = Held { counts: state.counts(), place: Place::Memory(state, None), reading };
        self.tree.insert(Node::block(block), held)?;
        if self.resident() > self.keep || self.last_commit.elapsed() >= self.interval {
            self.commit()?;
        }
        Ok(())
    }

    /// Puts every state that is only in memory on disk, and lets go of most.
    pub fn commit(&mut self) -> Result<()> {
        let nodes = self.tree.nodes();
        let new: Vec<_> =
            nodes.filter(|(_, held)| matches!(held.place, Place::Memory(_, None))).collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => SegmentWriter::create(&self.folder, self.reading.run_id)?,
        };
        for some in new.chunks(TOGETHER) {
            for packed in some.par_iter().map(|(node, held)| held.pack(*node)).collect::<Vec<_>>() {
                let packed = packed.map_err(Error::io(writer.path(), "compress for"))?;
                writer.append_packed(packed)?;
            }
        }
        writer.sync()?;
        let rotated = writer.should_rotate();
        let writer = if rotated { writer.rotate()? } else { writer };
        for (node, held) in self.tree.nodes_mut() {
            // The others stand where they stood, unless their file has gone.
            match &mut held.place {
                Place::Memory(_, stored) if rotated || stored.is_none() => {
                    *stored = writer.stored(node).map(Box::new);
                }
                Place::Disk(stored) if rotated => {
                    if let Some(moved) = writer.stored(node) {
                        **stored = moved;
                    }
                }
                _ => {}
            }
        }
        self.writer = Some(writer);
        self.last_commit = Instant::now();
        self.let_go();
        Ok(())
    }

    /// Lets go of states that are on disk, of the most blocks first: they wait longest for their other
    /// half. Half the places are then free, and with one place none is taken.
    fn let_go(&mut self) {
        let mut levels: Vec<u8> = self
            .tree
            .nodes()
            .filter(|(_, held)| matches!(held.place, Place::Memory(..)))
            .map(|(node, _)| node.level)
            .collect();
        levels.sort_unstable();
        let mut over = levels.len().saturating_sub(self.keep / 2);
        for level in levels.split_off(levels.len() - over).into_iter().rev() {
            let on_disk = |(node, held): &(Node, &mut Held<S>)| {
                node.level == level && matches!(held.place, Place::Memory(_, Some(_)))
            };
            if let Some((_, held)) = self.tree.nodes_mut().find(on_disk)
                && let Place::Memory(_, Some(stored)) =
                    std::mem::replace(&mut held.place, Place::Nowhere)
            {
                held.place = Place::Disk(stored);
                over -= 1;
            }
        }
        debug_assert_eq!(over, 0, "all of them are on disk");
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
