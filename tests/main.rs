//! All integration tests in one binary: one link, one set of helpers.

mod methods;
mod planted;
