//! `electrode sweep`: a grid of runs over models, layers, labels, methods and seeds as tasks that any
//! number of machines work on.
//!
//! Runs that read the same text with the same model share one pass. A pass is cut into tasks of whole
//! blocks; a task puts the states of its blocks on the disk as a run does, in files that nobody else
//! writes to, so that it may be killed, begun twice or moved at any time. The merge takes each block
//! once along the fixed tree, and gives every point the bytes that its own run would have given.

mod config;
mod estimate;
mod known;
mod local;
mod merge;
mod overview;
mod plan;
mod points;
mod prometheus;
mod slurm;
mod status;
mod watchdog;
mod work;

pub use self::config::{Axis, Override, SlurmConfig, SweepConfig};
pub use self::estimate::{Estimate, estimate};
pub use self::local::{Local, run_here};
pub use self::merge::{DATA, Merged, Merging, PARTIAL, merge};
pub use self::overview::{OVERVIEW, overview};
pub use self::plan::{Pass, SWEEP, SweepPlan, Task};
pub use self::points::Point;
pub use self::prometheus::prometheus;
pub use self::slurm::{Submission, cancel, explain, job_name, queue_again, queued, submit};
pub use self::status::{FRESH, NodeStatus, STATES, Status, TaskStatus, status, status_of};
pub use self::work::{Attempt, work};
