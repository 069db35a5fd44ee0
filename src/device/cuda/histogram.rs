//! histogram.
