//! All integration tests in one binary: one link, one set of helpers.

mod cli;
mod golden {
    mod forward;
    mod interventions;
}
mod tidy;
