//! Dense linear algebra on the host, in f64: what second moments need to become similarities,
//! directions and probes. One thread each but for Cholesky's factor, and the same bits every time.

pub mod cholesky;
pub mod dense;
pub mod eigen;
pub mod singular;
mod tridiagonal;

pub use dense::Dense;
pub use eigen::{Eigen, eigen};
pub use singular::{Singular, singular};
