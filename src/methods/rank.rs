//! Runs one method on one source: walks the neurons in parallel and sorts what it says of them.

use rayon::prelude::*;

use super::call::MethodCall;
use super::evidence::Evidence;
use super::ranking::{GroupRanking, Ranking, Score, Scores};
use super::registry::Kind;
use super::significance::CAPPED_F;
use super::source::{Design, Source};
use crate::error::{Error, Result};

/// Neurons that one task takes at a time: two gathered blocks of a matrix.
const CHUNK: usize = 32;

/// What a method is told beside the evidence.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Its settings.
    pub call: &'a MethodCall,
    /// The classes.
    pub design: &'a Design,
}

/// Runs `call` on `source`.
///
/// Fails when the method needs labels and fewer than two classes have rows, when it needs the
/// values' order and there is none, and on settings that the source cannot serve.
pub fn rank(call: &MethodCall, source: &dyn Source) -> Result<Ranking> {
    let design = source.design();
    if call.needs_labels() && design.classes.len() < 2 {
        let dropped = match design.notes.is_empty() {
            true => String::new(),
            false => format!(" ({})", design.notes.join("; ")),
        };
        return Err(Error::input(
            &design.origin,
            format!(
                "{} has {} usable class, {call} compares at least two{dropped}",
                if design.label.is_empty() { "the labels" } else { design.label.as_str() },
                design.classes.len()
            ),
            "label more rows, lower min_count, or leave the column out",
        ));
    }
    if call.needs_order() {
        source.require_order()?;
    }
    let mut ranking = match call.method.kind {
        Kind::PerNeuron(score) => per_neuron(call, source, score)?,
        Kind::Whole(run) => run(call, source)?,
        Kind::Probing(_) => return Err(call.needs_parts()),
        Kind::Causal(_) => return Err(call.needs_a_model()),
    };
    ranking.method = call.to_string();
    ranking.label.clone_from(&design.label);
    ranking.n = design.rows();
    let mut notes = design.notes.clone();
    notes.append(&mut ranking.notes);
    ranking.notes = notes;
    Ok(ranking)
}

/// What a per-neuron method is.
pub type ScoreNeuron = fn(&Context<'_>, &Evidence) -> Result<Scores>;

fn per_neuron(call: &MethodCall, source: &dyn Source, score: ScoreNeuron) -> Result<Ranking> {
    let design = source.design();
    let context = Context { call, design };
    let scored = visit(source, call.needs_order(), &|_, evidence| {
        let constant = evidence.constant();
        let mut scores = score(&context, evidence)?;
        if constant {
            // Nothing can be said of it, so nothing is significant.
            for each in scores.groups.iter_mut().chain(&mut scores.overall) {
                each.p = each.p.map(|_| 1.0);
            }
        }
        Ok((scores, constant))
    })?;
    let scored: Vec<(Scores, bool)> = scored.into_iter().collect::<Result<_>>()?;
    Ok(assemble(design, &scored))
}

/// Sorts per-neuron scores into rankings by class and overall.
pub fn assemble(design: &Design, scored: &[(Scores, bool)]) -> Ranking {
    let constant: Vec<bool> = scored.iter().map(|(_, constant)| *constant).collect();
    let by_class = scored.first().map_or(0, |(scores, _)| scores.groups.len());
    let groups = (0..by_class).into_par_iter().map(|class| {
        let column: Vec<Score> = scored.iter().map(|(scores, _)| scores.groups[class]).collect();
        let info = &design.classes[class];
        GroupRanking {
            id: info.id,
            name: info.name.clone(),
            n: info.rows,
            ..GroupRanking::from_scores(&column, &constant)
        }
    });
    let overall: Option<Vec<Score>> = scored.iter().map(|(scores, _)| scores.overall).collect();
    let overall = overall.filter(|column| !column.is_empty()).map(|column| GroupRanking {
        name: "*".to_owned(),
        n: design.rows(),
        ..GroupRanking::from_scores(&column, &constant)
    });
    let mut notes = Vec::new();
    let constants = constant.iter().filter(|constant| **constant).count();
    if constants > 0 {
        notes.push(format!("{constants} constant neurons, ranked last"));
    }
    let split = |(scores, _): &&(Scores, bool)| {
        scores.groups.iter().chain(&scores.overall).any(|score| score.score >= CAPPED_F)
    };
    match scored.iter().filter(split).count() {
        0 => {}
        capped => notes.push(format!("{capped} neurons vary between classes only: F is capped")),
    }
    Ranking { groups: groups.collect(), overall, notes, ..Ranking::default() }
}

/// Maps every neuron's evidence, in parallel; results in the order of the neurons.
pub fn visit<T: Send>(
    source: &dyn Source,
    ordered: bool,
    see: &(dyn Fn(usize, &Evidence) -> T + Sync),
) -> Result<Vec<T>> {
    if ordered {
        source.require_order()?;
    }
    let neurons = source.neurons();
    let chunks: Vec<Vec<T>> = (0..neurons.div_ceil(CHUNK))
        .into_par_iter()
        .map(|chunk| {
            let range = chunk * CHUNK..((chunk + 1) * CHUNK).min(neurons);
            let mut seen = Vec::with_capacity(range.len());
            source.visit(range, ordered, &mut |neuron, evidence| seen.push(see(neuron, evidence)));
            seen
        })
        .collect();
    Ok(chunks.into_iter().flatten().collect())
}
