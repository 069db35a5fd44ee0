//! Every kernel against the CPU device and float64 loops, at odd sizes, through the fake driver (or
//! on a real GPU).

mod activation_grad;
mod attention;
mod attention_case;
mod attention_grad;
mod attention_past;
mod conformance;
mod edit;
mod embed;
mod gated_act;
mod gemm;
mod gemm_kernels;
mod gemm_tiles;
mod gram;
mod norm;
mod norm_grad;
mod pick_logits;
mod pool;
mod probe_bank;
mod reference;
mod rescale;
mod residual;
mod rope;
mod rows;
mod scatter;
mod score;
mod shift_neurons;
mod statistics;
mod transpose;
mod upload;
