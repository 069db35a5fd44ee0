//! top_tokens: the largest and smallest values of each neuron.
#![expect(unsafe_code, reason = "launches a kernel")]

use super::arena::Buffer;
use super::buffer::Tensor;
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::count;
use super::statistics::Rows;
use crate::device::statistics::{SiteStatistics, StatisticsPlan, TopTokens};
use crate::error::Result;
use crate::id::RowId;

args! {
    /// See `kernels/top_tokens.cu`.
    struct TopTokensArgs {
        x: Ptr,
        source: Ptr,
        ids: Ptr,
        top_values: Ptr,
        top_rows: Ptr,
        top_len: Ptr,
        bottom_values: Ptr,
        bottom_rows: Ptr,
        bottom_len: Ptr,
        stride: u32,
        neurons: u32,
        rows: u32,
        top: u32,
        bottom: u32,
        later: u32,
        shared: u32,
        unused: u32,
    }
}

/// Neurons of a block.
const NEURONS: u32 = 32;
/// Bytes of a place in a list.
const PLACE: usize = 12;
/// Static shared memory of the kernel, at most.
const STATIC: u32 = 36 << 10;

/// The lists of one direction.
#[derive(Debug)]
struct Lists {
    values: Buffer,
    rows: Buffer,
    len: Buffer,
    k: u32,
}

impl Lists {
    fn new(context: &Context, neurons: usize, k: usize) -> Result<Self> {
        let zeros = |bytes: usize| {
            // A buffer of nothing has no address.
            let buffer = context.buffer(bytes.max(4))?;
            context.fill_words(&buffer, 0)?;
            Ok(buffer)
        };
        Ok(Self {
            values: zeros(neurons * k * 4)?,
            rows: zeros(neurons * k * 8)?,
            len: zeros(neurons * 4)?,
            k: count(k),
        })
    }

    fn take(&self, context: &Context, out: &mut TopTokens) -> Result<()> {
        if self.k == 0 {
            return Ok(());
        }
        context.download(&self.len, &mut out.len)?;
        context.download(&self.values, &mut out.values)?;
        let mut rows = vec![0_u64; out.rows.len()];
        context.download(&self.rows, &mut rows)?;
        out.rows = rows.into_iter().map(RowId).collect();
        Ok(())
    }
}

/// The lists of a site.
#[derive(Debug)]
pub(super) struct Tops {
    top: Lists,
    bottom: Lists,
    neurons: u32,
    /// The last row seen.
    latest: Option<RowId>,
}

impl Tops {
    /// None where nothing is kept.
    pub(super) fn new(context: &Context, plan: &StatisticsPlan) -> Result<Option<Self>> {
        if plan.top == 0 && plan.bottom == 0 {
            return Ok(None);
        }
        Ok(Some(Self {
            top: Lists::new(context, plan.neurons, plan.top)?,
            bottom: Lists::new(context, plan.neurons, plan.bottom)?,
            neurons: count(plan.neurons),
            latest: None,
        }))
    }

    /// Adds a batch, which are `ids`; `ascending` says that those ascend.
    pub(super) fn update(
        &mut self,
        context: &Context,
        rows: &Rows<'_>,
        (ids, ascending): (&[RowId], bool),
        x: &Tensor,
    ) {
        // Where all rows are later than those seen, an equal value never wins. That matters for
        // neurons which are 0 almost everywhere.
        let later = ascending && ids.first() > self.latest.as_ref();
        self.latest = self.latest.max(ids.iter().max().copied());
        let places = (self.top.k as usize + self.bottom.k as usize) * NEURONS as usize;
        let bytes = u32::try_from(places * PLACE).unwrap_or(u32::MAX);
        let shared = bytes <= context.shared_memory() - STATIC;
        let args = TopTokensArgs {
            x: x.start(),
            source: rows.at(rows.lists.source),
            ids: rows.at(rows.lists.ids),
            top_values: self.top.values.start(),
            top_rows: self.top.rows.start(),
            top_len: self.top.len.start(),
            bottom_values: self.bottom.values.start(),
            bottom_rows: self.bottom.rows.start(),
            bottom_len: self.bottom.len.start(),
            stride: rows.stride,
            neurons: self.neurons,
            rows: rows.count,
            top: self.top.k,
            bottom: self.bottom.k,
            later: u32::from(later),
            shared: u32::from(shared),
            unused: 0,
        };
        let blocks = self.neurons.div_ceil(NEURONS);
        let kernel = x.element().pick(["top_tokens_f32", "top_tokens_bf16"]);
        let grid = [blocks, 1, 1];
        // SAFETY: the lists have N k places, and rows of the activations are within `x`
        // (`Statistics::update`).
        unsafe { context.launch(kernel, (grid, if shared { bytes } else { 0 }), &args) }
    }

    /// Brings the lists to the host.
    pub(super) fn take(&self, context: &Context, out: &mut SiteStatistics) -> Result<()> {
        self.top.take(context, &mut out.top)?;
        self.bottom.take(context, &mut out.bottom)
    }
}
