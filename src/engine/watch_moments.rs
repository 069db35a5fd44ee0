//! Second moments of one block: the visitor that pools each site's tokens to rows, shifts them and hands them
//! to the device, and the function that runs a block past it.
//!
//! A site that is paired with others keeps its rows until the batch is done; all others share one tensor of
//! their width. Beside the products of columns a site is multiplied with a column of ones, which sums it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::watch::pooling;
use crate::accumulate::gram::{GramPlan, GramState};
use crate::config::Pool;
use crate::corpus::batch::{Batch, pack};
use crate::corpus::block::{Block, Counts};
use crate::device::forward::{Forward, ForwardInput, SiteWork};
use crate::device::moment_ops::MomentOps;
use crate::device::ops::{Pooling, RowRuns};
use crate::device::site_view::{SiteView, SiteVisitor};
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};
use crate::model::ModelSpec;

/// What is collected from each block, and how its tokens become rows.
#[derive(Clone, Debug)]
pub struct MomentPlan {
    /// Sites, pairs and classes.
    pub gram: Arc<GramPlan>,
    /// How tokens become rows.
    pub pool: Pool,
    /// Tokens of a device call; a single longer sequence makes a call of its own.
    pub batch_tokens: usize,
}

impl MomentPlan {
    /// The sites to be made by the forward pass.
    pub fn wanted(&self) -> BTreeSet<Site> {
        self.gram.sites().iter().map(|one| one.site).collect()
    }
}

/// One block, from nothing to its moments. Tiles of rows do not end with a batch, so that the size of the
/// batches changes no bit. `stopped` is asked between batches.
pub fn block_moments<O: MomentOps>(
    forward: &mut Forward<O>,
    block: &Block,
    plan: &MomentPlan,
    stopped: &dyn Fn() -> bool,
) -> Result<GramState> {
    let budget = plan.batch_tokens.min(forward.limits().tokens);
    let mut watch = MomentWatch::new(forward, &plan.gram, plan.pool)?;
    let (wanted, edits) = (plan.wanted(), BTreeMap::new());
    for batch in &pack(&block.sequences, budget) {
        if stopped() {
            return Err(Error::Unfinished { what: "stopped by a signal".into() });
        }
        watch.begin(batch)?;
        let mut work = SiteWork { wanted: &wanted, edits: &edits, visitor: &mut watch };
        forward.run(ForwardInput::of(batch), &mut work)?;
    }
    watch.finish(forward.ops(), block.counts)
}

/// Fills the moments of all sites and pairs over the batches of one block.
pub struct MomentWatch<O: MomentOps> {
    plan: Arc<GramPlan>,
    pooling: Pooling,
    sites: Vec<Watched<O>>,
    /// Of each pair of the plan.
    products: Vec<O::Moments>,
    /// Pooled and shifted rows.
    pooled: Vec<O::Tensor>,
    /// A column of ones, as long as the largest batch.
    ones: O::Tensor,
    /// The rows of the batch: first token and tokens of each, its number and its class.
    first: Vec<u32>,
    len: Vec<u32>,
    rows: Vec<u32>,
    classes: Vec<u32>,
    /// Rows seen of each class.
    seen: Vec<u64>,
}

struct Watched<O: MomentOps> {
    /// Whose rows these are, among the pooled ones.
    room: usize,
    shift: O::Vector,
    scale: O::Vector,
    sums: O::Moments,
    /// Its rows of this batch are there.
    here: bool,
}

impl<O: MomentOps> MomentWatch<O> {
    /// Moments of no row. A batch has at most as many rows as `forward` takes tokens. Refused if the model
    /// has no such site, or not a row of it for each token.
    pub fn new(forward: &Forward<O>, plan: &Arc<GramPlan>, pool: Pool) -> Result<Self> {
        let (ops, limit) = (forward.ops(), forward.limits().tokens);
        check_sites(forward.spec(), plan)?;
        let classes = plan.classes();
        let (mut pooled, mut shared) = (Vec::new(), BTreeMap::new());
        let mut sites = Vec::new();
        for (place, one) in plan.sites().iter().enumerate() {
            let width = one.shift.len();
            let paired = plan.pairs().iter().any(|&(a, b)| a != b && (a == place || b == place));
            let known = if paired { None } else { shared.get(&width).copied() };
            let room = match known {
                Some(room) => room,
                None => {
                    pooled.push(ops.tensor(limit, width)?);
                    pooled.len() - 1
                }
            };
            if !paired {
                shared.insert(width, room);
            }
            sites.push(Watched {
                room,
                shift: ops.vector(one.shift.clone())?,
                scale: ops.vector(vec![1.0; width])?,
                sums: ops.moments(width, Some(1), classes)?,
                here: false,
            });
        }
        let moments = |&(left, right): &(usize, usize)| {
            let (a, b) = plan.widths((left, right));
            ops.moments(a, (left != right).then_some(b), classes)
        };
        let products = plan.pairs().iter().map(moments).collect::<Result<_>>()?;
        let mut ones = ops.tensor(limit, 1)?;
        ops.set_rows(&mut ones, limit);
        ops.write(&mut ones, &vec![1.0; limit])?;
        Ok(Self {
            plan: Arc::clone(plan),
            pooling: pooling(pool).unwrap_or(Pooling::First),
            sites,
            products,
            pooled,
            ones,
            first: Vec::new(),
            len: Vec::new(),
            rows: Vec::new(),
            classes: Vec::new(),
            seen: vec![0; classes],
        })
    }

