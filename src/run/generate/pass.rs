//! The pass over the texts of all arms, in pieces that devices share.

use std::collections::BTreeMap;

use super::{Generation, TextArm};
use crate::accumulate::Merge as _;
use crate::accumulate::list::List;
use crate::device::decode::Decoder;
use crate::device::suffix_ops::SuffixOps;
use crate::engine::fleet::{Device, Fleet};
use crate::engine::pass::BlockWork;
use crate::engine::share::{Underway, share};
use crate::error::Result;
use crate::run::Report;

/// The texts of all arms, in pieces of some texts of an arm.
pub(super) struct Pass<'a> {
    pub(super) generation: &'a Generation,
    pub(super) arms: &'a [TextArm],
    pub(super) judged: bool,
    /// Texts of an arm, and of a piece.
    pub(super) all: usize,
    pub(super) size: usize,
    /// Pieces.
    pub(super) count: u32,
}

impl<O: SuffixOps> BlockWork<Decoder<O>> for Pass<'_> {
    type Block = u32;
    type State = List;

    fn blocks(&self) -> u32 {
        self.count
    }

    fn index(&self, piece: &u32) -> u32 {
        *piece
    }

    fn run(&self, decoder: &mut Decoder<O>, piece: &u32, underway: &Underway<'_>) -> Result<List> {
        underway.go_on()?;
        self.piece(decoder, *piece, &mut |tokens, share| underway.so_far(tokens, share))
    }
}

impl Pass<'_> {
    fn piece<O: SuffixOps>(
        &self,
        decoder: &mut Decoder<O>,
        piece: u32,
        told: &mut dyn FnMut(u64, f64),
    ) -> Result<List> {
        let of_arm = self.all.div_ceil(self.size);
        let (arm, part) = (piece as usize / of_arm, piece as usize % of_arm);
        let texts = part * self.size..((part + 1) * self.size).min(self.all);
        self.generation.piece(decoder, (&self.arms[arm], self.judged), texts, told)
    }

    /// All of it, kept nowhere.
    pub(super) fn in_memory<O: Device + SuffixOps>(
        &self,
        fleet: &mut Fleet<'_, O, Decoder<O>>,
        report: Report<'_>,
    ) -> Result<List> {
        let mut parts = BTreeMap::new();
        let work = |decoder: &mut Decoder<O>, piece: &u32| {
            Ok((*piece, self.piece(decoder, *piece, &mut |_, _| {})?))
        };
        let mut tokens = 0;
        share(fleet, (0..self.count).map(Ok), work, |(piece, list): (u32, List)| {
            tokens += list.counts.tokens;
            parts.insert(piece, list);
            report("generating", tokens, parts.len() as f64 / f64::from(self.count));
            Ok(())
        })?;
        let mut all = List::default();
        parts.into_values().try_for_each(|list| all.merge(list))?;
        Ok(all)
    }
}
