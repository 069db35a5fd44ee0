//! Knowledge attribution (Dai et al. 2022, equation 2): integrated gradients over the neurons of one
//! layer at the answering token, all scaled together from 0 to their values:
//! `Attr_n = w_n (1/m) sum_k dP(y | alpha_k w) / dw_n`.
//!
//! The prompt is run once; the m scaled copies go on from the layer's neurons. Completeness:
//! `sum_n Attr_n` tends to `P(y | w) - P(y | 0)`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::question::QuestionBatch;
use super::readout::{self, Reader, Readout};
use crate::device::backward::{Differentiable, GradientWork};
use crate::device::forward::SiteWork;
use crate::device::gradient_ops::Metric;
use crate::device::ops::{Edit, Ops, Pooling, RowRuns, Write};
use crate::device::score::Scoring;
use crate::device::site_view::Nobody;
use crate::device::suffix::{Change, Held};
use crate::device::suffix_ops::SuffixOps;
use crate::error::Result;

/// Where the m points of the path lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quadrature {
    /// (k - 1/2) / m, k = 1..m: an error of order 1/m^2, the ends not needed.
    #[default]
    Midpoint,
    /// k / m, k = 1..m: the paper.
    Right,
    /// k / m, k = 0..m-1: the paper's code.
    Left,
    /// k / (m - 1), k = 0..m-1: EleutherAI's package.
    Ends,
}

impl Quadrature {
    /// The points, ascending.
    pub fn points(self, steps: u32) -> Vec<f32> {
        let m = f64::from(steps);
        let point = |k: u32| match self {
            Self::Midpoint => (f64::from(k) + 0.5) / m,
            Self::Right => (f64::from(k) + 1.0) / m,
            Self::Left => f64::from(k) / m,
            Self::Ends => f64::from(k) / (m - 1.0).max(1.0),
        };
        #[expect(clippy::cast_possible_truncation, reason = "factors of f32 values")]
        (0..steps).map(|k| point(k) as f32).collect()
    }
}

/// What is attributed, and how finely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Points m of the path.
    pub steps: u32,
    /// Where they lie.
    pub quadrature: Quadrature,
    /// Of what; the paper: the probability of the answer.
    pub metric: Metric,
}

/// Attributions of one layer's neurons to one question.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// The question, counted in its batch.
    pub question: usize,
    /// By neuron, `[F]`.
    pub values: Vec<f32>,
}

/// Buffers of a piece of copies.
struct Buffers<O: Ops> {
    act: O::Tensor,
    branch: O::Tensor,
    gradient: O::Tensor,
    mean: O::Tensor,
}

/// Attributions of every question of a held batch to the neurons of a layer, handed over in order. A
/// readout is needed for [`Metric::Probe`]; it reads after the layer.
pub fn integrated_gradients<O: SuffixOps>(
    run: &mut Differentiable<O>,
    (batch, held): (&QuestionBatch, &Held<O>),
    layer: usize,
    (settings, readout): (Settings, Option<&Readout>),
    mut each: impl FnMut(Attribution) -> Result<()>,
) -> Result<()> {
    let points = settings.quadrature.points(settings.steps);
    let causal = run.spec().attention.causal;
    let room = run.limits().tokens;
    let cost = |question: usize| {
        let tokens = batch.length(question) - if causal { batch.at(question) } else { 0 };
        tokens * points.len()
    };
    let mut first = 0;
    while first < batch.len() {
        let (mut last, mut sum) = (first, 0);
        while last < batch.len() && (last == first || sum + cost(last) <= room) {
            sum += cost(last);
            last += 1;
        }
        piece(run, (batch, held), (layer, first..last), (settings, readout, &points), &mut each)?;
        first = last;
    }
    Ok(())
}

