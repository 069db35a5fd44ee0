// activation_grad: gradients through nonlinearities and caps, element by element.
//
//   x  [rows, cols] of T   what the nonlinearity read; the capped values where there is a cap
//   g  [rows, cols] of T   in place; rows of both `stride` elements apart, gaps computed like the rest
//
// activation_grad  g = g act'(x)      softcap_grad  g = g (1 - (x / cap)^2)
//
// Bytes  3 T C s (s = 2 or 4 bytes)   Flops  about 10 to 40 T C, as many as the functions take
// Floor  T = 8192, C = 14336, bf16: 705 MB, 164 us at 4.3 TB/s -> bound by memory
// In float with the accurate functions, rounded once: the formulas of
// src/device/cpu/activation_grad.rs. The kind is switched on once a thread, not once an element.
#include "activation.cuh"
#include "map.cuh"

struct ActivationGradArgs {
    const void* x;
    void* g;
    u64 elements;  // gaps between rows included
    u32 activation;
    float cap;
};

// At 0 the derivative is 0; where x is no number, the gradient is none either.
DEVICE float relu_slope(float x) { return x > 0.0f ? 1.0f : x <= 0.0f ? 0.0f : x; }
DEVICE float gelu_erf_slope(float x) {
    const float below = 0.5f * (1.0f + erff(x * 0.70710678f));
    return below + x * 0.3989423f * expf(-0.5f * x * x);  // 1 / sqrt(2 pi)
}
DEVICE float gelu_tanh_slope(float x) {
    const float t = tanhf(0.7978846f * (x + 0.044715f * x * x * x));
    const float inner = 0.7978846f * (1.0f + 3.0f * 0.044715f * x * x);
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * inner;
}
DEVICE float silu_slope(float x) {
    const float s = 1.0f / (1.0f + expf(-x));
    return s * (1.0f + x * (1.0f - s));
}
DEVICE float tanh_slope(float x) {
    const float t = tanhf(x);
    return 1.0f - t * t;
}

template <class T, class F> DEVICE void scale_gradient(const ActivationGradArgs& a, const F& slope) {
    T* g = static_cast<T*>(a.g);
    const auto scaled = [&](float x, float g) { return g * slope(x); };
    map_elements<T, true>(static_cast<const T*>(a.x), g, g, a.elements, scaled);
}

template <class T> DEVICE void activation_grad(const ActivationGradArgs& a) {
    switch (a.activation) {
        case RELU: scale_gradient<T>(a, [](float x) { return relu_slope(x); }); break;
        case GELU_ERF: scale_gradient<T>(a, [](float x) { return gelu_erf_slope(x); }); break;
        case GELU_TANH: scale_gradient<T>(a, [](float x) { return gelu_tanh_slope(x); }); break;
        case SILU: scale_gradient<T>(a, [](float x) { return silu_slope(x); }); break;
        default: scale_gradient<T>(a, [](float x) { return tanh_slope(x); }); break;
    }
}

template <class T> DEVICE void softcap_grad(const ActivationGradArgs& a) {
    scale_gradient<T>(a, [cap = a.cap](float y) { return 1.0f - y / cap * (y / cap); });
}

KERNEL(activation_grad_f32, ActivationGradArgs, 256) { activation_grad<float>(a); }
KERNEL(activation_grad_bf16, ActivationGradArgs, 256) { activation_grad<bf16>(a); }
KERNEL(softcap_grad_f32, ActivationGradArgs, 256) { softcap_grad<float>(a); }
KERNEL(softcap_grad_bf16, ActivationGradArgs, 256) { softcap_grad<bf16>(a); }
