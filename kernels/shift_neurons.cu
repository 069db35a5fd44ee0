// shift_neurons: what changing one neuron of each row does to what the MLP gives:
//   out[r] += ((scale[r] - 1) act[tokens[r], n] + shift[r]) down[:, n],  n = neurons[r]
//
//   down            [cols, neurons] of T  rows `down_stride` elements apart
//   act             [T, neurons] of T     rows `act_stride` elements apart
//   tokens,neurons  [rows] u32            checked on the host
//   scale, shift    [rows] f32
//   out             [rows, cols] of T     rows `out_stride` elements apart
//
// Bytes  2 R C s + up to 32 C for each run of rows of one neuron: a column's elements lie in sectors
//        of their own   Flops  2 R C
// Floor  R = 8192 in runs of 128, C = 4096, bf16: 134 + 8 MB, 33 us at 4.3 TB/s -> bound by memory
// A thread has a pack of columns and walks down some rows; it keeps what it fetched of a column of
// `down` while the neuron stays the same, as it does where a sweep has a run of rows for each.
#include "row.cuh"

struct ShiftNeuronsArgs {
    const void* down;
    const void* act;
    const u32* tokens;
    const u32* neurons;
    const float* scale;
    const float* shift;
    void* out;
    u64 down_stride;
    u64 act_stride;
    u64 out_stride;
    u32 rows;
    u32 cols;
};

constexpr u32 THREADS = 128;
constexpr u32 ROWS = 32;  // of a block; the host divides the rows by it

template <class T, bool WIDE> DEVICE void shift_rows(const ShiftNeuronsArgs& a) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    const u32 at = (blockIdx.y * THREADS + threadIdx.x) * SIZE;
    if (at >= a.cols) return;
    const u32 left = a.cols - at;
    const T* down = static_cast<const T*>(a.down) + at * a.down_stride;
    const u32 end = smaller((blockIdx.x + 1) * ROWS, a.rows);
    float column[SIZE] = {};
    u32 of = 0xffffffffu;
    for (u32 row = blockIdx.x * ROWS; row < end; ++row) {
        const u32 neuron = a.neurons[row];
        if (neuron != of) {
            for (u32 i = 0; i < SIZE; ++i) {
                if (i < left) column[i] = to_float(down[i * a.down_stride + neuron]);
            }
            of = neuron;
        }
        const float x = to_float(static_cast<const T*>(a.act)[a.tokens[row] * a.act_stride + neuron]);
        const float change = (a.scale[row] - 1.0f) * x + a.shift[row];
        T* out = static_cast<T*>(a.out) + row * a.out_stride + at;
        const Pack<T> old = load_part<WIDE>(out, left);
        float values[SIZE];
        for (u32 i = 0; i < SIZE; ++i) values[i] = to_float(old.at[i]) + change * column[i];
        store_part<WIDE>(out, pack_of<T>(values), left);
    }
}

template <class T> DEVICE void shift_neurons(const ShiftNeuronsArgs& a) {
    if (a.out_stride % Pack<T>::SIZE == 0) {
        shift_rows<T, true>(a);
    } else {
        shift_rows<T, false>(a);
    }
}

KERNEL(shift_neurons_f32, ShiftNeuronsArgs, THREADS) { shift_neurons<float>(a); }
KERNEL(shift_neurons_bf16, ShiftNeuronsArgs, THREADS) { shift_neurons<bf16>(a); }
