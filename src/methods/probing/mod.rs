//! Probing (the survey's section on probing methods): what is done on the host with rows of activations or
//! with the weights of a trained probe. Everything here is a function of its arguments alone, in f64, on one
//! thread; what is drawn by chance follows from a seed.
//!
//! | method | files |
//! |---|---|
//! | `lca`, `lasso`, `ridge`, `probe-reg` | `salience.rs` orders neurons by weights, `elastic_net.rs` is the converged solver, `zeroing.rs` sets inputs to 0 |
//! | `massmean`, `dir2neurons` | `massmean.rs` |
//! | `ccs`, `ccs-cal` | `ccs.rs`, `calibration.rs` |
//! | `sparse`, `telescope`, `mono` | `sparse.rs`, on `logistic.rs` and `metrics.rs` |
//! | `osp` | `osp.rs`, on `hinge.rs` |
//! | `gauss` | `gauss.rs`, chosen by `greedy.rs` |
//! | `latent-probe` | `latent.rs`, on `masks.rs`, chosen by `greedy.rs` |
//! | `tree-probe` | `pairs.rs` |
//! | what they are called, take and come from | `registry.rs` |
//! | `mdl`, `eval-mi`, `eval-vinfo`, `control` | `code_length.rs`, `information.rs`, `control.rs` |

mod adam;
pub mod calibration;
pub mod ccs;
pub mod class_moments;
pub mod code_length;
pub mod control;
pub mod draw;
pub mod elastic_net;
pub mod gauss;
pub mod greedy;
pub mod hinge;
pub mod information;
pub mod latent;
pub mod logistic;
pub mod masks;
pub mod massmean;
pub mod metrics;
pub mod osp;
pub mod pairs;
pub mod registry;
pub mod rows;
pub mod salience;
pub mod sparse;
pub mod zeroing;

pub use class_moments::{ClassMoments, class_moments};
pub use rows::{Block, Rows};
