//! Who the rows of a corpus are, in its order: their classes by label column, and their part of the
//! data. Eight bytes a row and column or so; activations are elsewhere.

use super::split::{Part, Split};
use crate::corpus::block::{Counts, Labels};
use crate::corpus::stream::{BlockRules, BlockStream};
use crate::error::Result;

/// Instead of a class, for rows without one.
pub const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct RowTable {
    /// The part of each row.
    pub parts: Vec<Part>,
    /// By label column: the class of each row, or [`NONE`].
    pub classes: Vec<Vec<u32>>,
    /// Whether each row goes on with the sentence of the row before it.
    pub continues: Vec<bool>,
    /// What was read and what was lost.
    pub counts: Counts,
}

impl RowTable {
    /// Reads and aligns the whole corpus; no model runs.
    pub fn read(rules: &BlockRules, split: &Split) -> Result<Self> {
        let labels = &rules.plan.labels;
        let blocks = (0..).take(rules.plan.blocks.len()).collect();
        let mut table = Self { classes: vec![Vec::new(); labels.columns.len()], ..Self::default() };
        let mut before = None;
        for block in BlockStream::start(rules.clone(), blocks)? {
            let block = block?;
            table.counts += block.counts;
            for sequence in &block.sequences {
                let part = split.part(sequence.document, sequence.sentence);
                for row in &sequence.rows {
                    let own = Some((sequence.document, sequence.sentence));
                    table.continues.push(before == own);
                    before = own;
                    table.push(labels, part, &row.groups);
                }
            }
        }
        Ok(table)
    }

    fn push(&mut self, labels: &Labels, part: Part, groups: &[u32]) {
        self.parts.push(part);
        self.classes.iter_mut().for_each(|column| column.push(NONE));
        for &group in groups {
            let column = labels.columns.partition_point(|column| column.first_group <= group) - 1;
            let own = self.classes[column].last_mut().expect("just pushed");
            *own = group - labels.columns[column].first_group;
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Rows of a part.
    pub fn count(&self, part: Part) -> usize {
        self.parts.iter().filter(|own| **own == part).count()
    }
}
