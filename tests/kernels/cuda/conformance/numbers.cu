// Conversions, approximations and exact arithmetic, an item a thread.
#include "conformance.cuh"

constexpr u32 THREADS = 256;

template <class F> DEVICE void each_item(const ConformanceArgs& a, F f) {
    for (u32 i = threadIdx.x; i < a.count; i += THREADS) f(i);
}
DEVICE float float_at(const ConformanceArgs& a, u32 i) { return float_of_bits(a.in[i]); }
DEVICE void store_double(u32* to, double x) {
    const u64 bits = (u64)__double_as_longlong(x);
    to[0] = (u32)bits;
    to[1] = (u32)(bits >> 32);
}

// The same words back.
KERNEL(number_bits, ConformanceArgs, THREADS) {
    each_item(a, [&](u32 i) { a.out[i] = bits_of_float(float_at(a, i)); });
}
// Two floats each.
KERNEL(number_pack, ConformanceArgs, THREADS) {
    each_item(a, [&](u32 i) {
        a.out[i] = pack_bf16x2(float_at(a, 2 * i), float_at(a, 2 * i + 1));
    });
}
KERNEL(number_exp2, ConformanceArgs, THREADS) {
    each_item(a, [&](u32 i) { a.out[i] = bits_of_float(exp2_fast(float_at(a, i))); });
}
KERNEL(number_positive, ConformanceArgs, THREADS) {
    each_item(a, [&](u32 i) {
        u32 count = i;
        count_positive(count, float_at(a, i));
        a.out[i] = count;
    });
}
// Three doubles each; a sum, a product, both rounded once, both rounded twice.
KERNEL(number_doubles, ConformanceArgs, THREADS) {
    each_item(a, [&](u32 i) {
        const u32* from = a.in + 6 * i;
        const double x = double_of_words(from[0], from[1]);
        const double y = double_of_words(from[2], from[3]);
        const double z = double_of_words(from[4], from[5]);
        u32* to = a.out + 8 * i;
        store_double(to, add_exact(x, y));
        store_double(to + 2, mul_exact(x, y));
        store_double(to + 4, fma_exact(x, y, z));
        store_double(to + 6, add_exact(mul_exact(x, y), z));
    });
}
// What kernels use of the language's own functions: of one number, and of three.
KERNEL(number_functions, ConformanceArgs, THREADS) {
    each_item(a, [&](u32 i) {
        const float x = float_at(a, i);
        const float y[5] = {expf(x), tanhf(x), erff(x), sqrtf(x), 1.0f / x};
        for (u32 k = 0; k < 5; ++k) a.out[5 * i + k] = bits_of_float(y[k]);
    });
}
KERNEL(number_operations, ConformanceArgs, THREADS) {
    each_item(a, [&](u32 i) {
        const float x = float_at(a, 3 * i), y = float_at(a, 3 * i + 1), z = float_at(a, 3 * i + 2);
        const float w[4] = {x / y, fmaf(x, y, z), fminf(x, y), fmaxf(x, y)};
        for (u32 k = 0; k < 4; ++k) a.out[4 * i + k] = bits_of_float(w[k]);
    });
}
