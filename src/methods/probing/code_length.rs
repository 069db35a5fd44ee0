//! Online code length of labels given activations (`mdl`; Voita & Titov 2020): how many bits it takes to
//! send the labels when a probe is trained on what was sent so far.

use std::ops::Range;

use crate::error::{Error, Result};

/// Shares of the shuffled training rows at which the probe is trained anew (Voita & Titov 2020).
pub const PORTIONS: [f64; 11] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0];

/// Ends of the portions of `rows` rows: the nearest whole numbers (halves to even), at least 1, each above
/// the one before.
///
/// Refuses portions that do not grow from above 0 to 1, and fewer than two rows.
pub fn ends(rows: usize, portions: &[f64]) -> Result<Vec<usize>> {
    let grows = portions.is_sorted_by(|a, b| a < b) && portions.first().is_some_and(|&p| p > 0.0);
    if !grows || portions.last() != Some(&1.0) {
        return Err(Error::config(
            "mdl portions",
            format!("{portions:?} do not grow from above 0 to 1"),
            "give shares of the rows in increasing order, the last of them 1",
        ));
    }
    if rows < 2 {
        return Err(Error::config(
            "mdl",
            format!("{rows} labelled rows cannot be sent in portions"),
            "label more rows",
        ));
    }
    let end = |portion: &f64| ((portion * rows as f64).round_ties_even() as usize).max(1);
    let mut ends: Vec<usize> = portions.iter().map(end).collect();
    ends.dedup();
    Ok(ends)
}

/// The bits of the labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CodeLength {
    /// Rows and bits of each block; the first is sent with a uniform code.
    pub blocks: Vec<(usize, f64)>,
    /// Classes of all training labels.
    pub classes: usize,
}

impl CodeLength {
    /// All bits.
    pub fn bits(&self) -> f64 {
        self.blocks.iter().map(|(_, bits)| bits).sum()
    }

    /// Rows sent.
    pub fn rows(&self) -> usize {
        self.blocks.iter().map(|(rows, _)| rows).sum()
    }

    /// Bits of the same labels without a probe: log2 of the classes for every row.
    pub fn uniform_bits(&self) -> f64 {
        self.rows() as f64 * (self.classes as f64).log2()
    }

    /// How many times shorter the code is than the uniform one.
    pub fn compression(&self) -> f64 {
        self.uniform_bits() / self.bits()
    }

    /// Bits a row of the last block, by the probe that saw the most.
    pub fn final_rate(&self) -> f64 {
        self.blocks.last().map_or(0.0, |&(rows, bits)| bits / rows as f64)
    }
}

/// `L = t_1 log2 G - Σ_i log2 p_i(block i+1)`, over rows in the order they are sent (shuffled by a seed
/// that the caller records). `bits_of(seen, block)` trains on the rows `seen` and gives -Σ log2 p of the
/// labels of `block`; G, the number of classes, is that of all training labels, so that a class not seen
/// yet has a share of the softmax.
pub fn online(
    ends: &[usize],
    classes: usize,
    mut bits_of: impl FnMut(Range<usize>, Range<usize>) -> Result<f64>,
) -> Result<CodeLength> {
    let first = ends.first().copied().unwrap_or(0);
    let mut blocks = vec![(first, first as f64 * (classes as f64).log2())];
    for pair in ends.windows(2) {
        let bits = bits_of(0..pair[0], pair[0]..pair[1])?;
        if !bits.is_finite() {
            return Err(Error::config(
                "mdl",
                format!("the labels of rows {}..{} take {bits} bits", pair[0], pair[1]),
                "give the probe a penalty, so that no class has probability 0",
            ));
        }
        blocks.push((pair[1] - pair[0], bits));
    }
    Ok(CodeLength { blocks, classes })
}