/// As many questions as fit at once.
fn piece<O: SuffixOps>(
    run: &mut Differentiable<O>,
    (batch, held): (&QuestionBatch, &Held<O>),
    (layer, questions): (usize, Range<usize>),
    (settings, readout, points): (Settings, Option<&Readout>, &[f32]),
    each: &mut impl FnMut(Attribution) -> Result<()>,
) -> Result<()> {
    let (steps, neurons) = (points.len(), run.spec().mlp.width);
    let copies_of = questions.clone().flat_map(|q| std::iter::repeat_n((q, batch.at(q)), steps));
    let copies = held.copies(copies_of);
    // The answering token of each copy, and the token of the batch that it is a copy of.
    let answers: Vec<u32> = questions.clone().flat_map(|q| vec![batch.rows[q]; steps]).collect();
    let rows: Vec<u32> = answers
        .iter()
        .zip(copies.starts.windows(2))
        .map(|(answer, pair)| {
            let copy = &copies.tokens[pair[0] as usize..pair[1] as usize];
            let place = copy.iter().position(|token| token == answer).expect("it answers there");
            pair[0] + u32::try_from(place).expect("short")
        })
        .collect();
    let mut buffers = Buffers::new(run, rows.len(), questions.len())?;
    let ones = vec![1; rows.len()];
    let runs = RowRuns { first: &answers, len: &ones };
    run.ops().pool(Pooling::First, runs, held.neurons(layer), &mut buffers.act);
    for (step, &point) in (0_u32..).zip(points) {
        let here = (step..).step_by(steps).take(questions.len()).collect();
        let edit = Edit { columns: None, tokens: Some(here), write: Write::Scale(point) };
        run.ops().edit(&edit, &mut buffers.act);
    }
    let (nothing, edits) = (BTreeSet::new(), BTreeMap::new());
    let Buffers { act, branch, gradient, mean } = &mut buffers;
    let read = readout::sites(readout);
    let mut reader = Reader::new(run, readout, &rows)?;
    let mut sites = SiteWork { wanted: &read, edits: &edits, visitor: &mut reader };
    let change = Change::Rows { rows: &rows, act, branch };
    run.resume(held, (layer, &copies), change, &mut sites)?;
    let seeds = match readout.filter(|_| settings.metric == Metric::Probe) {
        Some(readout) => {
            let read = reader.rows(run.ops())?;
            readout.seeds(run, (&rows, copies.tokens.len()), &read)?
        }
        None => {
            let copied = (&copies.starts[..], &rows[..]);
            scored(run, (batch, questions.clone(), steps), copied, settings.metric)?;
            BTreeMap::new()
        }
    };
    let mut work =
        GradientWork { wanted: &nothing, edits: &edits, seeds: &seeds, visitor: &mut Nobody };
    run.back_to_neurons(held, (layer, &copies, &rows), (branch, gradient), &mut work)?;
    // The mean over the path, times the neurons themselves.
    let count = questions.len();
    let firsts: Vec<u32> = (0..).step_by(steps).take(count).collect();
    let lengths = vec![u32::try_from(steps).expect("few steps"); count];
    let ops = run.ops();
    ops.pool(Pooling::Mean, RowRuns { first: &firsts, len: &lengths }, gradient, mean);
    ops.set_rows(gradient, count);
    ops.set_rows(act, count);
    let runs = RowRuns { first: &batch.rows[questions.clone()], len: &ones[..count] };
    ops.pool(Pooling::First, runs, held.neurons(layer), act);
    ops.multiply(act, mean, gradient);
    let mut values = Vec::new();
    ops.read(gradient, &mut values)?;
    for (question, values) in questions.zip(values.chunks_exact(neurons)) {
        each(Attribution { question, values: values.to_vec() })?;
    }
    Ok(())
}

/// Scores `steps` copies of each of these questions, as the start of the way back.
fn scored<O: SuffixOps>(
    run: &mut Differentiable<O>,
    (batch, questions, steps): (&QuestionBatch, Range<usize>, usize),
    (starts, rows): (&[u32], &[u32]),
    metric: Metric,
) -> Result<()> {
    let per_copy = |list: &[u32]| -> Vec<u32> {
        questions.clone().flat_map(|q| vec![list[q]; steps]).collect()
    };
    let (targets, foils) = (per_copy(&batch.targets), batch.foils.as_deref().map(per_copy));
    let (targets, foils) = (&targets[..], foils.as_deref());
    let scoring = Scoring { rows, targets, foils, reference: None, keep: None };
    let weights = vec![1.0; rows.len()];
    run.score(starts, scoring, Some((metric, &weights)))?;
    Ok(())
}

impl<O: Ops> Buffers<O> {
    fn new(run: &Differentiable<O>, rows: usize, questions: usize) -> Result<Self>
    where
        O: SuffixOps,
    {
        let (ops, spec) = (run.ops(), run.spec());
        let room = |rows: usize, cols: usize| {
            let mut tensor = ops.tensor(rows, cols)?;
            ops.set_rows(&mut tensor, rows);
            Ok::<_, crate::error::Error>(tensor)
        };
        Ok(Self {
            act: room(rows, spec.mlp.width)?,
            branch: room(rows, spec.width)?,
            gradient: room(rows, spec.mlp.width)?,
            mean: room(questions, spec.mlp.width)?,
        })
    }
}
