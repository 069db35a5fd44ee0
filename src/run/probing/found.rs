//! What the probes of a site did, and what its rankings and methods turned out to be worth: rows of its
//! tables.

use std::collections::BTreeSet;

use crate::artifact::probing::{
    AgreementRow, ClassRow, CodeRow, LayerRow, MethodRow, ProbeRow, SelectionRow, SmallestRow,
    SpreadRow, SubsetRow,
};
use crate::artifact::rows::RankingRow;

/// What a reader of the tables must know of methods: each once, though it holds at many sites.
pub(super) type Notes = BTreeSet<String>;

/// See the module.
#[derive(Default)]
pub(super) struct Found {
    pub(super) probes: Vec<ProbeRow>,
    pub(super) classes: Vec<ClassRow>,
    /// None of them is marked as the first yet: that is for all sites to say.
    pub(super) layers: Vec<LayerRow>,
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