    /// Announces the rows of the batch that comes next. Refused where a row has two of the classes.
    pub fn begin(&mut self, batch: &Batch) -> Result<()> {
        self.first.clone_from(&batch.row_first);
        self.len.clone_from(&batch.row_len);
        self.rows = (0..).take(batch.rows()).collect();
        self.classes.clear();
        for row in 0..batch.rows() {
            let own = batch.group_starts[row] as usize..batch.group_starts[row + 1] as usize;
            let class = class_of(self.plan.groups(), &batch.groups[own])?;
            self.seen[class] += 1;
            self.classes.push(u32::try_from(class).expect("groups are numbered in 32 bits"));
        }
        self.sites.iter_mut().for_each(|site| site.here = false);
        Ok(())
    }

    /// Hands the block's moments over. Activations that are not finite fail it.
    pub fn finish(self, ops: &O, counts: Counts) -> Result<GramState> {
        let sums = self.sites.into_iter().map(|site| ops.take_moments(site.sums));
        let sums = sums.collect::<Result<Vec<_>>>()?;
        for (of_site, one) in sums.iter().zip(self.plan.sites()) {
            check_finite(of_site, one.site)?;
        }
        let products = self.products.into_iter().map(|pair| ops.take_moments(pair));
        let products = products.collect::<Result<Vec<_>>>()?;
        if let Some(pair) =
            products.iter().position(|of| !of.iter().flatten().all(|x| x.is_finite()))
        {
            let site = self.plan.sites()[self.plan.pairs()[pair].0].site;
            let what = format!("products of activations of {site} are beyond float32");
            return Err(Error::input("model", what, "leave the site out"));
        }
        Ok(GramState { plan: self.plan, counts, rows: self.seen, sums, products })
    }
}

impl<O: MomentOps> SiteVisitor<O> for MomentWatch<O> {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        let place = self.plan.place(view.site).expect("only wanted sites are visited");
        let site = &mut self.sites[place];
        let pooled = &mut self.pooled[site.room];
        ops.set_rows(pooled, self.rows.len());
        let runs = RowRuns { first: &self.first, len: &self.len };
        // Rows of one token are gathered, longer ones put together.
        ops.pool(self.pooling, runs, view.values, pooled);
        ops.rescale(&site.shift, &site.scale, pooled);
        let rows = (&self.rows[..], &self.classes[..]);
        ops.set_rows(&mut self.ones, self.rows.len());
        ops.add_moments(&mut site.sums, (pooled, Some(&self.ones)), rows);
        site.here = true;
        for (&(left, right), products) in self.plan.pairs().iter().zip(&mut self.products) {
            let last = left == place || right == place;
            if last && self.sites[left].here && self.sites[right].here {
                let [x, z] = [left, right].map(|place| &self.pooled[self.sites[place].room]);
                ops.add_moments(products, (x, (left != right).then_some(z)), rows);
            }
        }
        Ok(())
    }
}

/// Sums of activations that are not finite are not finite either.
fn check_finite(sums: &[Vec<f64>], site: Site) -> Result<()> {
    let bad = |class: &Vec<f64>| class.iter().position(|sum| !sum.is_finite());
    match sums.iter().find_map(bad) {
        None => Ok(()),
        Some(at) => {
            let what = format!("activations of neuron {site}.{at} are not finite");
            Err(Error::input("model", what, "run in float32"))
        }
    }
}

/// The class of a row: 1 + the place of its group among those asked for, or 0.
fn class_of(asked: &[u32], own: &[u32]) -> Result<usize> {
    let mut found = own.iter().filter_map(|group| asked.iter().position(|one| one == group));
    let class = found.next().map_or(0, |place| place + 1);
    match found.next() {
        None => Ok(class),
        Some(_) => {
            let what = "a row has two of the classes";
            Err(Error::config("second moments", what, "ask for classes of one label column"))
        }
    }
}

/// That every site has a row for each token, and the columns that are planned.
fn check_sites(spec: &ModelSpec, plan: &GramPlan) -> Result<()> {
    for one in plan.sites() {
        let site = one.site;
        let by_token =
            spec.has_site(site) && site.kind != SiteKind::AttnProbs && !spec.row_per_sequence(site);
        if !by_token || spec.site_width(site) != one.shift.len() {
            let what = format!("the model has no site {site} of {} columns", one.shift.len());
            let remedy = "take sites with a row per token; see `electrode inspect MODEL`";
            return Err(Error::config("second moments", what, remedy));
        }
    }
    Ok(())
}
