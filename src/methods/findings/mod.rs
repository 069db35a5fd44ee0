//! What rankings say of a model as a whole (the survey's section 5): where its top neurons stand, how
//! many concepts a neuron has, how widely a concept is spread, how few neurons do. Read off rankings and
//! scores that are there. Overlaps of concepts are `agreement::jaccard_matrix`.

pub mod layers;
pub mod locality;
pub mod minimal;
pub mod polysemy;

pub use layers::{LayerShare, layer_shares, top_by_layer};
pub use locality::{effective_number, entropy, gini, layer_entropy, near_best};
pub use minimal::{FEATURE_SHARES, smallest_reaching};
pub use polysemy::{concepts_per_neuron, neurons_by_concepts, top_with_floor};
