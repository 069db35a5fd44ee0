//! Which row of the position table each token takes.

use crate::model::{ModelSpec, PositionSpec};

/// Rows of the position table for each token, or none for schemes without a table. `positions`
/// are counted inside each sequence.
pub fn position_rows(
    spec: &ModelSpec,
    tokens: &[u32],
    starts: &[u32],
    positions: &[u32],
) -> Option<Vec<u32>> {
    match spec.positions {
        PositionSpec::Learned { offset, .. } => {
            let offset = u32::try_from(offset).expect("a small constant");
            Some(positions.iter().map(|position| position + offset).collect())
        }
        PositionSpec::LearnedFromIds { pad, .. } => {
            Some(rows_from_ids(pad, tokens, starts))
        }
        _ => None,
    }
}

/// RoBERTa: pad + (number of non-pad tokens up to here); a real token that carries the pad id
/// takes row pad and is not counted.
fn rows_from_ids(pad: u32, tokens: &[u32], starts: &[u32]) -> Vec<u32> {
    let mut rows = Vec::with_capacity(tokens.len());
    for pair in starts.windows(2) {
        let mut seen = 0;
        for &token in &tokens[pair[0] as usize..pair[1] as usize] {
            if token == pad {
                rows.push(pad);
            } else {
                seen += 1;
                rows.push(pad + seen);
            }
        }
    }
    rows
}
