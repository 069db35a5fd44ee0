//! The fixed binary tree over block numbers along which states are merged. What comes out is a
//! function of the blocks alone: not of who made them, in which order they came, nor of how often
//! a run was stopped.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::accumulate::Merge;
use crate::error::{Error, Result};

/// A place in the tree: blocks `index << level` up to `(index + 1) << level`, without the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// 0 is a single block.
    pub level: u8,
    /// Counted along its level.
    pub index: u32,
}

impl Node {
    /// The largest level: block numbers have 32 bits.
    pub const MAX_LEVEL: u8 = 32;

    /// The node of a single block.
    pub fn block(index: u32) -> Self {
        Self { level: 0, index }
    }

    /// The blocks it stands for.
    pub fn blocks(self) -> Range<u64> {
        u64::from(self.index) << self.level..(u64::from(self.index) + 1) << self.level
    }

    /// Whether it is a place at all: its blocks have 32-bit numbers.
    pub fn is_valid(self) -> bool {
        self.level <= Self::MAX_LEVEL && self.blocks().end <= 1 << 32
    }

    /// Whether all blocks of `other` are among its own.
    pub fn covers(self, other: Self) -> bool {
        let (mine, theirs) = (self.blocks(), other.blocks());
        mine.start <= theirs.start && theirs.end <= mine.end
    }

    /// The other half of its parent.
    fn sibling(self) -> Self {
        Self { level: self.level, index: self.index ^ 1 }
    }

    fn parent(self) -> Self {
        Self { level: self.level + 1, index: self.index / 2 }
    }

    /// The nodes that it is a part of, smallest first.
    pub(super) fn above(self) -> impl Iterator<Item = Self> {
        let next = |node: &Self| (node.level < Self::MAX_LEVEL).then(|| node.parent());
        std::iter::successors(next(&self), next)
    }
}

/// Finished nodes waiting for their other halves: at most two per level for each run of
/// neighbouring blocks.
#[derive(Clone, Debug)]
pub struct Tree<S> {
    /// By first block; no two overlap.
    waiting: BTreeMap<u64, (Node, S)>,
}

impl<S> Default for Tree<S> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new() }
    }
}

impl<S: Merge> Tree<S> {
    /// A tree without blocks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a finished node, in any order, and merges each pair of halves that is then complete.
    /// Returns the node that the state went into.
    pub fn insert(&mut self, node: Node, state: S) -> Result<Node> {
        assert!(node.is_valid(), "{node:?} is no place in the tree");
        if let Some(held) = self.overlapping(node) {
            return Err(Error::Contradiction {
                what: format!(
                    "blocks {:?} were given to the merge twice, as {node:?} and in {held:?}",
                    node.blocks()
                ),
            });
        }
        let (mut node, mut state) = (node, state);
        while node.level < Node::MAX_LEVEL {
            let start = node.sibling().blocks().start;
            match self.waiting.get(&start) {
                Some((other, _)) if *other == node.sibling() => {}
                _ => break,
            }
            let (other, half) = self.waiting.remove(&start).expect("just seen");
            if other.index < node.index {
                let later = std::mem::replace(&mut state, half);
                state.merge(later)?;
            } else {
                state.merge(half)?;
            }
            node = node.parent();
        }
        self.waiting.insert(node.blocks().start, (node, state));
        Ok(node)
    }

    /// Nodes that are held, in the order of their blocks.
    pub fn nodes(&self) -> impl Iterator<Item = (Node, &S)> {
        self.waiting.values().map(|(node, state)| (*node, state))
    }

    /// Held nodes whose states may be put elsewhere, in the order of their blocks.
    pub fn nodes_mut(&mut self) -> impl Iterator<Item = (Node, &mut S)> {
        self.waiting.values_mut().map(|(node, state)| (*node, state))
    }

    /// The state of a held node.
    pub fn get(&self, node: Node) -> Option<&S> {
        let (held, state) = self.waiting.get(&node.blocks().start)?;
        (*held == node).then_some(state)
    }

    /// Whether a block has been inserted.
    pub fn contains(&self, block: u32) -> bool {
        self.overlapping(Node::block(block)).is_some()
    }

    /// Blocks below `total_blocks` that are not there yet.
    pub fn missing(&self, total_blocks: u32) -> Vec<Range<u64>> {
        let total = u64::from(total_blocks);
        let mut missing = Vec::new();
        let mut next = 0;
        for (node, _) in self.nodes() {
            let blocks = node.blocks();
            if next < blocks.start.min(total) {
                missing.push(next..blocks.start.min(total));
            }
            next = blocks.end;
        }
        if next < total {
            missing.push(next..total);
        }
        missing
    }

    /// Merges what is left into one: `None` for no blocks.
    ///
    /// With all blocks there, the nodes left over are those of the binary digits of
    /// `total_blocks`, largest first. They fold from the right: the last but one absorbs the last,
    /// the one before absorbs that, and so on, an order that depends on `total_blocks` alone.
    pub fn finish(self, total_blocks: u32) -> Result<Option<S>> {
        let missing = self.missing(total_blocks);
        if !missing.is_empty() {
            return Err(Error::Unfinished {
                what: format!("of {total_blocks} blocks these are missing: {}", listed(&missing)),
            });
        }
        if let Some((node, _)) = self.nodes().last()
            && node.blocks().end > u64::from(total_blocks)
        {
            return Err(Error::Contradiction {
                what: format!("the plan has {total_blocks} blocks, a state holds {node:?}"),
            });
        }
        self.fold()
    }

    /// Merges whatever is there, from the right: what a partial result shows of an unfinished
    /// run. Its bits depend on which blocks are there.
    pub fn fold(self) -> Result<Option<S>> {
        let mut states = self.waiting.into_values().rev().map(|(_, state)| state);
        let Some(mut later) = states.next() else { return Ok(None) };
        for mut earlier in states {
            earlier.merge(later)?;
            later = earlier;
        }
        Ok(Some(later))
    }

    /// A held node that shares blocks with `node`.
    fn overlapping(&self, node: Node) -> Option<Node> {
        let (held, _) = self.waiting.range(..node.blocks().end).next_back()?.1;
        (held.blocks().end > node.blocks().start).then_some(*held)
    }
}

/// Block ranges for a message: the first few of them.
fn listed(ranges: &[Range<u64>]) -> String {
    const SHOWN: usize = 8;
    let mut parts: Vec<String> = ranges
        .iter()
        .take(SHOWN)
        .map(|range| match range.end - range.start {
            1 => range.start.to_string(),
            _ => format!("{}-{}", range.start, range.end - 1),
        })
        .collect();
    if ranges.len() > SHOWN {
        parts.push(format!("and {} more runs of blocks", ranges.len() - SHOWN));
    }
    parts.join(", ")
}
