//! What rankings and methods turned out to be worth: rows of their tables.

use std::collections::BTreeSet;

use crate::artifact::probing::{
    AGREEMENT, AgreementRow, CODES, CodeRow, METHODS, MethodRow, SELECTION, SMALLEST, SPREAD,
    SUBSETS, SelectionRow, SmallestRow, SpreadRow, SubsetRow,
};
use crate::artifact::rows::RankingRow;
use crate::artifact::table::write_table;
use crate::artifact::tables::{RANKINGS, write_rankings};
use crate::error::Result;
use crate::run::folder::RunFolder;

/// What a reader of the tables must know of methods: each once, though it holds at many sites.
pub(super) type Notes = BTreeSet<String>;

/// See the module.
#[derive(Default)]
pub(super) struct Found {
    pub(super) rankings: Vec<RankingRow>,
    pub(super) methods: Vec<MethodRow>,
    pub(super) notes: Notes,
    pub(super) subsets: Vec<SubsetRow>,
    pub(super) smallest: Vec<SmallestRow>,
    pub(super) selection: Vec<SelectionRow>,
    pub(super) codes: Vec<CodeRow>,
    pub(super) agreement: Vec<AgreementRow>,
    pub(super) spread: Vec<SpreadRow>,
}

impl Found {
    /// Writes every table, and keeps the notes.
    pub(super) fn write(&mut self, folder: &RunFolder) -> Result<()> {
        let (path, id) = (folder.path(), folder.run_id());
        write_rankings(&path.join(RANKINGS), id, self.rankings.drain(..))?;
        write_table(&path.join(METHODS), id, self.methods.drain(..))?;
        write_table(&path.join(SUBSETS), id, self.subsets.drain(..))?;
        write_table(&path.join(SMALLEST), id, self.smallest.drain(..))?;
        write_table(&path.join(SELECTION), id, self.selection.drain(..))?;
        write_table(&path.join(CODES), id, self.codes.drain(..))?;
        write_table(&path.join(AGREEMENT), id, self.agreement.drain(..))?;
        write_table(&path.join(SPREAD), id, self.spread.drain(..)).map(drop)
    }
}
