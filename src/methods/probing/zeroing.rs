//! What a trained linear probe still answers when neurons of its input are set to 0 (`eval-ablate`, the
//! probe variant; Dalvi et al. 2019). The probe is not trained again: see `eval-retain` for that.

use super::elastic_net::{LinearProbe, decide};
use super::rows::Rows;

/// Right answers for one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zeroed {
    /// Neurons at the front of the order.
    pub size: usize,
    /// Right answers with only those kept.
    pub kept: u64,
    /// Right answers with those set to 0.
    pub removed: u64,
}

/// Right answers for prefixes of an order, all from one pass: logits with the first k neurons are sums that
/// grow along the order, and logits without them are what is left of the whole. `sizes` above the order
/// count as all of it. Equal logits go to the first class.
pub fn zeroed(
    probe: &LinearProbe,
    (rows, labels): (Rows<'_>, &[u32]),
    order: &[u32],
    sizes: &[usize],
) -> Vec<Zeroed> {
    let mut by_size: Vec<usize> = (0..sizes.len()).collect();
    by_size.sort_by_key(|&i| sizes[i]);
    let mut all: Vec<Zeroed> =
        sizes.iter().map(|&size| Zeroed { size, ..Zeroed::default() }).collect();
    for (row, &label) in labels.iter().enumerate() {
        let x: Vec<f64> = rows.row(row).iter().map(|&x| f64::from(x)).collect();
        let whole = probe.logits(&x);
        let mut kept = vec![0.0; whole.len()];
        let mut done = 0;
        for &i in &by_size {
            let end = sizes[i].min(order.len());
            for &neuron in &order[done..end] {
                let n = neuron as usize;
                kept.iter_mut().zip(probe.weights.rows()).for_each(|(sum, w)| *sum += w[n] * x[n]);
            }
            done = end;
            let with: Vec<f64> = kept.iter().zip(&probe.biases).map(|(z, b)| z + b).collect();
            let without: Vec<f64> = whole.iter().zip(&kept).map(|(z, kept)| z - kept).collect();
            all[i].kept += u64::from(decide(&with) == label);
            all[i].removed += u64::from(decide(&without) == label);
        }
    }
    all
}
