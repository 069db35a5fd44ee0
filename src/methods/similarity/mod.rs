//! How alike two sets of neurons are, read off second moments alone: no row is kept, but by [`rbf`].
//! Two layers of a model, two checkpoints, two models that read the same words.
//!
//! [`Moments`] are of one set of neurons, a cross-covariance `[left, right]` is of two. All functions
//! are for one pair; pairs are independent of each other.

pub mod canonical;
pub mod cka;
pub mod cross_model;
pub mod moments;
pub mod rbf;

pub use canonical::{Basis, Canonical, Keep, canonical};
pub use cka::{NormSums, cka_between_layers, debiased_cka, linear_cka};
pub use cross_model::{Across, Partner, across, best_partners, explained};
pub use moments::Moments;
pub use rbf::RbfKernel;
