//! gram: second moments of columns, class by class.
//!
//! The f64 sums stay on the device, and beside them, for each class, up to 511 rows that did not fill a
//! tile: they are the first of the class's next tile. So tiles, and with them bits, do not depend on how
//! rows are cut into calls, and the matrix units meet the same rows together.
#![expect(unsafe_code, reason = "launches kernels")]

use super::arena::Buffer;
use super::buffer::{Element, Tensor, stride};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::{by_rows, count};
use crate::device::moment_ops::{TILE, mirror};
use crate::error::Result;

args! {
    /// See `kernels/gram.cu`.
    struct GramArgs {
        x: Ptr,
        z: Ptr,
        held_x: Ptr,
        held_z: Ptr,
        names: Ptr,
        items: Ptr,
        sums: Ptr,
        x_stride: u64,
        z_stride: u64,
        sums_stride: u32,
        left: u32,
        right: u32,
        alone: u32,
        squares: u32,
        unused: u32,
    }
}

args! {
    /// See `kernels/gram.cu`.
    struct GramHoldArgs {
        x: Ptr,
        held: Ptr,
        moves: Ptr,
        stride: u64,
        count: u32,
        unused: u32,
    }
}

/// In the name of a row that is among those kept.
const HELD: u32 = 1 << 31;
/// Sides of the square of sums that a block has, and its kernels.
const LARGE: (usize, [&str; 2]) = (128, ["gram_f32", "gram_bf16"]);
const SMALL: (usize, [&str; 2]) = (64, ["gram_small_f32", "gram_small_bf16"]);
/// Slots of a step, each of 64 bytes of every column of x and of z.
const SLOTS: usize = 4;
const SLOT_COLUMN: usize = 64;

/// Second moments while they are filled.
#[derive(Debug)]
pub struct Moments {
    left: usize,
    /// None where x is multiplied with itself.
    right: Option<usize>,
    element: Element,
    /// Rows kept of each class.
    held: Vec<usize>,
    /// `[classes * 512, left]`, and the same of z.
    held_x: Buffer,
    held_z: Option<Buffer>,
    /// `[classes, left, right]` f64, rows [`stride`] apart.
    sums: Buffer,
}

/// What a call does with its rows.
#[derive(Debug, Default)]
struct Lists {
    /// Rows of full tiles, in the order in which they are added.
    names: Vec<u32>,
    /// {class, first of `names`, rows, 0}.
    items: Vec<[u32; 4]>,
    /// Rows to be kept: from, to.
    moves: Vec<[u32; 2]>,
}

impl Moments {
    pub(super) fn new(
        context: &Context,
        element: Element,
        (left, right): (usize, Option<usize>),
        classes: usize,
    ) -> Result<Self> {
        assert!(left > 0 && right != Some(0) && classes > 0, "moments of something");
        assert!(classes * TILE < HELD as usize, "rows of all classes have names");
        let held = |cols: usize| context.buffer(classes * TILE * stride(cols) * element.size());
        let sums =
            context.buffer(classes * left * stride(right.unwrap_or(left)) * size_of::<f64>())?;
        context.fill_words(&sums, 0)?;
        let held_z = right.map(held).transpose()?;
        Ok(Self { left, right, element, held: vec![0; classes], held_x: held(left)?, held_z, sums })
    }

    /// See [`crate::device::moment_ops::MomentOps::add_moments`].
    ///
    /// # Panics
    /// If the shapes do not belong together.
    pub(super) fn add(
        &mut self,
        context: &Context,
        (x, z): (&Tensor, Option<&Tensor>),
        (rows, classes): (&[u32], &[u32]),
    ) {
        assert_eq!((x.cols(), z.map(Tensor::cols)), (self.left, self.right));
        for x in std::iter::once(x).chain(z) {
            assert_eq!(x.element(), self.element);
            assert!(x.stride() == stride(x.cols()), "rows start at multiples of 16 bytes");
            assert!(x.rows() < HELD as usize && rows.iter().all(|&row| (row as usize) < x.rows()));
        }
        assert_eq!(rows.len(), classes.len());
        let lists = self.lists(rows, classes);
        self.multiply(context, (x.start(), z.map(Tensor::start)), &lists);
        keep(context, x, &self.held_x, &lists.moves);
        if let (Some(z), Some(held)) = (z, &self.held_z) {
            keep(context, z, held, &lists.moves);
        }
    }

