// residual: sums and copies of whole tensors, element by element.
//
//   x, y, out  [rows, cols] of T, rows `stride` elements apart (a multiple of 16 bytes)
//
// Bytes  add: 3 T C s, copy: 2 T C s (s = 2 or 4 bytes)   Flops  T C   -> bound by memory
#include "common.cuh"

struct ResidualArgs {
    const void* y;
    void* x;
    u64 packs;  // of 16 bytes, gaps at the end of rows included
};

template <class T> DEVICE void add(const ResidualArgs& a) {
    const T* y = static_cast<const T*>(a.y);
    T* x = static_cast<T*>(a.x);
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < a.packs; i += step) {
        Pack<T> sum = load_pack(x + i * Pack<T>::SIZE);
        const Pack<T> more = load_pack(y + i * Pack<T>::SIZE);
        for (u32 k = 0; k < Pack<T>::SIZE; ++k) {
            sum.at[k] = from_float<T>(to_float(sum.at[k]) + to_float(more.at[k]));
        }
        store_pack(x + i * Pack<T>::SIZE, sum);
    }
}

KERNEL(add_f32, ResidualArgs, 256) { add<float>(a); }
KERNEL(add_bf16, ResidualArgs, 256) { add<bf16>(a); }
