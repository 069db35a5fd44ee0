//! Checkpoints described and mapped: `config.json` to a [`ModelSpec`], safetensors to
//! [`HostTensor`]s. Knows no device and no corpus.
//!
//! [`Model::open`] finds the folder (`hub`), reads its configuration through one table per
//! architecture (`arch`), maps its weights (`mapped`, `header`, `weights`) and checks that every
//! tensor the description asks for is there with the right shape. Nothing is read beyond headers
//! until [`Model::tensor`] asks for it.

mod arch;
pub mod cost;
mod header;
pub mod heads;
pub mod hub;
mod mapped;
pub mod open;
pub mod params;
mod random;
mod settings;
mod shrunk;
pub mod site;
pub mod spec;
pub mod stored;
pub mod tensor;
mod weights;

pub use cost::*;
pub use hub::HubEnvironment;
pub use open::Model;
pub use shrunk::end_where_files_shrink;
pub use spec::*;
pub use tensor::HostTensor;
