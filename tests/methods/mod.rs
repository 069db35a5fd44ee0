//! The methods: fixtures, brute force, streaming against exact, significance, `electrode rank`.

mod applied;
mod brute;
mod calibration;
mod dual;
mod entropy;
pub(crate) mod fixtures;
mod rank_command;
mod special;
mod streaming;
pub(crate) mod support;
mod toy;
