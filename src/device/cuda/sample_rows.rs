//! sample_rows.
