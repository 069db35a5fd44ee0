//! Where the rows of a site come from, as often as somebody asks: from the model, run again over the
//! corpus, or from a store that was filled once.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::config::Pool;
use crate::corpus::batch::{Batch, pack};
use crate::corpus::stream::{BlockRules, BlockStream};
use crate::device::forward::{Forward, ForwardInput, SiteWork};
use crate::device::ops::{Ops, Pooling, RowRuns};
use crate::device::site_view::{SiteView, SiteVisitor};
use crate::engine::watch::pooling;
use crate::error::Result;
use crate::id::Site;

/// What is done with rows: the device, the site's number, its rows as a tensor, which rows they are.
pub type Take<'a, O> =
    &'a mut dyn FnMut(&O, usize, &mut <O as Ops>::Tensor, Range<usize>) -> Result<()>;

/// Rows of all sites. Each call hands over every row of each site asked for once, in order.
pub trait Source<O: Ops> {
    /// The device that holds them.
    fn ops(&self) -> &O;
    /// Sites that are best asked for together: all where asking is a run of the model, each by itself
    /// where rows lie ready.
    fn together(&self, sites: usize) -> Vec<Vec<usize>>;
    /// Whether what is written into the tensors is still there at the next pass.
    fn keeps(&self) -> bool {
        false
    }
    /// One pass over these sites, by their numbers.
    fn each(&mut self, sites: &[usize], take: Take<'_, O>) -> Result<()>;
}

/// Asked between batches, pieces and sites: an error ends the pass.
pub type GoOn<'a> = &'a dyn Fn() -> Result<()>;

/// The model, run over the whole corpus at each pass. What it hands over is overwritten at the next
/// batch.
pub struct Streamed<'a, O: Ops> {
    forward: &'a mut Forward<O>,
    rules: &'a BlockRules,
    sites: &'a [Site],
    widths: Vec<usize>,
    batch_tokens: usize,
    go_on: GoOn<'a>,
    /// Pooled rows, by width.
    pooled: BTreeMap<usize, O::Tensor>,
    told: Box<dyn FnMut(u64, f64) + 'a>,
}

impl<'a, O: Ops> Streamed<'a, O> {
    /// Runs nothing yet. `told` hears of each block: its tokens, and the share of the pass that is
    /// done.
    pub fn new(
        forward: &'a mut Forward<O>,
        (rules, sites, batch_tokens): (&'a BlockRules, &'a [Site], usize),
        go_on: GoOn<'a>,
        told: Box<dyn FnMut(u64, f64) + 'a>,
    ) -> Result<Self> {
        let most = forward.limits().tokens;
        let mut pooled = BTreeMap::new();
        let widths: Vec<usize> =
            sites.iter().map(|site| forward.spec().site_width(*site)).collect();
        for &width in &widths {
            if let Entry::Vacant(free) = pooled.entry(width) {
                free.insert(forward.ops().tensor(most, width)?);
            }
        }
        let batch_tokens = batch_tokens.min(most);
        Ok(Self { forward, rules, sites, widths, batch_tokens, go_on, pooled, told })
    }
}

impl<O: Ops> Streamed<'_, O> {
    /// Columns of each site.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }
}

impl<O: Ops> Source<O> for Streamed<'_, O> {
    fn ops(&self) -> &O {
        self.forward.ops()
    }

    fn together(&self, sites: usize) -> Vec<Vec<usize>> {
        vec![(0..sites).collect()]
    }

    fn each(&mut self, sites: &[usize], take: Take<'_, O>) -> Result<()> {
        let wanted: BTreeSet<Site> = sites.iter().map(|&site| self.sites[site]).collect();
        let numbers = sites.iter().map(|&site| (self.sites[site], site)).collect();
        let pool = self.rules.rows.pool;
        let blocks = (0..).take(self.rules.plan.blocks.len()).collect();
        let total = self.rules.plan.blocks.len().max(1) as f64;
        let mut visitor = Pooler {
            take,
            numbers,
            widths: &self.widths,
            pooled: &mut self.pooled,
            pool,
            batch: Batch::empty(),
            first: 0,
        };
        for block in BlockStream::start(self.rules.clone(), blocks)? {
            let block = block?;
            let mut tokens = 0;
            for batch in pack(&block.sequences, self.batch_tokens) {
                (self.go_on)()?;
                tokens += batch.tokens.len() as u64;
                visitor.batch = batch;
                let input = visitor.batch.clone();
                let edits = BTreeMap::new();
                let mut work = SiteWork { wanted: &wanted, edits: &edits, visitor: &mut visitor };
                self.forward.run(ForwardInput::of(&input), &mut work)?;
                visitor.first += input.rows();
            }
            (self.told)(tokens, f64::from(block.index + 1) / total);
        }
        Ok(())
    }
}

/// Pools the tokens of a batch to rows and hands them on.
struct Pooler<'p, 't, O: Ops> {
    take: Take<'t, O>,
    numbers: BTreeMap<Site, usize>,
    widths: &'p [usize],
    pooled: &'p mut BTreeMap<usize, O::Tensor>,
    pool: Pool,
    batch: Batch,
    /// Corpus row of the batch's first.
    first: usize,
}

impl<O: Ops> SiteVisitor<O> for Pooler<'_, '_, O> {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        let rows = self.batch.rows();
        if rows == 0 {
            return Ok(());
        }
        let number = self.numbers[&view.site];
        let pooled = self.pooled.get_mut(&self.widths[number]).expect("made for every width");
        ops.set_rows(pooled, rows);
        // A row of one token is its first.
        let how = pooling(self.pool).unwrap_or(Pooling::First);
        let runs = RowRuns { first: &self.batch.row_first, len: &self.batch.row_len };
        ops.pool(how, runs, view.values, pooled);
        (self.take)(ops, number, pooled, self.first..self.first + rows)
    }
}
