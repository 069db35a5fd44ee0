//! Models that read the same blocks side by side: the rows that all of them have go, in step, to the second
//! moments of their sites and of pairs of these, whichever model a site is of.
//!
//! Rows cross by the host, where they are shifted and their norms taken in f64: tensors of two models may be
//! of two types, and batches of two tokenizers do not end together. The norms |x - shift|^2 of all sites stand
//! as one more site behind the last: their moments with each site, and with each other, are what an unbiased
//! estimate asks for beyond those of the sites.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::pass::BlockWork;
use super::share::Underway;
use super::watch::pooling;
use crate::accumulate::gram::{GramPlan, GramState};
use crate::config::Pool;
use crate::corpus::batch::{Batch, pack};
use crate::corpus::block::Block;
use crate::device::forward::{Forward, ForwardInput, SiteWork};
use crate::device::moment_ops::MomentOps;
use crate::device::ops::{Ops, Pooling, RowRuns};
use crate::device::site_view::{SiteView, SiteVisitor};
use crate::error::{Error, Result};
use crate::id::{RowId, Site};

/// Rows that are multiplied at once, at most.
const PIECE: usize = 4096;

/// The models on a device, and the device itself with tensors in f32.
pub struct Abreast<O: Ops> {
    models: Vec<One<O>>,
    /// Takes the moments.
    ops: O,
}

/// A model, and room for the rows of a batch by width.
struct One<O: Ops> {
    forward: Forward<O>,
    pooled: BTreeMap<usize, O::Tensor>,
}

impl<O: Ops> Abreast<O> {
    /// Models with the sites that are read of each, in the order of the plan; `ops` has tensors in f32.
    /// Refused where a site has no row for each token.
    pub fn new(models: Vec<(Forward<O>, &[Site])>, ops: O) -> Result<Self> {
        let mut own = Vec::new();
        for (forward, sites) in models {
            let (spec, most) = (forward.spec(), forward.limits().tokens);
            let mut pooled = BTreeMap::new();
            for &site in sites {
                if spec.row_per_sequence(site) {
                    let what = format!("{site} has a row for each sequence, not for each token");
                    return Err(Error::config("capture.sites", what, "leave it out"));
                }
                let width = spec.site_width(site);
                if let Entry::Vacant(free) = pooled.entry(width) {
                    free.insert(forward.ops().tensor(most, width)?);
                }
            }
            own.push(One { forward, pooled });
        }
        Ok(Self { models: own, ops })
    }

    /// The forward pass of a model.
    pub fn forward(&mut self, model: usize) -> &mut Forward<O> {
        &mut self.models[model].forward
    }
}

/// What is collected of each block.
#[derive(Clone, Debug)]
pub struct AbreastPlan {
    /// The sites of all models, one model after the other, then their norms.
    pub gram: Arc<GramPlan>,
    /// The sites of each model, and the tokens of its device calls.
    pub models: Vec<(Vec<Site>, usize)>,
    /// How tokens become rows.
    pub pool: Pool,
    /// Blocks of the corpus.
    pub blocks: u32,
}

impl<O: MomentOps> BlockWork<Abreast<O>> for AbreastPlan {
    type Block = Vec<Block>;
    type State = GramState;

    fn blocks(&self) -> u32 {
        self.blocks
    }

    fn index(&self, blocks: &Vec<Block>) -> u32 {
        blocks[0].index
    }

    /// Neither batches nor pieces change a bit: rows are added in their order, in tiles that go on.
    fn run(
        &self,
        program: &mut Abreast<O>,
        blocks: &Vec<Block>,
        underway: &Underway<'_>,
    ) -> Result<GramState> {
        let common = common(blocks);
        let mut lanes = Vec::new();
        for ((block, model), (sites, budget)) in
            blocks.iter().zip(&program.models).zip(&self.models)
        {
            let spec = model.forward.spec();
            let sites = sites.iter().map(|site| (*site, spec.site_width(*site))).collect();
            lanes.push(Lane::new(block, sites, model.forward.limits().tokens.min(*budget)));
        }
        let mut moments = Filled::new(&program.ops, &self.gram)?;
        let total: u64 = blocks.iter().map(|block| block.counts.tokens).sum();
        loop {
            for (lane, model) in lanes.iter_mut().zip(&mut program.models) {
                while lane.waiting() == 0 && !lane.batches.is_empty() {
                    underway.go_on()?;
                    lane.advance(model, (self.pool, common.as_ref()))?;
                }
            }
            let tokens = lanes.iter().map(|lane| lane.tokens).sum();
            underway.so_far(tokens, tokens as f64 / total.max(1) as f64);
            let rows = lanes.iter().map(Lane::waiting).min().unwrap_or(0).min(PIECE);
            if rows == 0 {
                break;
            }
            moments.add(&program.ops, (&lanes, rows))?;
            lanes.iter_mut().for_each(|lane| lane.spend(rows));
        }
        moments.finish(&program.ops, blocks)
    }
}

