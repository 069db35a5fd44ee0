//! Adam (Kingma & Ba 2015) with decoupled decay (AdamW; Loshchilov & Hutter 2019), in f64, for small
//! searches on the host.

const BETAS: (f64, f64) = (0.9, 0.999);
const EPSILON: f64 = 1e-8;

/// The moments of some numbers that are being moved.
#[derive(Clone, Debug)]
pub(super) struct Adam {
    rate: f64,
    decay: f64,
    first: Vec<f64>,
    second: Vec<f64>,
    fades: (f64, f64),
}

impl Adam {
    /// For `len` numbers; `decay` is relative to the rate.
    pub(super) fn new(len: usize, rate: f64, decay: f64) -> Self {
        Self { rate, decay, first: vec![0.0; len], second: vec![0.0; len], fades: (1.0, 1.0) }
    }

    /// One step down.
    pub(super) fn step(&mut self, at: &mut [f64], slope: &[f64]) {
        self.fades = (self.fades.0 * BETAS.0, self.fades.1 * BETAS.1);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((x, g), (first, second)) in at.iter_mut().zip(slope).zip(moments) {
            *first = BETAS.0 * *first + (1.0 - BETAS.0) * g;
            *second = BETAS.1 * *second + (1.0 - BETAS.1) * g * g;
            let spread = (*second / (1.0 - self.fades.1)).sqrt() + EPSILON;
            *x *= 1.0 - self.rate * self.decay;
            *x -= self.rate * *first / (1.0 - self.fades.0) / spread;
        }
    }
}
