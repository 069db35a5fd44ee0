//! shift_neurons: a neuron's change times its column of the down projection. Rows of one neuron stand
//! together, and its column is fetched once for them.

use super::buffer::{Matrix, Tensor};

/// See [`crate::device::suffix_ops::SuffixOps::shift_neurons`].
pub(super) fn shift_neurons(
    down: &Matrix,
    (tokens, neurons): (&[u32], &[u32]),
    (act, scale, shift): (&Tensor, &[f32], &[f32]),
    out: &mut Tensor,
) {
    let (rows, cols, inner) = (out.rows(), out.cols(), act.cols());
    assert_eq!((down.weight.outputs(), down.weight.inputs()), (cols, inner));
    assert_eq!([tokens.len(), neurons.len(), scale.len(), shift.len()], [rows; 4]);
    out.par_rows(|first, rows| {
        let (mut column, mut of) = (vec![0.0; cols], None);
        for (row, out) in (first..).zip(rows.chunks_exact_mut(cols)) {
            let neuron = neurons[row] as usize;
            if of != Some(neuron) {
                down.weight.of_input(neuron, &mut column);
                of = Some(neuron);
            }
            let x = act.values()[tokens[row] as usize * inner + neuron];
            let change = (scale[row] - 1.0) * x + shift[row];
            out.iter_mut().zip(&column).for_each(|(out, w)| *out += change * w);
        }
    });
}
