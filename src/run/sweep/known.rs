//! The known answer: what every device that reads a pass must say of the same few sentences, to the
//! bit. A device that has begun to compute wrongly says something else, and is not believed.
//!
//! The sentences are those of the calibration, and the answer is what was calibrated: shifts and bin
//! edges of every neuron. The first attempt at a pass writes it down, after it got it twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::artifact::manifest::write_json_atomic;
use crate::corpus::block::Sequence;
use crate::device::forward::Forward;
use crate::device::statistics::StatisticsPlan;
use crate::disk;
use crate::engine::fleet::{Device, Fleet};
use crate::error::{Error, Result};
use crate::id::Site;
use crate::run::{Calibrated, Prepared, calibrated, calibration};

/// File of a pass with its answer.
const KNOWN: &str = "known.json";

#[derive(Serialize, Deserialize, PartialEq)]
struct Answer {
    blake3: String,
    node: String,
}

/// The answer of a pass, and how to get it again.
pub(super) struct Known<'a> {
    prepared: &'a Prepared,
    sequences: Vec<Sequence>,
    path: PathBuf,
    answer: Answer,
}

impl<'a> Known<'a> {
    /// Reads the answer of the pass in `folder`, or gets it and writes it down.
    pub(super) fn open<O: Device>(
        prepared: &'a Prepared,
        (folder, node): (&Path, &str),
        fleet: &mut Fleet<'_, O>,
    ) -> Result<Self> {
        let (path, sequences) = (folder.join(KNOWN), calibration(prepared)?);
        if !path.exists() {
            let mut ask = || fleet.on_one(|forward| answer_of(prepared, forward, &sequences));
            let (blake3, again) = (ask()?.0, ask()?.0);
            if blake3 != again {
                let what = "gave two answers to the same sentences".to_owned();
                return Err(Error::Device { device: node.to_owned(), what });
            }
            // Two that write at once write the same, or one of them is refused below.
            write_json_atomic(&path, &Answer { blake3, node: node.to_owned() })?;
        }
        let bytes = disk::read(&path).map_err(Error::io(&path, "read"))?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| {
            Error::input(&path, format!("damaged: {error}"), "delete it; it is written again")
        })?;
        Ok(Self { prepared, sequences, path, answer })
    }

    /// Asks every device. Those that give another answer are given up; with none left, the pass
    /// cannot be read here.
    pub(super) fn ask<O: Device>(&self, fleet: &mut Fleet<'_, O>) -> Result<Calibrated> {
        let mut answers = fleet.on_each(|device, forward| {
            let (blake3, calibrated) = answer_of(self.prepared, forward, &self.sequences)?;
            if blake3 == self.answer.blake3 {
                return Ok(calibrated);
            }
            let what = format!(
                "gives another answer to the sentences of the calibration than node '{}' gave: one \
                 of the two computes wrongly. If that one does, delete the folder of {}",
                self.answer.node,
                self.path.display()
            );
            Err(Error::Device { device: device.to_owned(), what })
        })?;
        Ok(answers.swap_remove(0))
    }
}

fn answer_of<O: Device>(
    prepared: &Prepared,
    forward: &mut Forward<O>,
    sequences: &[Sequence],
) -> Result<(String, Calibrated)> {
    let calibrated = calibrated(prepared, forward, sequences)?;
    Ok((hash(&calibrated), calibrated))
}

/// Of every number, by its bits.
fn hash(sites: &[(Site, Arc<StatisticsPlan>)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (site, plan) in sites {
        hasher.update(site.to_string().as_bytes());
        hasher.update(&[0]);
        for numbers in [&plan.shift, &plan.edges] {
            hasher.update(&(numbers.len() as u64).to_le_bytes());
            numbers.iter().for_each(|number| {
                hasher.update(&number.to_bits().to_le_bytes());
            });
        }
    }
    hasher.finalize().to_hex().to_string()
}