/// The rows that every model has of a block; none is asked for where there is one model.
fn common(blocks: &[Block]) -> Option<BTreeSet<RowId>> {
    let rows_of = |block: &Block| -> BTreeSet<RowId> {
        block.sequences.iter().flat_map(|own| own.rows.iter().map(|row| row.id)).collect()
    };
    let all = blocks.iter().map(rows_of);
    let both = |a: BTreeSet<RowId>, b: BTreeSet<RowId>| a.intersection(&b).copied().collect();
    if blocks.len() > 1 { all.reduce(both) } else { None }
}

/// One model on its way through a block: batches to come, and rows that wait for the other models.
struct Lane {
    /// With their columns.
    sites: Vec<(Site, usize)>,
    batches: VecDeque<Batch>,
    /// Tokens run.
    tokens: u64,
    ids: Vec<RowId>,
    /// By site, `[rows, N]`.
    values: Vec<Vec<f32>>,
    /// Rows of these that are spent.
    spent: usize,
}

impl Lane {
    fn new(block: &Block, sites: Vec<(Site, usize)>, budget: usize) -> Self {
        let batches = pack(&block.sequences, budget).into();
        let values = vec![Vec::new(); sites.len()];
        Self { sites, batches, tokens: 0, ids: Vec::new(), values, spent: 0 }
    }

    /// Rows that wait.
    fn waiting(&self) -> usize {
        self.ids.len() - self.spent
    }

    fn spend(&mut self, rows: usize) {
        self.spent += rows;
    }

    /// The values of the next rows at a site.
    fn next(&self, site: usize, rows: usize) -> &[f32] {
        let width = self.sites[site].1;
        &self.values[site][self.spent * width..][..rows * width]
    }

    /// Runs the next batch; its rows take the place of those that are spent.
    fn advance<O: Ops>(
        &mut self,
        model: &mut One<O>,
        (pool, common): (Pool, Option<&BTreeSet<RowId>>),
    ) -> Result<()> {
        assert_eq!(self.waiting(), 0, "rows that wait are not thrown away");
        let Some(batch) = self.batches.pop_front() else { return Ok(()) };
        let kept = |id: &RowId| common.is_none_or(|common| common.contains(id));
        let keep: Vec<bool> = batch.row_ids.iter().map(kept).collect();
        self.ids = batch.row_ids.iter().copied().filter(kept).collect();
        self.spent = 0;
        self.tokens += batch.tokens.len() as u64;
        let (wanted, edits) = (self.sites.iter().map(|site| site.0).collect(), BTreeMap::new());
        let how = pooling(pool).unwrap_or(Pooling::First);
        let mut visitor = Reader {
            sites: &self.sites,
            pooled: &mut model.pooled,
            values: &mut self.values,
            how,
            keep: &keep,
            batch: &batch,
            read: Vec::new(),
        };
        let mut work = SiteWork { wanted: &wanted, edits: &edits, visitor: &mut visitor };
        model.forward.run(ForwardInput::of(&batch), &mut work)
    }
}

/// Brings the rows of a batch to the host.
struct Reader<'a, O: Ops> {
    sites: &'a [(Site, usize)],
    pooled: &'a mut BTreeMap<usize, O::Tensor>,
    values: &'a mut [Vec<f32>],
    how: Pooling,
    keep: &'a [bool],
    batch: &'a Batch,
    read: Vec<f32>,
}

impl<O: Ops> SiteVisitor<O> for Reader<'_, O> {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        let place = self.sites.iter().position(|site| site.0 == view.site).expect("asked for");
        let values = &mut self.values[place];
        values.clear();
        let rows = self.batch.rows();
        if rows == 0 {
            return Ok(());
        }
        let width = self.sites[place].1;
        let pooled = self.pooled.get_mut(&width).expect("made for every width");
        ops.set_rows(pooled, rows);
        let runs = RowRuns { first: &self.batch.row_first, len: &self.batch.row_len };
        ops.pool(self.how, runs, view.values, pooled);
        ops.read(pooled, &mut self.read)?;
        for (row, _) in self.read.chunks_exact(width).zip(self.keep).filter(|(_, keep)| **keep) {
            values.extend_from_slice(row);
        }
        Ok(())
    }
}

