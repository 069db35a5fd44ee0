//! Second moments of sites and of pairs of sites, class by class (A6 and A7): what covariances, correlations,
//! ridge regression and the similarity of representations are read from.
//!
//! Columns are shifted before they are multiplied, by means of a calibration sample, so that nothing cancels
//! where |mean| >> sd ("shifted data algorithm", Chan, Golub and LeVeque 1983). The shift is part of the state:
//! states of two shifts do not add.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::codec::{Reader, put, put_len};
use super::gram_summary::GramSummary;
use super::run::{counts_from_slice, counts_to_array, damaged};
use super::{Merge, State};
use crate::corpus::block::Counts;
use crate::error::{Error, Result};
use crate::id::Site;

/// Of the bytes of a state; raised when their meaning changes.
const VERSION: u8 = 1;

/// What is collected, fixed before the first block and part of the run's identity.
#[derive(Clone, Debug, PartialEq)]
pub struct GramPlan {
    sites: Vec<GramSite>,
    /// Places in `sites`: each with itself, in order, then the others as they were asked for.
    pairs: Vec<(usize, usize)>,
    /// See [`Self::groups`].
    groups: Vec<u32>,
}

/// A site whose moments are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct GramSite {
    /// Which one.
    pub site: Site,
    /// Subtracted from its columns, `[N]`: about their means.
    pub shift: Vec<f32>,
}

impl GramPlan {
    /// Moments of each site with itself and of the pairs asked for. `groups` are label groups of one column,
    /// which become classes; none for all rows together.
    ///
    /// Refused if a site or a group is there twice, or a pair names a site that is not listed.
    pub fn new(sites: Vec<GramSite>, pairs: &[(Site, Site)], groups: Vec<u32>) -> Result<Self> {
        let wrong = |what: String, remedy: &str| Err(Error::config("second moments", what, remedy));
        let mut plan = Self { pairs: (0..sites.len()).map(|at| (at, at)).collect(), sites, groups };
        let mut names = BTreeSet::new();
        for GramSite { site, shift } in &plan.sites {
            if shift.is_empty() || !names.insert(*site) {
                return wrong(format!("site {site} is empty or there twice"), "list it once");
            }
        }
        let once: BTreeSet<u32> = plan.groups.iter().copied().collect();
        if once.len() < plan.groups.len() {
            return wrong("a class is there twice".into(), "list each once");
        }
        for (left, right) in pairs {
            let (Some(a), Some(b)) = (plan.place(*left), plan.place(*right)) else {
                return wrong(format!("no site for {left} with {right}"), "list both of a pair");
            };
            if plan.pair(a, b).is_none() {
                plan.pairs.push((a, b));
            }
        }
        Ok(plan)
    }

    /// As [`Self::new`], with pairs of places among `sites` and all rows together. Sites may be of several
    /// models, and so of one name: [`Self::place`] finds the first.
    ///
    /// Refused if a site has no columns, or a pair names a place that is not there.
    pub fn of_places(sites: Vec<GramSite>, pairs: &[(usize, usize)]) -> Result<Self> {
        let wrong = |what: String, remedy: &str| Err(Error::config("second moments", what, remedy));
        if let Some(empty) = sites.iter().find(|site| site.shift.is_empty()) {
            return wrong(format!("site {} is empty", empty.site), "leave it out");
        }
        let own = (0..sites.len()).map(|at| (at, at)).collect();
        let mut plan = Self { pairs: own, sites, groups: Vec::new() };
        for &(left, right) in pairs {
            if left.max(right) >= plan.sites.len() {
                return wrong(format!("no site {left} with {right}"), "list both of a pair");
            }
            if plan.pair(left, right).is_none() {
                plan.pairs.push((left, right));
            }
        }
        Ok(plan)
    }

    /// The sites.
    pub fn sites(&self) -> &[GramSite] {
        &self.sites
    }

    /// Pairs of places among the sites; those of a site with itself come first.
    pub fn pairs(&self) -> &[(usize, usize)] {
        &self.pairs
    }

    /// Label groups that are classes of their own: `groups[c]` is class c + 1. Class 0 is all other rows.
    pub fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// Classes, that of all other rows included.
    pub fn classes(&self) -> usize {
        self.groups.len() + 1
    }

    /// Where a site stands.
    pub fn place(&self, site: Site) -> Option<usize> {
        self.sites.iter().position(|known| known.site == site)
    }

    /// Where a pair stands, in either order, and whether it stands there turned round.
    pub fn pair(&self, left: usize, right: usize) -> Option<(usize, bool)> {
        let at = |pair| self.pairs.iter().position(|known| *known == pair);
        at((left, right)).map(|at| (at, false)).or_else(|| Some((at((right, left))?, true)))
    }

    /// Columns of both sides of a pair.
    pub fn widths(&self, (left, right): (usize, usize)) -> (usize, usize) {
        (self.sites[left].shift.len(), self.sites[right].shift.len())
    }
}

/// Moments of one or more neighbouring blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct GramState {
    /// What is collected.
    pub plan: Arc<GramPlan>,
    /// What was read and what was lost.
    pub counts: Counts,
    /// Rows of each class, `[C]` (A0).
    pub rows: Vec<u64>,
    /// Sums of x - shift by site and class, `[N]` each (A1).
    pub sums: Vec<Vec<Vec<f64>>>,
    /// Sums of the products of both sides by pair and class, `[left, right]` each (A6, A7).
    pub products: Vec<Vec<Vec<f64>>>,
}

