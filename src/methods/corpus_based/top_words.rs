//! `topword`: word types that move a neuron (NeuroX `get_top_words`).

use crate::error::Result;
use crate::methods::call::MethodCall;
use crate::methods::evidence::Evidence;
use crate::methods::rank::visit;
use crate::methods::ranking::{Explanation, Ranking, WordScore};
use crate::methods::source::Source;

/// `topword`: mean |z| of each class (the label column holds word strings), divided by the
/// largest; those above the threshold, best first, ties by class.
///
/// |z| needs mean and deviation before the sum, so a run over a corpus answers from its uniform
/// row sample; a matrix at hand is exact.
pub fn top_words(call: &MethodCall, source: &dyn Source) -> Result<Ranking> {
    let lists = visit(source, false, &|neuron, evidence| words(call, source, (neuron, evidence)))?;
    let mut ranking = Ranking { explanation: Explanation::Words(lists), ..Ranking::default() };
    if !source.design().exact {
        let note = "approx: means over the uniform row sample, not over all rows";
        ranking.notes.push(note.to_owned());
    }
    Ok(ranking)
}

fn words(
    call: &MethodCall,
    source: &dyn Source,
    (neuron, evidence): (usize, &Evidence),
) -> Vec<WordScore> {
    if evidence.constant() {
        return Vec::new();
    }
    let sd = evidence.total.variance().sqrt();
    let mut words = vec![WordScore::default(); evidence.classes.len()];
    for (class, x) in source.labelled_values(neuron) {
        let z = (x - evidence.total.mean) / sd;
        let word = &mut words[class as usize];
        word.class = class;
        word.score += z.abs();
        word.signed += z;
        word.n += 1;
    }
    words.retain(|word| word.n >= call.whole("min_count") as u64);
    for word in &mut words {
        word.score /= word.n as f64;
        word.signed /= word.n as f64;
    }
    let largest = words.iter().map(|word| word.score).fold(0.0, f64::max);
    if largest <= 0.0 {
        return Vec::new();
    }
    for word in &mut words {
        word.score /= largest;
    }
    words.retain(|word| word.score > call.number("threshold"));
    words.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.class.cmp(&b.class)));
    match call.whole("max") {
        0 => {}
        max => words.truncate(max),
    }
    for word in &mut words {
        // Places in the design become ids of the label column.
        word.class = source.design().classes[word.class as usize].id;
    }
    words
}
