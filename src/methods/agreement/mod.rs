//! Whether rankings agree: of several methods on one concept (`avgoverlap`, `neuronvote`: Fan et al.,
//! NeurIPS 2023), and of one method over seeds, shards, layers or checkpoints (`rank-stability`).

pub mod compatibility;
pub mod correlation;
pub mod ranked;
pub mod sets;
pub mod stability;

pub use compatibility::{Compatibility, compatibility};
pub use correlation::{kendall_tau_b, rank_biased_overlap};
pub use ranked::Ranked;
pub use sets::{chance_overlap, jaccard, jaccard_matrix};
pub use stability::{Stability, stability};
