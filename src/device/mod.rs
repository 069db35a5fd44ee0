//! Devices: buffers, the list of operations, and the one forward program over them.

pub mod backward;
mod block;
mod block_gradient;
pub mod cpu;
pub mod cuda;
pub mod decode;
pub mod edit;
pub mod forward;
pub mod gradient_ops;
mod head;
mod layer_buffers;
mod lens;
pub mod moment_ops;
pub mod ops;
mod positions;
pub mod probe_ops;
pub mod probe_solve;
mod probe_units;
mod row_lists;
pub mod rows;
pub mod score;
pub mod site_view;
pub mod sizes;
pub mod statistics;
pub mod suffix;
pub mod suffix_ops;
mod weights;
mod workspace;

pub use positions::position_rows;
pub use weights::relative_bias;
