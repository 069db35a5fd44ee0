//! Facts that a model is asked for by one question or several: which neurons they are attributed to,
//! and how an edit of some neurons' columns would make their answers likelier.

use super::column_gradients::{add_columns, column_gradients};
use super::integrated_gradients::{Settings, integrated_gradients};
use super::question::{Question, QuestionBatch, batches};
use crate::device::backward::Differentiable;
use crate::device::forward::SiteWork;
use crate::device::gradient_ops::{GradientOps, Metric};
use crate::device::score::Score;
use crate::device::site_view::Nobody;
use crate::device::suffix_ops::SuffixOps;
use crate::error::Result;
use crate::rewrite::neurons::{ColumnValues, Neurons};

/// Knowledge attributions of `facts` facts, `fact_of` saying which one each question asks for: the mean
/// over its questions, `[L * F]`, layer by layer.
pub fn attributions<O: SuffixOps>(
    run: &mut Differentiable<O>,
    questions: &[Question],
    (fact_of, facts): (&[usize], usize),
    settings: Settings,
) -> Result<Vec<Vec<f32>>> {
    let (layers, width) = (run.spec().layers, run.spec().mlp.width);
    let all: Vec<usize> = (0..layers).collect();
    let mut sums = vec![vec![0.0_f32; layers * width]; facts];
    let mut asked = vec![0_u16; facts];
    fact_of.iter().for_each(|&fact| asked[fact] = asked[fact].saturating_add(1));
    for part in batches(questions, run.limits().tokens) {
        let batch = QuestionBatch::new(&questions[part.clone()]);
        let held = run.hold(batch.input(), &all)?;
        for layer in 0..layers {
            integrated_gradients(run, (&batch, &held), layer, (settings, None), |one| {
                let fact = fact_of[part.start + one.question];
                let share = 1.0 / f32::from(asked[fact]);
                let sum = &mut sums[fact][layer * width..][..width];
                sum.iter_mut().zip(&one.values).for_each(|(sum, x)| *sum += share * x);
                Ok(())
            })?;
        }
    }
    Ok(sums)
}

/// The gradient of the mean log probability of the questions' answers with respect to the columns by
/// which these neurons write.
pub fn answer_gradients<O: GradientOps>(
    run: &mut Differentiable<O>,
    questions: &[Question],
    neurons: &Neurons,
) -> Result<ColumnValues> {
    let mut sum = ColumnValues::new();
    #[expect(clippy::cast_precision_loss, reason = "fewer questions than 2^24")]
    let share = 1.0 / questions.len().max(1) as f32;
    for part in batches(questions, run.limits().tokens) {
        let batch = QuestionBatch::new(&questions[part]);
        let how = (Metric::LogProb, &vec![share; batch.len()][..]);
        let (_, found) = column_gradients(run, (batch.input(), neurons), batch.scoring(), how)?;
        add_columns(&mut sum, found);
    }
    Ok(sum)
}

/// What the model answers to each question.
pub fn answers<O: GradientOps>(
    run: &mut Differentiable<O>,
    questions: &[Question],
) -> Result<Vec<Score>> {
    let (nothing, edits) = Default::default();
    let mut all = Vec::with_capacity(questions.len());
    for part in batches(questions, run.limits().tokens) {
        let batch = QuestionBatch::new(&questions[part]);
        let mut sites = SiteWork { wanted: &nothing, edits: &edits, visitor: &mut Nobody };
        run.run_only(batch.input(), &mut sites)?;
        all.extend(run.score(&batch.starts, batch.scoring(), None)?);
    }
    Ok(all)
}
