//! Sets of neurons that get their values from the counterfactual prompt together, as a whole prompt
//! does: how much of its effect do they carry (Vig et al. 2020, arXiv 2004.12265, section 3)?

use std::collections::{BTreeMap, BTreeSet};

use super::arms::{NeuronSet, answers};
use super::neurons::{activations, site_of};
use super::question::{Question, QuestionBatch, Where};
use super::readout::Readout;
use super::task::{Value, counterfactual};
use crate::accumulate::effects::Effects;
use crate::device::backward::Differentiable;
use crate::device::gradient_ops::GradientOps;
use crate::device::ops::{Edit, Write};
use crate::error::Result;
use crate::id::{Site, SiteKind};

/// What is patched, and what is measured then.
#[derive(Clone, Debug, PartialEq)]
pub struct Mediation {
    /// Of what the neurons are columns.
    pub kind: SiteKind,
    /// At which tokens they are patched.
    pub place: Where,
    /// A number of an answer by itself: not `kl`, not `cosine`.
    pub value: Value,
    /// Each patched by itself.
    pub sets: Vec<NeuronSet>,
}

impl Mediation {
    /// Numbers of [`Self::add`].
    pub fn measures(&self) -> usize {
        1 + self.sets.len()
    }

    /// Adds m(counterfactual prompt) - m(clean) of each question to the first measure, and
    /// m(patched) - m(clean) to that of each set.
    ///
    /// # Panics
    /// If a question has no counterfactual prompt.
    pub fn add<O: GradientOps>(
        &self,
        run: &mut Differentiable<O>,
        (questions, groups): (&[Question], &[Option<u32>]),
        readout: Option<&Readout>,
        measures: &mut [Effects],
    ) -> Result<()> {
        let batch = QuestionBatch::new(questions);
        let prompts: Vec<Question> = questions.iter().map(counterfactual).collect();
        let other = QuestionBatch::new(&prompts);
        let none = BTreeMap::new();
        let has_foil = batch.foils.is_some();
        let ask = |run: &mut Differentiable<O>, batch: &QuestionBatch, edits: &_| {
            let scores = answers(run, batch, edits, readout)?;
            let values = scores.iter().map(|score| self.value.of(score, has_foil));
            Ok::<Vec<f64>, crate::error::Error>(values.collect())
        };
        let clean = ask(run, &batch, &none)?;
        let add = |measure: &mut Effects, values: Vec<f64>| {
            for ((value, clean), group) in values.iter().zip(&clean).zip(groups) {
                measure.add(*group, std::iter::once(value - clean));
            }
        };
        let (total, patched) = measures.split_first_mut().expect("one measure at least");
        add(total, ask(run, &other, &none)?);
        let values = self.values(run, &other)?;
        for (set, measure) in self.sets.iter().zip(patched) {
            let edits = self.edits(set, &batch, &values);
            add(measure, ask(run, &batch, &edits)?);
        }
        Ok(())
    }

    /// The neurons of the counterfactual prompts, `[T, N]` by layer.
    fn values<O: GradientOps>(
        &self,
        run: &mut Differentiable<O>,
        other: &QuestionBatch,
    ) -> Result<BTreeMap<usize, Vec<f32>>> {
        let layers: BTreeSet<usize> =
            self.sets.iter().flat_map(|set| set.keys().copied()).collect();
        let sites: BTreeSet<Site> = layers.iter().map(|&layer| site_of(self.kind, layer)).collect();
        let kept = activations(run, other, &sites)?;
        let read = |layer| Ok((layer, kept.read(run.ops(), site_of(self.kind, layer))?));
        layers.into_iter().map(read).collect()
    }

    /// The edits that give a set the other prompts' values.
    fn edits(
        &self,
        set: &NeuronSet,
        batch: &QuestionBatch,
        values: &BTreeMap<usize, Vec<f32>>,
    ) -> BTreeMap<Site, Vec<Edit>> {
        let tokens: Vec<u32> = match self.place {
            Where::Everywhere => (0..).take(batch.tokens.len()).collect(),
            Where::Answer => batch.rows.clone(),
        };
        let edits = set.iter().map(|(layer, columns)| {
            let values = &values[layer];
            let width = values.len() / batch.tokens.len().max(1);
            let row = |token: &u32| &values[*token as usize * width..][..width];
            let pick = |row: &[f32]| columns.iter().map(|&at| row[at as usize]).collect::<Vec<_>>();
            let write = Write::Rows(tokens.iter().map(row).flat_map(pick).collect());
            let edit = Edit { columns: Some(columns.clone()), tokens: Some(tokens.clone()), write };
            (site_of(self.kind, *layer), vec![edit])
        });
        edits.collect()
    }
}
