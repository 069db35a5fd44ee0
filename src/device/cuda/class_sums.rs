//! class_sums.
