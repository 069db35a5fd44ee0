//! How many numbers a model holds on a device beside its weights, before anything is made there.
//! What is counted here is made in `workspace.rs`, `layer_buffers.rs`, `backward.rs` and `head.rs`.

use super::forward::Limits;
use super::gradient_ops::SCORES;
use super::head::{HeadSteps, piece_rows};
use crate::model::{BlockSpec, HeadSpec, LayerParam, ModelSpec, Param};

/// Columns of all buffers of a forward pass, for each token of a batch; without logits.
pub fn forward_columns(spec: &ModelSpec) -> usize {
    stream_columns(spec) + layer_columns(spec)
}

/// Numbers in the buffers of a model whose gradients can be asked for, its head's included.
pub fn gradient_buffers(spec: &ModelSpec, limits: Limits) -> u64 {
    let layers = spec.layers * (layer_columns(spec) + kept_columns(spec));
    let gradients = 4 * spec.width + branch_columns(spec) + gate(spec);
    let columns = stream_columns(spec) + layers + gradients + SCORES;
    columns as u64 * limits.tokens as u64 + head_numbers(spec, limits.tokens)
}

/// Numbers in the transposed weights that gradients are taken through.
pub fn transposed_weights(spec: &ModelSpec) -> u64 {
    use LayerParam::{Down, Gate, Out, Qkv, Up};
    let inside = (0..spec.layers)
        .flat_map(|layer| [Qkv, Out, Gate, Up, Down].map(|weight| Param::Layer(layer, weight)));
    let head = [Param::Head, Param::HeadDense, Param::HeadProject, Param::Pooler];
    let shapes = inside.chain(head).filter_map(|weight| spec.shape(weight));
    shapes.map(|shape| shape.iter().map(|side| *side as u64).product::<u64>()).sum()
}

/// `[T, *]` of the stream: embeddings, what a branch reads and gives, the pooler.
fn stream_columns(spec: &ModelSpec) -> usize {
    let embedding = &spec.embedding;
    let narrow = embedding.narrow_site || embedding.project.is_some();
    let pooled = if spec.pooler { 2 * spec.width } else { 0 };
    3 * spec.width + pooled + if narrow { 2 * embedding.width } else { 0 }
}

/// Queries, keys, values.
fn qkv_columns(spec: &ModelSpec) -> usize {
    (spec.attention.heads + 2 * spec.attention.kv_heads) * spec.attention.head_width
}

/// Those, the heads' results and the neurons.
fn branch_columns(spec: &ModelSpec) -> usize {
    qkv_columns(spec) + spec.attention.heads * spec.attention.head_width + spec.mlp.width
}

fn gate(spec: &ModelSpec) -> usize {
    if spec.mlp.gated { spec.mlp.width } else { 0 }
}

/// What one layer computes.
fn layer_columns(spec: &ModelSpec) -> usize {
    branch_columns(spec) + spec.mlp.width + gate(spec)
}

/// What one layer keeps for its gradient.
fn kept_columns(spec: &ModelSpec) -> usize {
    let norms = match spec.block {
        BlockSpec::Parallel | BlockSpec::ParallelSharedNorm => 1,
        BlockSpec::Sandwich => 4,
        _ => 2,
    };
    let raw = spec.attention.qk_norm.map_or(0, |_| qkv_columns(spec));
    norms * spec.width + raw + gate(spec)
}

/// A piece of rows of the head, forward and backward.
fn head_numbers(spec: &ModelSpec, tokens: usize) -> u64 {
    let Some(classes) = spec.classes() else { return 0 };
    let (steps, hidden) = (HeadSteps::of(&spec.head), spec.head_input_width());
    let dense = usize::from(spec.head_hidden_width().is_some());
    let normed = matches!(spec.head, HeadSpec::Lm { transform: Some(_), .. });
    let between = dense + usize::from(steps.activation.is_some()) + usize::from(normed);
    let wide = 3 + if steps.pooled { 2 } else { 0 };
    let columns = 3 * classes + (between + 2) * hidden + wide * spec.width + 1;
    columns as u64 * piece_rows(classes, tokens) as u64
}