    /// Cuts rows into the tiles of their classes, after those that are kept, and what is left over.
    fn lists(&mut self, rows: &[u32], classes: &[u32]) -> Lists {
        let mut of_class = vec![Vec::new(); self.held.len()];
        for (&row, &class) in rows.iter().zip(classes) {
            of_class[class as usize].push(row);
        }
        let mut lists = Lists::default();
        for (class, (rows, held)) in of_class.iter().zip(&mut self.held).enumerate() {
            let kept = |slot: usize| count(class * TILE + slot);
            let full = (*held + rows.len()) / TILE * TILE;
            let mut rest = &rows[..];
            if full > 0 {
                lists.items.push([count(class), count(lists.names.len()), count(full), 0]);
                lists.names.extend((0..*held).map(|slot| HELD | kept(slot)));
                let (now, later) = rows.split_at(full - *held);
                lists.names.extend(now);
                (rest, *held) = (later, 0);
            }
            lists.moves.extend(rest.iter().zip(*held..).map(|(&row, slot)| [row, kept(slot)]));
            *held += rest.len();
        }
        lists
    }

    fn multiply(&self, context: &Context, (x, z): (Ptr, Option<Ptr>), lists: &Lists) {
        let (right, alone) = (self.right.unwrap_or(self.left), self.right.is_none());
        let squares = |side: usize| match alone {
            true => (self.left.div_ceil(side) * (self.left.div_ceil(side) + 1)) / 2,
            false => self.left.div_ceil(side) * right.div_ceil(side),
        };
        // Less than a block for each processor: smaller squares, with the same bits.
        let few = squares(LARGE.0) * lists.items.len() < context.processors() as usize;
        let (side, kernels) = if few { SMALL } else { LARGE };
        let held_x = self.held_x.start();
        let args = GramArgs {
            x,
            z: z.unwrap_or(x),
            held_x,
            held_z: self.held_z.as_ref().map_or(held_x, Buffer::start),
            names: context.upload(&lists.names),
            items: context.upload(lists.items.as_flattened()),
            sums: self.sums.start(),
            x_stride: stride(self.left) as u64,
            z_stride: stride(right) as u64,
            sums_stride: count(stride(right)),
            left: count(self.left),
            right: count(right),
            alone: u32::from(alone),
            squares: count(squares(side)),
            unused: 0,
        };
        let shared = SLOTS * SLOT_COLUMN * 2 * side;
        let grid = [count(squares(side) * lists.items.len()), 1, 1];
        // SAFETY: the rows of x and z that are named lie within them (`add`), those that are kept within
        // their buffers, and the sums have a place for each class and pair of columns.
        unsafe { context.launch(self.element.pick(kernels), (grid, count(shared)), &args) }
    }

    /// Hands them over, rows that are still kept included.
    pub(super) fn take(mut self, context: &Context) -> Result<Vec<Vec<f64>>> {
        let mut lists = Lists::default();
        for (class, held) in self.held.iter_mut().enumerate().filter(|(_, held)| **held > 0) {
            lists.items.push([count(class), count(lists.names.len()), count(*held), 0]);
            lists.names.extend((0..*held).map(|slot| HELD | count(class * TILE + slot)));
            *held = 0;
        }
        // No row of x or z is named.
        self.multiply(
            context,
            (self.held_x.start(), self.held_z.as_ref().map(Buffer::start)),
            &lists,
        );
        let right = self.right.unwrap_or(self.left);
        let mut padded = vec![0.0_f64; self.held.len() * self.left * stride(right)];
        context.download(&self.sums, &mut padded)?;
        let of_class = |padded: &[f64]| {
            let rows = padded.chunks_exact(stride(right)).flat_map(|row| &row[..right]);
            let mut sums: Vec<f64> = rows.copied().collect();
            if self.right.is_none() {
                mirror(&mut sums, right);
            }
            sums
        };
        Ok(padded.chunks_exact(self.left * stride(right)).map(of_class).collect())
    }
}

/// Keeps rows for the next call.
fn keep(context: &Context, x: &Tensor, held: &Buffer, moves: &[[u32; 2]]) {
    let args = GramHoldArgs {
        x: x.start(),
        held: held.start(),
        moves: context.upload(moves.as_flattened()),
        stride: (x.stride() * x.element().size()) as u64,
        count: count(moves.len()),
        unused: 0,
    };
    let [blocks, ..] = by_rows(moves.len(), 1, 1);
    // SAFETY: rows of x and places of the buffer are those of `Moments::lists`, none twice.
    unsafe { context.launch("gram_hold", ([blocks, 1, 1], 0), &args) }
}
