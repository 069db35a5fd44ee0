//! Rankings that know nothing, to compare others with (methods.md 1.8).

use crate::error::Result;
use crate::methods::call::MethodCall;
use crate::methods::evidence::Evidence;
use crate::methods::rank::{assemble, rank, visit};
use crate::methods::ranking::{GroupRanking, Ranking, Score, Scores};
use crate::methods::source::Source;

/// The output of SplitMix64 for one state (Steele, Lea & Flood 2014).
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `random`: a permutation for each class and one overall, a function of the seed alone.
pub fn random(call: &MethodCall, source: &dyn Source) -> Result<Ranking> {
    let design = source.design();
    let seed = mix(call.whole("seed") as u64);
    let scored = visit(source, false, &|neuron, evidence: &Evidence| {
        let draw = |group: u64| {
            let bits = mix(mix(seed ^ group) ^ neuron as u64) >> 11;
            Score::unsigned(bits as f64 / (1_u64 << 53) as f64, None)
        };
        let groups = design.classes.iter().map(|class| draw(u64::from(class.id) + 1)).collect();
        (Scores { groups, overall: Some(draw(0)) }, evidence.constant())
    })?;
    Ok(assemble(design, &scored))
}

/// `bottom`: another method's ranking from its end. Scores are negated so that they still do not
/// increase; constant neurons stay last.
pub fn bottom(call: &MethodCall, source: &dyn Source) -> Result<Ranking> {
    let of = MethodCall::parse(&call.text("of"))?;
    let mut ranking = rank(&of, source)?;
    // `rank` adds the design's notes again.
    ranking.notes.retain(|note| !source.design().notes.contains(note));
    let constant = visit(source, false, &|_, evidence| evidence.constant())?;
    for group in ranking.groups.iter_mut().chain(&mut ranking.overall) {
        reverse(group, &constant);
    }
    Ok(ranking)
}

fn reverse(group: &mut GroupRanking, constant: &[bool]) {
    let mut scores = vec![Score::default(); group.order.len()];
    for (place, &neuron) in group.order.iter().enumerate() {
        scores[neuron as usize] = Score {
            score: -group.scores[place],
            sign: group.signs[place],
            value: group.values[place],
            p: group.p.get(place).copied(),
        };
    }
    let GroupRanking { id, name, n, .. } = std::mem::take(group);
    *group = GroupRanking { id, name, n, ..GroupRanking::from_scores(&scores, constant) };
}