impl GramState {
    /// Moments of no row.
    pub fn new(plan: &Arc<GramPlan>) -> Self {
        let classes = |cells: usize| vec![vec![0.0; cells]; plan.classes()];
        let cells = |pair: &(usize, usize)| {
            let (left, right) = plan.widths(*pair);
            classes(left * right)
        };
        Self {
            counts: Counts::default(),
            rows: vec![0; plan.classes()],
            sums: plan.sites.iter().map(|site| classes(site.shift.len())).collect(),
            products: plan.pairs.iter().map(cells).collect(),
            plan: Arc::clone(plan),
        }
    }

    /// What is read out of them; the state is spent.
    pub fn finish(self) -> GramSummary {
        GramSummary::new(self)
    }

    /// Every array of sums, in the order of the plan.
    fn arrays(&self) -> impl Iterator<Item = &Vec<f64>> {
        self.sums.iter().chain(&self.products).flatten()
    }

    fn arrays_mut(&mut self) -> impl Iterator<Item = &mut Vec<f64>> {
        self.sums.iter_mut().chain(&mut self.products).flatten()
    }
}

impl Merge for GramState {
    fn merge(&mut self, later: Self) -> Result<()> {
        let same = Arc::ptr_eq(&self.plan, &later.plan) || self.plan == later.plan;
        assert!(same, "only states of one plan merge");
        self.counts += later.counts;
        self.rows.iter_mut().zip(&later.rows).for_each(|(ours, theirs)| *ours += theirs);
        for (ours, theirs) in self.arrays_mut().zip(later.arrays()) {
            assert_eq!(ours.len(), theirs.len(), "both states were made by one plan");
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours += theirs);
        }
        Ok(())
    }
}

impl State for GramState {
    type Plan = Arc<GramPlan>;

    fn counts(&self) -> Counts {
        self.counts
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put(out, &counts_to_array(&self.counts));
        put_len(out, self.plan.sites.len());
        for GramSite { site, shift } in &self.plan.sites {
            let name = site.to_string();
            put_len(out, name.len());
            out.extend_from_slice(name.as_bytes());
            put_len(out, shift.len());
            put(out, shift);
        }
        put_len(out, self.plan.pairs.len());
        self.plan.pairs.iter().for_each(|(left, right)| put(out, &[*left as u64, *right as u64]));
        put_len(out, self.plan.groups.len());
        put(out, &self.plan.groups);
        put(out, &self.rows);
        self.sums.iter().flatten().for_each(|sums| put(out, sums));
        for (&(left, right), classes) in self.plan.pairs.iter().zip(&self.products) {
            let columns = self.plan.widths((left, right)).1;
            for (row, values) in classes.iter().flat_map(|all| all.chunks(columns).enumerate()) {
                put(out, &values[if left == right { row } else { 0 }..]);
            }
        }
    }

    fn decode(plan: &Self::Plan, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let version = reader.take::<u8>(1)?[0];
        if version != VERSION {
            return Err(damaged(format!("moments of version {version}, this program reads 1")));
        }
        let mut state = Self::new(plan);
        state.counts = counts_from_slice(&reader.take::<u64>(10)?);
        check_plan(plan, &mut reader)?;
        state.rows = reader.take(plan.classes())?;
        for sums in state.sums.iter_mut().flatten() {
            *sums = reader.take(sums.len())?;
        }
        for (&(left, right), classes) in plan.pairs.iter().zip(&mut state.products) {
            let columns = plan.widths((left, right)).1;
            for products in classes {
                for row in 0..products.len() / columns {
                    let first = if left == right { row } else { 0 };
                    let values = reader.take::<f64>(columns - first)?;
                    products[row * columns + first..][..columns - first].copy_from_slice(&values);
                    for before in 0..first {
                        products[row * columns + before] = products[before * columns + row];
                    }
                }
            }
        }
        reader.finish()?;
        let rows = state.rows.iter().try_fold(0_u64, |all, rows| all.checked_add(*rows));
        if rows.is_none() || !state.arrays().flatten().all(|sum| sum.is_finite()) {
            return Err(damaged("sums or counts that no rows have".into()));
        }
        Ok(state)
    }
}

/// Reads what a state says of its plan, which must be this one.
fn check_plan(plan: &GramPlan, reader: &mut Reader<'_>) -> Result<()> {
    let due = |what: &str, same: bool| match same {
        true => Ok(()),
        false => Err(damaged(format!("{what} are not those of the run"))),
    };
    due("its sites", reader.length()? == plan.sites.len())?;
    for GramSite { site, shift } in &plan.sites {
        let length = reader.length()?;
        due("its sites", reader.take::<u8>(length)? == site.to_string().as_bytes())?;
        due("its columns", reader.length()? == shift.len())?;
        let bits = |shift: &[f32]| shift.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        due("its shifts", bits(&reader.take(shift.len())?) == bits(shift))?;
    }
    due("its pairs", reader.length()? == plan.pairs.len())?;
    for &(left, right) in &plan.pairs {
        due("its pairs", reader.take::<u64>(2)? == [left as u64, right as u64])?;
    }
    due("its classes", reader.length()? == plan.groups.len())?;
    due("its classes", reader.take::<u32>(plan.groups.len())? == plan.groups)
}
