//! Devices: buffers, the list of operations, and the one forward program over them.

mod block;
pub mod cpu;
pub mod cuda;
pub mod forward;
pub mod ops;
mod positions;
mod row_lists;
pub mod rows;
pub mod site_view;
pub mod statistics;
mod weights;
mod workspace;

pub use positions::position_rows;
pub use weights::relative_bias;
