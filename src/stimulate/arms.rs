//! Sets of neurons of any layers, taken away or moved together: every question answered again by the
//! whole model, arm by arm.

use std::collections::BTreeMap;

use super::neurons::site_of;
use super::question::{Question, QuestionBatch};
use super::readout::{self, Reader, Readout};
use super::task::baseline;
use crate::accumulate::effects::Effects;
use crate::device::backward::Differentiable;
use crate::device::forward::SiteWork;
use crate::device::gradient_ops::GradientOps;
use crate::device::ops::{Edit, Write};
use crate::device::score::Score;
use crate::error::Result;
use crate::id::{Site, SiteKind};

/// Neurons by layer.
pub type NeuronSet = BTreeMap<usize, Vec<u32>>;

/// What an arm does to its neurons, at every token.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Each becomes a number: one for each neuron of the set, layer by layer.
    Set(BTreeMap<usize, Vec<f32>>),
    /// At the answering token of a question of group g, these are added: `[group][layer]`.
    Shift(Vec<BTreeMap<usize, Vec<f32>>>),
}

/// One arm.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Of what its neurons are columns.
    pub kind: SiteKind,
    /// Its neurons.
    pub neurons: NeuronSet,
    /// What happens to them.
    pub act: Act,
}

impl Arm {
    fn edits(&self, batch: &QuestionBatch, groups: &[Option<u32>]) -> BTreeMap<Site, Vec<Edit>> {
        let edits = self.neurons.iter().map(|(&layer, neurons)| {
            let columns = Some(neurons.clone());
            let edits = match &self.act {
                Act::Set(values) => {
                    vec![Edit { columns, tokens: None, write: Write::Set(values[&layer].clone()) }]
                }
                Act::Shift(by_group) => (0..)
                    .zip(by_group)
                    .map(|(group, values)| {
                        let rows = batch.rows.iter().zip(groups);
                        let own = rows.filter(|(_, of)| **of == Some(group)).map(|(row, _)| *row);
                        let write = Write::Add(values[&layer].clone());
                        Edit { columns: columns.clone(), tokens: Some(own.collect()), write }
                    })
                    .collect(),
            };
            (site_of(self.kind, layer), edits)
        });
        edits.collect()
    }

    /// Answers a batch under the arm, and adds the baseline's numbers, those of a readout among them.
    pub fn add<O: GradientOps>(
        &self,
        run: &mut Differentiable<O>,
        (questions, groups): (&[Question], &[Option<u32>]),
        readout: Option<&Readout>,
        effects: &mut Effects,
    ) -> Result<()> {
        let batch = QuestionBatch::new(questions);
        let scores = answers(run, &batch, &self.edits(&batch, groups), readout)?;
        for (score, group) in scores.iter().zip(groups) {
            effects.add(*group, baseline(score).into_iter());
        }
        Ok(())
    }
}

/// Scores of a batch under edits, what a readout reads among them.
pub(super) fn answers<O: GradientOps>(
    run: &mut Differentiable<O>,
    batch: &QuestionBatch,
    edits: &BTreeMap<Site, Vec<Edit>>,
    readout: Option<&Readout>,
) -> Result<Vec<Score>> {
    let read = readout::sites(readout);
    let mut reader = Reader::new(run, readout, &batch.rows)?;
    let mut sites = SiteWork { wanted: &read, edits, visitor: &mut reader };
    run.run_only(batch.input(), &mut sites)?;
    let mut scores = run.score(&batch.starts, batch.scoring(), None)?;
    if let Some(readout) = readout {
        readout.fill(&reader.rows(run.ops())?, &mut scores);
    }
    Ok(scores)
}
