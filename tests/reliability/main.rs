//! Nothing lost, nothing counted twice, nothing wrong in silence: faults by the hundred, each against
//! one undisturbed run. What is said with [`figures::say`] goes into docs/reliability.md by
//! `.ci/figures`; `ELECTRODE_NIGHT=1` runs the long forms.

#![allow(dead_code)] // of what the tests share with those of main.rs

#[path = "../support/bench.rs"]
mod bench;
#[path = "../support/checkpoints.rs"]
mod checkpoints;
mod clock;
#[path = "../support/config_table.rs"]
mod config_table;
mod configs;
mod damage;
#[path = "../support/data.rs"]
mod data;
mod exact;
mod faults;
mod figures;
mod full;
mod hostile;
mod kills;
mod memory;
mod merging;
#[path = "../support/noise.rs"]
mod noise;
mod numbers;
mod power;
mod racing;
mod secrets;
mod shrunk;
mod size;
mod states;
mod sweeps;
mod undisturbed;
