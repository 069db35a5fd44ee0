// gated_act: nonlinearities, products and caps, element by element.
//
//   x, y, out  [rows, cols] of T, rows `stride` elements apart; gaps are computed like the rest
//
// Bytes  activate, softcap: 2 T C s, multiply: 3 T C s (s = 2 or 4 bytes)
// Flops  multiply: T C; activate: about 10 to 30 T C, as many as the functions take
// Floor  activate, T = 8192, C = 14336, bf16: 470 MB, 109 us at 4.3 TB/s -> bound by memory, though
//        the exact erf comes near the rate at which floats can be multiplied
// Each thread has two packs of each operand under way: at 2048 threads a processor that is more
// than the latency of memory can hide. The kind is switched on once a thread, not once an element.
#include "activation.cuh"
#include "row.cuh"

struct GatedActArgs {
    const void* x;
    const void* y;  // multiply alone
    void* out;
    u64 elements;  // gaps between rows included
    u32 activation;
    float cap;
};

constexpr u32 AHEAD = 2;

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

template <class T, bool TWO, bool WIDE, class F>
DEVICE void map_packs(const GatedActArgs& a, u64 first, const F& f) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    const T* x = static_cast<const T*>(a.x);
    const T* y = static_cast<const T*>(a.y);
    T* out = static_cast<T*>(a.out);
    Pack<T> xs[AHEAD], ys[AHEAD];
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u64 at = first + (u64)k * blockDim.x * SIZE;
        const u32 left = pack_left<WIDE, SIZE>(at, a.elements);
        xs[k] = load_part<WIDE>(x + at, left);
        if constexpr (TWO) ys[k] = load_part<WIDE>(y + at, left);
    }
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u64 at = first + (u64)k * blockDim.x * SIZE;
        float values[SIZE];
        for (u32 i = 0; i < SIZE; ++i) {
            values[i] = f(to_float(xs[k].at[i]), TWO ? to_float(ys[k].at[i]) : 0.0f);
        }
        store_part<WIDE>(out + at, pack_of<T>(values), pack_left<WIDE, SIZE>(at, a.elements));
    }
}

template <class T, bool TWO, class F> DEVICE void map(const GatedActArgs& a, const F& f) {
    const u64 tile = (u64)AHEAD * blockDim.x * Pack<T>::SIZE;
    const u64 first = blockIdx.x * tile + threadIdx.x * Pack<T>::SIZE;
    if ((blockIdx.x + 1) * tile <= a.elements) {
        map_packs<T, TWO, true>(a, first, f);
    } else {
        map_packs<T, TWO, false>(a, first, f);
    }
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
