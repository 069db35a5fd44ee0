//! The statistics of all watched sites together: what a block leaves behind, what the tree
//! merges and what a segment stores.

use std::sync::Arc;

use rayon::prelude::*;

use super::codec::{Reader, put, put_len};
use super::site::{RunPlan, SiteAccumulator};
use super::summary::SiteSummary;
use super::{Accumulator, Merge, State};
use crate::corpus::block::Counts;
use crate::device::statistics::StatisticsPlan;
use crate::error::{Error, Result};
use crate::id::Site;

/// Of the bytes of a state; raised when their meaning changes.
const VERSION: u8 = 1;

/// Everything that one or more neighbouring blocks have given.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStatistics {
    /// What was read and what was lost.
    pub counts: Counts,
    /// One per watched site, in the order of the plan.
    pub sites: Vec<SiteAccumulator>,
}

impl RunStatistics {
    /// The statistics of nothing yet.
    pub fn new(plan: &RunPlan) -> Self {
        Self {
            counts: Counts::default(),
            sites: plan.iter().map(|(site, plan)| SiteAccumulator::new(*site, plan)).collect(),
        }
    }

    /// Reads the statistics out; the state is spent.
    pub fn finish(self) -> (Counts, Vec<SiteSummary>) {
        (self.counts, self.sites.into_iter().map(SiteAccumulator::finish).collect())
    }
}

impl State for RunStatistics {
    type Plan = Vec<(Site, Arc<StatisticsPlan>)>;

    fn counts(&self) -> Counts {
        self.counts
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put(out, &counts_to_array(&self.counts));
        put_len(out, self.sites.len());
        for site in &self.sites {
            let name = site.site.to_string();
            put_len(out, name.len());
            out.extend_from_slice(name.as_bytes());
            site.statistics.encode(out);
        }
    }

    fn decode(plan: &Self::Plan, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let version = reader.take::<u8>(1)?[0];
        if version != VERSION {
            return Err(damaged(format!("state of version {version}, this program reads 1")));
        }
        let counts = reader.take::<u64>(10)?;
        let mut state = Self { counts: counts_from_slice(&counts), sites: Vec::new() };
        let sites = reader.length()?;
        if sites != plan.len() {
            return Err(damaged(format!("{sites} sites, the run has {}", plan.len())));
        }
        for (site, plan) in plan {
            let length = reader.length()?;
            let name = reader.take::<u8>(length)?;
            if name != site.to_string().as_bytes() {
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(damaged(format!("site '{name}' where '{site}' was due")));
            }
            let mut accumulator = SiteAccumulator::new(*site, plan);
            accumulator.statistics.decode(&mut reader, plan)?;
            state.sites.push(accumulator);
        }
        reader.finish()?;
        Ok(state)
    }
}

impl Merge for RunStatistics {
    fn merge(&mut self, later: Self) -> Result<()> {
        assert_eq!(self.sites.len(), later.sites.len(), "only states of one run merge");
        self.counts += later.counts;
        // Sites know nothing of each other, and one thread takes in the blocks of all devices.
        self.sites.par_iter_mut().zip(later.sites).try_for_each(|(site, later)| site.merge(later))
    }
}

/// The stored state is not what its plan says.
pub fn damaged(what: String) -> Error {
    Error::input("stored state", what, "delete the run folder's states and run again")
}

/// The counts as they are stored.
pub fn counts_to_array(counts: &Counts) -> [u64; 10] {
    [
        counts.documents,
        counts.sentences,
        counts.sequences,
        counts.words,
        counts.tokens,
        counts.rows,
        counts.dropped_words,
        counts.truncated_words,
        counts.excluded_rows,
        counts.bad,
    ]
}

/// The opposite of [`counts_to_array`].
pub fn counts_from_slice(counts: &[u64]) -> Counts {
    Counts {
        documents: counts[0],
        sentences: counts[1],
        sequences: counts[2],
        words: counts[3],
        tokens: counts[4],
        rows: counts[5],
        dropped_words: counts[6],
        truncated_words: counts[7],
        excluded_rows: counts[8],
        bad: counts[9],
    }
}
