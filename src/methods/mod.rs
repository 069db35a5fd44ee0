//! The survey's taxonomy: which statistics a method needs, and how it turns them into rankings.
//!
//! [`METHODS`] is the registry: one row per method, from which the command line, the
//! documentation and the tests are made. [`rank()`] runs one [`MethodCall`] on a [`Source`], which
//! is either a matrix at hand ([`MatrixSource`], exact) or the summaries of a run over a corpus
//! ([`SummarySource`], histograms). Both are shown to methods as the same [`Evidence`].

pub mod agreement;
pub mod algebra;
pub mod baselines;
pub mod call;
pub mod causation;
pub mod clustering;
pub mod corpus_based;
pub mod domain_shift;
pub mod dual;
pub mod evidence;
pub mod findings;
pub mod matrix;
mod method;
pub mod normal_bounds;
pub mod probing;
pub mod rank;
pub mod ranking;
pub mod registry;
pub mod significance;
pub mod similarity;
pub mod source;
pub mod special;
pub mod summary_source;
pub mod visualization;

pub use call::MethodCall;
pub use evidence::Evidence;
pub use matrix::{Matrix, MatrixSource};
pub use rank::rank;
pub use ranking::{Explanation, GroupRanking, Ranking};
pub use registry::{METHODS, Method};

/// Every method there is.
pub fn all() -> impl Iterator<Item = &'static Method> {
    METHODS.iter().chain(probing::registry::PROBING).chain(causation::CAUSATION)
}

pub use source::{Design, Source};
pub use summary_source::SummarySource;
