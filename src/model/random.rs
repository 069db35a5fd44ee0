//! A model with random weights, for measuring what a shape costs: nothing is read but the
//! configuration.

use rayon::prelude::*;

use super::spec::{LayerParam, ModelSpec, Param};
use super::tensor::HostTensor;
use crate::hash::{GAMMA, mix};

/// Standard deviation of matrices and tables, as the first transformers were initialised.
const DEVIATION: f32 = 0.02;

/// A weight of a model with this seed: the same on every machine. Matrices and tables are uniform
/// with the usual standard deviation, factors of norms 1, biases 0.
pub(super) fn tensor(spec: &ModelSpec, param: Param, seed: u64) -> HostTensor {
    let shape = spec.shape(param).unwrap_or_default();
    let count = shape.iter().product();
    let data = match (shape.len(), is_factor(param)) {
        (1, true) => vec![if spec.norm.plus_one { 0.0 } else { 1.0 }; count],
        (1, false) => vec![0.0; count],
        _ => {
            let stream =
                hash(seed ^ hash(u64::from(crc32c::crc32c(format!("{param:?}").as_bytes()))));
            (0..count as u64).into_par_iter().map(|i| value(hash(stream.wrapping_add(i)))).collect()
        }
    };
    HostTensor { shape, data }
}

/// Whether it is the factor of a norm.
fn is_factor(param: Param) -> bool {
    use LayerParam as L;
    match param {
        Param::EmbeddingNormWeight | Param::FinalNormWeight | Param::HeadNormWeight => true,
        Param::Layer(_, layer) => matches!(
            layer,
            L::AttnNormWeight
                | L::QNormWeight
                | L::KNormWeight
                | L::AttnPostNormWeight
                | L::MlpNormWeight
                | L::MlpPostNormWeight
        ),
        _ => false,
    }
}

fn hash(x: u64) -> u64 {
    mix(x.wrapping_add(GAMMA))
}

/// Uniform with standard deviation [`DEVIATION`].
fn value(bits: u64) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "24 bits are exact in f32")]
    let unit = (bits >> 40) as f32 / (1_u64 << 24) as f32;
    (unit - 0.5) * DEVIATION * 12.0_f32.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_deviation_they_should() {
        let values: Vec<f64> = (0..100_000).map(|i| f64::from(value(hash(i)))).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 3e-4, "{mean}");
        assert!((variance.sqrt() - f64::from(DEVIATION)).abs() < 2e-4, "{}", variance.sqrt());
    }
}
