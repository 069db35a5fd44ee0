//! Probing on the host: orders of neurons, Gaussian, sparse and latent probes, code lengths, controls.

mod calibration;
mod ccs;
mod elastic_net;
mod gauss;
mod information;
mod latent;
mod massmean;
mod osp;
mod planted;
mod salience;
mod sparse;
mod support;
mod trees;
