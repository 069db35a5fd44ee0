//! score: what metrics need of a row of logits, and their gradients.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::{Element, Tensor};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::count;
use crate::device::gradient_ops::{Against, Metric, SCORES};

args! {
    /// See `kernels/score.cu`.
    struct ScoreArgs {
        logits: Ptr,
        reference: Ptr,
        targets: Ptr,
        foils: Ptr,
        weights: Ptr,
        out: Ptr,
        stride: u64,
        out_stride: u64,
        cols: u32,
        metric: u32,
    }
}

/// See [`crate::device::gradient_ops::GradientOps::score`].
pub(super) fn score(
    context: &Context,
    against: &Against<'_, Tensor>,
    logits: &Tensor,
    (first, out): (usize, &mut Tensor),
) {
    assert_eq!((out.element(), out.cols()), (Element::F32, SCORES), "scores are exact");
    assert!(first + logits.rows() <= out.rows());
    let row = out.stride() * Element::F32.size();
    let args = ScoreArgs {
        out: out.start().offset(first * row),
        out_stride: out.stride() as u64,
        ..args_of(context, against, logits)
    };
    // SAFETY: the answers lie within the columns, as `args_of` has checked; `out` has the rows.
    unsafe { launch(context, ["score_f32", "score_bf16"], logits, &args) }
}

/// See [`crate::device::gradient_ops::GradientOps::score_grad`].
pub(super) fn score_grad(
    context: &Context,
    (metric, weights): (Metric, &[f32]),
    against: &Against<'_, Tensor>,
    (logits, g): (&Tensor, &mut Tensor),
) {
    assert_eq!((g.rows(), g.cols(), g.element()), (logits.rows(), logits.cols(), logits.element()));
    assert_eq!(weights.len(), logits.rows());
    assert!(metric != Metric::LogitDifference || against.foils.is_some(), "foils are needed");
    assert!(metric != Metric::Kl || against.reference.is_some(), "a reference is needed");
    assert!(metric != Metric::Probe, "a probe is not read off logits");
    let args = ScoreArgs {
        weights: context.upload(weights),
        out: g.start(),
        out_stride: g.stride() as u64,
        metric: metric as u32,
        ..args_of(context, against, logits)
    };
    // SAFETY: as above; `g` has the shape of the logits, and there is a weight for each row.
    unsafe { launch(context, ["score_grad_f32", "score_grad_bf16"], logits, &args) }
}

/// What both kernels read.
fn args_of(context: &Context, against: &Against<'_, Tensor>, logits: &Tensor) -> ScoreArgs {
    let classes = logits.cols().max(2);
    for ids in [Some(against.targets), against.foils].into_iter().flatten() {
        assert_eq!(ids.len(), logits.rows());
        assert!(ids.iter().all(|&id| (id as usize) < classes), "an answer beyond the logits");
    }
    if let Some(reference) = against.reference {
        assert_eq!((reference.rows(), reference.cols()), (logits.rows(), logits.cols()));
        assert_eq!(reference.element(), logits.element());
    }
    ScoreArgs {
        logits: logits.start(),
        reference: against.reference.map_or(Ptr::NULL, Tensor::start),
        targets: context.upload(against.targets),
        foils: against.foils.map_or(Ptr::NULL, |foils| context.upload(foils)),
        weights: Ptr::NULL,
        out: Ptr::NULL,
        stride: logits.stride() as u64,
        out_stride: 0,
        cols: count(logits.cols()),
        metric: 0,
    }
}

/// A block for each row.
///
/// # Safety
/// As for [`Context::launch`].
unsafe fn launch(context: &Context, names: [&'static str; 2], logits: &Tensor, args: &ScoreArgs) {
    let grid = [count(logits.rows()), 1, 1];
    // SAFETY: the caller's.
    unsafe { context.launch(logits.element().pick(names), (grid, 0), args) }
}
