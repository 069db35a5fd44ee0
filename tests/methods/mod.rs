//! The methods: fixtures, brute force, streaming against exact, significance, `electrode rank`.

mod agreement;
mod algebra;
mod applied;
mod brute;
mod calibration;
mod clustering;
mod dual;
mod entropy;
mod findings;
pub(crate) mod fixture_file;
mod fixtures;
mod probing;
mod rank_command;
mod similar_fixtures;
mod similarity;
mod special;
mod streaming;
pub(crate) mod support;
mod toy;
