//! Methods that read a corpus with labels: which neurons carry a concept (neuron search), and
//! which words or contexts move a neuron (concept search).

pub mod average_precision;
pub mod class_means;
pub mod correlation;
pub mod firing_entropy;
pub mod mask_overlap;
pub mod mutual_information;
pub mod top_contexts;
pub mod top_words;
