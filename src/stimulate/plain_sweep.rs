//! One neuron at a time, at any site: each arm is a whole copy of the batch with its own edit. Slower
//! than [`super::sweep`], which knows what comes after the neurons of an MLP; the same numbers.

use std::collections::BTreeMap;

use super::question::{Question, QuestionBatch, Where};
use super::readout::{self, Reader};
use super::sweep::Asks;
use crate::device::backward::Differentiable;
use crate::device::forward::SiteWork;
use crate::device::ops::{Edit, Write};
use crate::device::score::Score;
use crate::device::suffix_ops::SuffixOps;
use crate::error::Result;
use crate::id::Site;

/// Scores of all questions for each of these neurons of a site, handed over neuron by neuron. `value`
/// says what neuron n becomes at a token of the batch.
pub fn plain_sweep<O: SuffixOps>(
    run: &mut Differentiable<O>,
    questions: &[Question],
    (site, neurons): (Site, &[u32]),
    (place, asks, value): (Where, Asks<'_, O>, &dyn Fn(u32, u32) -> f32),
    mut each: impl FnMut(u32, &[Score]) -> Result<()>,
) -> Result<()> {
    let one = QuestionBatch::new(questions);
    let tokens = u32::try_from(one.tokens.len()).expect("a batch is small");
    let written: Vec<u32> = match place {
        Where::Everywhere => (0..tokens).collect(),
        Where::Answer => one.rows.clone(),
    };
    let arms = (run.limits().tokens / one.tokens.len().max(1)).max(1);
    for neurons in neurons.chunks(arms) {
        let copies: Vec<Question> =
            neurons.iter().flat_map(|_| questions.iter().cloned()).collect();
        let batch = QuestionBatch::new(&copies);
        let edit = |(arm, &neuron): (u32, &u32)| Edit {
            columns: Some(vec![neuron]),
            tokens: Some(written.iter().map(|token| arm * tokens + token).collect()),
            write: Write::Rows(written.iter().map(|&token| value(neuron, token)).collect()),
        };
        let edits = BTreeMap::from([(site, (0..).zip(neurons).map(edit).collect())]);
        let read = readout::sites(asks.readout());
        let mut reader = Reader::new(run, asks.readout(), &batch.rows)?;
        let mut sites = SiteWork { wanted: &read, edits: &edits, visitor: &mut reader };
        run.run_only(batch.input(), &mut sites)?;
        let rows = (&batch.starts[..], &batch.rows[..]);
        let scores = asks.scores(run, (&one, neurons.len()), rows, &reader)?;
        for (neuron, scores) in neurons.iter().zip(scores.chunks_exact(questions.len())) {
            each(*neuron, scores)?;
        }
    }
    Ok(())
}
