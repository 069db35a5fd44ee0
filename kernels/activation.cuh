// The nonlinearities of crate::model::Activation, numbered as that enum lists them. In float with
// the accurate functions: the same formulas as src/device/cpu/gated_act.rs.
#pragma once
#include "common.cuh"

enum Activation : u32 { RELU, GELU_ERF, GELU_TANH, SILU, TANH };

// Not fmaxf: that would turn NaN into 0.
DEVICE float relu(float x) { return x < 0.0f ? 0.0f : x; }
DEVICE float gelu_erf(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678f)); }
DEVICE float gelu_tanh(float x) {
    const float inner = 0.7978846f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1.0f + tanhf(inner));
}
DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }

DEVICE float activate(u32 kind, float x) {
    switch (kind) {
        case RELU: return relu(x);
        case GELU_ERF: return gelu_erf(x);
        case GELU_TANH: return gelu_tanh(x);
        case SILU: return silu(x);
        default: return tanhf(x);
    }
}
// Of `N` values in registers. The kind is the same for every thread, so it is asked once.
template <u32 N> DEVICE void activate_each(u32 kind, float (&x)[N]) {
    switch (kind) {
        case RELU:
            for (u32 i = 0; i < N; ++i) x[i] = relu(x[i]);
            break;
        case GELU_ERF:
            for (u32 i = 0; i < N; ++i) x[i] = gelu_erf(x[i]);
            break;
        case GELU_TANH:
            for (u32 i = 0; i < N; ++i) x[i] = gelu_tanh(x[i]);
            break;
        case SILU:
            for (u32 i = 0; i < N; ++i) x[i] = silu(x[i]);
            break;
        default:
            for (u32 i = 0; i < N; ++i) x[i] = tanhf(x[i]);
    }
}
