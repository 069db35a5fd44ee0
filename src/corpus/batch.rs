//! One device call: sequences packed end to end without padding.

use super::block::Sequence;
use crate::id::RowId;

/// Sequences packed end to end. The plan of a block's batches is a function of the block and the
/// token budget alone, so results do not depend on who runs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Token ids of all sequences, `[T]`.
    pub tokens: Vec<u32>,
    /// Where each sequence starts, and the end: `[S + 1]`.
    pub starts: Vec<u32>,
    /// First token (in the batch) of each row, `[R]`.
    pub row_first: Vec<u32>,
    /// Number of tokens of each row, `[R]`.
    pub row_len: Vec<u32>,
    /// Who each row is, `[R]`.
    pub row_ids: Vec<RowId>,
    /// Where each row's groups start in `groups`, and the end: `[R + 1]`.
    pub group_starts: Vec<u32>,
    /// Group ids, row by row.
    pub groups: Vec<u32>,
}

impl Batch {
    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.row_first.len()
    }
}

/// Packs sequences in order: a batch is closed when the next sequence would pass `token_budget`.
/// A single sequence longer than the budget makes a batch of its own.
pub fn pack(sequences: &[Sequence], token_budget: usize) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut batch = Batch::empty();
    for sequence in sequences {
        if !batch.tokens.is_empty() && batch.tokens.len() + sequence.tokens.len() > token_budget {
            batches.push(std::mem::replace(&mut batch, Batch::empty()));
        }
        batch.push(sequence);
    }
    if batch.sequences() > 0 {
        batches.push(batch);
    }
    batches
}

impl Batch {
    /// A batch with no sequence.
    pub fn empty() -> Self {
        Self { starts: vec![0], group_starts: vec![0], ..Self::default() }
    }

    /// Adds a sequence at the end.
    pub fn push(&mut self, sequence: &Sequence) {
        let start = index(self.tokens.len());
        self.tokens.extend_from_slice(&sequence.tokens);
        self.starts.push(index(self.tokens.len()));
        for row in &sequence.rows {
            self.row_first.push(start + row.first);
            self.row_len.push(row.len);
            self.row_ids.push(row.id);
            self.groups.extend_from_slice(&row.groups);
            self.group_starts.push(index(self.groups.len()));
        }
    }
}

/// Batches hold fewer than 2^32 tokens: the token budget is checked when the run is resolved.
fn index(n: usize) -> u32 {
    u32::try_from(n).expect("a batch has fewer than 2^32 tokens")
}