/// The moments of a block while they are filled.
struct Filled<O: MomentOps> {
    plan: Arc<GramPlan>,
    /// Rows of each site, and their norms.
    tensors: Vec<O::Tensor>,
    /// A column of ones: with it a site is summed.
    ones: O::Tensor,
    sums: Vec<O::Moments>,
    products: Vec<O::Moments>,
    rows: u64,
}

impl<O: MomentOps> Filled<O> {
    fn new(ops: &O, plan: &Arc<GramPlan>) -> Result<Self> {
        let widths = || plan.sites().iter().map(|site| site.shift.len());
        let moments = |&(left, right): &(usize, usize)| {
            let (a, b) = plan.widths((left, right));
            ops.moments(a, (left != right).then_some(b), 1)
        };
        let mut ones = ops.tensor(PIECE, 1)?;
        ops.set_rows(&mut ones, PIECE);
        ops.write(&mut ones, &vec![1.0; PIECE])?;
        Ok(Self {
            plan: Arc::clone(plan),
            tensors: widths().map(|width| ops.tensor(PIECE, width)).collect::<Result<_>>()?,
            sums: widths().map(|width| ops.moments(width, Some(1), 1)).collect::<Result<_>>()?,
            products: plan.pairs().iter().map(moments).collect::<Result<_>>()?,
            ones,
            rows: 0,
        })
    }

    /// Adds the next rows of every model.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "differences of f32 values, and their squares"
    )]
    fn add(&mut self, ops: &O, (lanes, rows): (&[Lane], usize)) -> Result<()> {
        let ids = |lane: &Lane| lane.ids[lane.spent..lane.spent + rows].to_vec();
        if lanes[1..].iter().any(|lane| ids(lane) != ids(&lanes[0])) {
            let what = "two models have the rows of a block in two orders".into();
            return Err(Error::Contradiction { what });
        }
        let last = self.tensors.len() - 1;
        let mut norms = vec![0.0_f32; rows * last];
        let of_lane = |lane: usize| (0..lanes[lane].sites.len()).map(move |site| (lane, site));
        for (place, (lane, site)) in (0..lanes.len()).flat_map(of_lane).enumerate() {
            let shift = &self.plan.sites()[place].shift;
            let mut values = lanes[lane].next(site, rows).to_vec();
            for (row, values) in values.chunks_exact_mut(shift.len()).enumerate() {
                let mut norm = 0.0;
                for (x, shift) in values.iter_mut().zip(shift) {
                    let from = f64::from(*x) - f64::from(*shift);
                    norm += from * from;
                    *x = from as f32;
                }
                norms[row * last + place] = norm as f32;
            }
            ops.set_rows(&mut self.tensors[place], rows);
            ops.write(&mut self.tensors[place], &values)?;
        }
        ops.set_rows(&mut self.tensors[last], rows);
        ops.write(&mut self.tensors[last], &norms)?;
        ops.set_rows(&mut self.ones, rows);
        let numbers: Vec<u32> = (0..).take(rows).collect();
        let rows_and_classes = (&numbers[..], &vec![0; rows][..]);
        for (tensor, sums) in self.tensors.iter().zip(&mut self.sums) {
            ops.add_moments(sums, (tensor, Some(&self.ones)), rows_and_classes);
        }
        for (&(left, right), products) in self.plan.pairs().iter().zip(&mut self.products) {
            let [x, z] = [left, right].map(|place| &self.tensors[place]);
            ops.add_moments(products, (x, (left != right).then_some(z)), rows_and_classes);
        }
        self.rows += rows as u64;
        ops.check()
    }

    /// Hands them over. Activations that are not finite fail the block.
    fn finish(self, ops: &O, blocks: &[Block]) -> Result<GramState> {
        let mut state = GramState::new(&self.plan);
        state.counts = blocks[0].counts;
        state.rows = vec![self.rows];
        for (to, sums) in state.sums.iter_mut().zip(self.sums) {
            *to = ops.take_moments(sums)?;
        }
        for (to, products) in state.products.iter_mut().zip(self.products) {
            *to = ops.take_moments(products)?;
        }
        let all = state.sums.iter().chain(&state.products).flatten().flatten();
        if all.copied().all(f64::is_finite) {
            return Ok(state);
        }
        let what =
            format!("activations of block {} are not finite, or their products", blocks[0].index);
        Err(Error::input("model", what, "run in float32, or leave sites of such activations out"))
    }
}
