//! Ranks the columns of a matrix of your own, without a model or a corpus.
//!
//!     cargo run --example 03_rank_matrix
#![expect(clippy::print_stdout, reason = "an example shows what it found")]

use std::path::Path;

use electrode::error::Result;
use electrode::methods::matrix::{RowLabels, Values};
use electrode::methods::{Matrix, MatrixSource, MethodCall, rank};

const ROWS: usize = 300;
const NEURONS: usize = 8;

fn main() -> Result<()> {
    // Noise that knows nothing of the labels, but for neuron 5, which is larger on plurals.
    let plural = |row: usize| row.is_multiple_of(3);
    let value = |i: usize| {
        let carries = i % NEURONS == 5 && plural(i / NEURONS);
        (i * 7919 % 1009) as f32 / 1009.0 + if carries { 0.5 } else { 0.0 }
    };
    let matrix = Matrix::new(ROWS, NEURONS, Values::F32((0..ROWS * NEURONS).map(value).collect()));
    let labels = RowLabels {
        name: "number".to_owned(),
        classes: vec![(0, "Sing".to_owned()), (1, "Plur".to_owned())],
        of_row: (0..ROWS).map(|row| Some(u32::from(plural(row)))).collect(),
        min_count: 1,
    };
    let source = MatrixSource::new(matrix, &labels, Path::new("made here"))?;

    for method in ["meandiff", "auroc", "mi:bins=8", "random:seed=7"] {
        let ranking = rank(&MethodCall::parse(method)?, &source)?;
        let plural = &ranking.groups[1];
        let q = plural.q.first().map_or_else(String::new, |q| format!(", q {q:.1e}"));
        println!("{method}: neuron {} with {:.3}{q}", plural.order[0], plural.scores[0]);
    }
    Ok(())
}
