// gated_act: nonlinearities, products and caps, element by element.
//
//   x, y, out  [rows, cols] of T, rows `stride` elements apart; gaps are computed like the rest
//
// Bytes  activate, softcap: 2 T C s, multiply: 3 T C s (s = 2 or 4 bytes)
// Flops  multiply: T C; activate: about 10 to 30 T C, as many as the functions take
// Floor  activate, T = 8192, C = 14336, bf16: 470 MB, 109 us at 4.3 TB/s -> bound by memory, though
//        the exact erf comes near the rate at which floats can be multiplied
// The kind is switched on once a thread, not once an element.
#include "activation.cuh"
#include "map.cuh"

struct GatedActArgs {
    const void* x;
    const void* y;  // multiply alone
    void* out;
    u64 elements;  // gaps between rows included
    u32 activation;
    float cap;
};

struct Multiply {
    DEVICE float operator()(float x, float y) const { return x * y; }
};
struct Softcap {
    float cap;
    DEVICE float operator()(float x, float) const { return cap * tanhf(x / cap); }
};
template <u32 KIND> struct Activate {
    DEVICE float operator()(float x, float) const { return activate(KIND, x); }
};

template <class T, bool TWO, class F> DEVICE void map(const GatedActArgs& a, const F& f) {
    map_elements<T, TWO>(static_cast<const T*>(a.x), static_cast<const T*>(a.y),
                         static_cast<T*>(a.out), a.elements, f);
}

template <class T> DEVICE void activate_all(const GatedActArgs& a) {
    switch (a.activation) {
        case RELU: map<T, false>(a, Activate<RELU>{}); break;
        case GELU_ERF: map<T, false>(a, Activate<GELU_ERF>{}); break;
        case GELU_TANH: map<T, false>(a, Activate<GELU_TANH>{}); break;
        case SILU: map<T, false>(a, Activate<SILU>{}); break;
        default: map<T, false>(a, Activate<TANH>{}); break;
    }
}

KERNEL(activate_f32, GatedActArgs, 256) { activate_all<float>(a); }
KERNEL(activate_bf16, GatedActArgs, 256) { activate_all<bf16>(a); }
KERNEL(multiply_f32, GatedActArgs, 256) { map<float, true>(a, Multiply{}); }
KERNEL(multiply_bf16, GatedActArgs, 256) { map<bf16, true>(a, Multiply{}); }
KERNEL(softcap_f32, GatedActArgs, 256) { map<float, false>(a, Softcap{a.cap}); }
KERNEL(softcap_bf16, GatedActArgs, 256) { map<bf16, false>(a, Softcap{a.cap}); }
