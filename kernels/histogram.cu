// histogram: counts of every neuron per bin in every group (A5 of the accumulators).
//
//   x       [tokens, N] of T, rows `stride` apart       source [R] token of each row
//   edges   [N, B - 1] ascending: bin of x = number of edges e with x > e
//   counts  [ceil(N / P), G1, B, P] u32, running        first_groups [R] index among G1, 0 for none
//   out     [N, G1, B] u32, once at the end             other_rows, other_groups [others]: a row's
//                                                       groups after its first
//
// A block owns P neurons and a slab of the rows. Edges, transposed and filled up with inf, and counts
// stand in shared memory with neurons as lanes, so that the lanes of a warp meet different banks. A
// row counts in its first group, and all rows then gain what the groups have gained: one increment
// a value instead of two. P is 32, or the largest power of two whose counts fit; where not even one
// neuron's do, edges and counts are used in global memory. Counts are integers: neither slabs nor the
// order of increments changes them.
//
// Bytes  T N s (s = 2 or 4) and 8 N G1 B      Compares  log2(B) a value
// Floor  T = 16384, N = 8192, G1 = 18, B = 64, bf16: 80 us of memory; 6 steps of the search, 1 load
//        and 1 increment are 9 turns of shared memory a value and warp: 150 us
#include "common.cuh"

struct HistogramArgs {
    const void* x;
    const float* edges;
    const u32* source;
    const u32* first_groups;
    const u32* other_rows;
    const u32* other_groups;
    u32* counts;
    u64 stride;
    u32 neurons;
    u32 rows;
    u32 others;
    u32 groups;  // G1
    u32 bins;
    u32 half;    // first step of the search: the bins are below 2 half
    u32 width;   // P
    u32 shared;  // whether edges and counts fit into shared memory
};

constexpr u32 THREADS = 512;
constexpr u32 CHUNK = 8;  // rows of a lane at a time; source and first_groups are filled up to it
constexpr u32 NO_GROUP = 0xffffffffu;

DEVICE bool is_finite(float x) { return (bits_of_float(x) & 0x7f800000u) != 0x7f800000u; }

// What a block works on, and which of its neurons a lane has. A warp has 32 / P rows at a time.
struct Owner {
    float* edges;  // [2 half - 1, P], in shared memory
    u32* counts;   // [G1, B, P]
    u32 lane;      // neuron in the block
    u32 neuron;
    bool inside;
    u32 worker;    // number of this lane among those that share the neuron in all slabs
    u32 workers;
};

// Some rows of one neuron; those without a bin have no group.
struct Values {
    float x[CHUNK];
    u32 group[CHUNK];
};

template <class T>
DEVICE void load_values(const HistogramArgs& a, const Owner& own, u32 chunk, Values& values) {
    const T* x = static_cast<const T*>(a.x) + own.neuron;
#pragma unroll
    for (u32 part = 0; part < CHUNK / 4; ++part) {
        const u32 first = chunk * CHUNK + part * 4;
        const Pack<u32> rows = load_pack(a.source + first);
        const Pack<u32> groups = load_pack(a.first_groups + first);
#pragma unroll
        for (u32 k = 0; k < 4; ++k) {
            const bool there = own.inside && first + k < a.rows;
            const float value = there ? to_float(x[rows.at[k] * a.stride]) : 0.0f;
            values.x[part * 4 + k] = value;
            values.group[part * 4 + k] = there && is_finite(value) ? groups.at[k] : NO_GROUP;
        }
    }
}

// bins[k] = P * (bin of x[k]) + lane, all searched side by side.
template <bool SHARED, u32 K>
DEVICE void find_bins(const HistogramArgs& a, const Owner& own, u32 width, const float (&x)[K],
                      u32 (&bins)[K]) {
#pragma unroll
    for (u32 k = 0; k < K; ++k) bins[k] = own.lane;
    for (u32 step = a.half; step > 0; step /= 2) {
        const float* edges = own.edges + (step - 1) * width;
#pragma unroll
        for (u32 k = 0; k < K; ++k) {
            bool above;
            if constexpr (SHARED) {
                above = x[k] > edges[bins[k]];
            } else {
                const u32 at = bins[k] / width + step - 1;
                const u64 row = (u64)own.neuron * (a.bins - 1);
                above = own.inside && at < a.bins - 1 && x[k] > a.edges[row + at];
            }
            if (above) bins[k] += step * width;
        }
    }
}

// Counts each row in its first group; and among all rows, where those are not derived.
template <class T, bool SHARED>
DEVICE void count_rows(const HistogramArgs& a, const Owner& own, u32 width) {
    const u32 chunks = ceil_div(a.rows, CHUNK);
    const u32 group_size = a.bins * width;
    Values ahead;
    if (own.worker < chunks) load_values<T>(a, own, own.worker, ahead);
    for (u32 chunk = own.worker; chunk < chunks; chunk += own.workers) {
        const Values values = ahead;
        const u32 next = chunk + own.workers;
        if (next < chunks) load_values<T>(a, own, next, ahead);
        u32 bins[CHUNK];
        find_bins<SHARED, CHUNK>(a, own, width, values.x, bins);
#pragma unroll
        for (u32 k = 0; k < CHUNK; ++k) {
            const u32 group = values.group[k];
            if (group == NO_GROUP) continue;
            atomicAdd(&own.counts[(u64)group * group_size + bins[k]], 1u);
            if (!SHARED && group != 0) atomicAdd(&own.counts[bins[k]], 1u);
        }
    }
}

// Counts rows in their groups after the first.
template <class T, bool SHARED>
DEVICE void count_others(const HistogramArgs& a, const Owner& own, u32 width) {
    const T* x = static_cast<const T*>(a.x) + own.neuron;
    for (u32 i = own.worker; i < a.others && own.inside; i += own.workers) {
        const float value[1] = {to_float(x[a.source[a.other_rows[i]] * a.stride])};
        u32 bin[1];
        find_bins<SHARED, 1>(a, own, width, value, bin);
        if (!is_finite(value[0])) continue;
        atomicAdd(&own.counts[(u64)a.other_groups[i] * a.bins * width + bin[0]], 1u);
    }
}

// Fills the block's shared memory: its edges, and counts of 0.
DEVICE void begin(const HistogramArgs& a, const Owner& own, u32 width) {
    const u32 first = blockIdx.x * width;
    for (u32 i = threadIdx.x; i < (2 * a.half - 1) * width; i += THREADS) {
        const u32 neuron = first + i % width, at = i / width;
        const bool there = neuron < a.neurons && at < a.bins - 1;
        own.edges[i] = there ? a.edges[(u64)neuron * (a.bins - 1) + at] : float_of_bits(0x7f800000u);
    }
    for (u32 i = threadIdx.x; i < a.groups * a.bins * width; i += THREADS) own.counts[i] = 0;
}

// All rows = rows of any first group, or of none.
DEVICE void derive_all_rows(const HistogramArgs& a, const Owner& own, u32 width) {
    const u32 group_size = a.bins * width;
    for (u32 i = threadIdx.x; i < group_size; i += THREADS) {
        u32 sum = 0;
        for (u32 group = 0; group < a.groups; ++group) sum += own.counts[group * group_size + i];
        own.counts[i] = sum;
    }
}

// WIDTH is P where that is 32, else 0.
template <class T, bool SHARED, u32 WIDTH> DEVICE void histogram(const HistogramArgs& a) {
    EL_SMEM(memory);
    const u32 width = WIDTH ? WIDTH : a.width;
    const u32 cells = a.groups * a.bins * width;
    u32* running = a.counts + (u64)blockIdx.x * a.groups * a.bins * width;
    Owner own;
    own.edges = reinterpret_cast<float*>(memory);
    own.counts = SHARED ? reinterpret_cast<u32*>(own.edges + (2 * a.half - 1) * width) : running;
    own.lane = lane_id() % width;
    own.neuron = blockIdx.x * width + own.lane;
    own.inside = own.neuron < a.neurons;
    const u32 each = THREADS / width;
    own.worker = blockIdx.y * each + warp_id() * (WARP / width) + lane_id() / width;
    own.workers = gridDim.y * each;
    if constexpr (SHARED) begin(a, own, width);
    __syncthreads();
    count_rows<T, SHARED>(a, own, width);
    __syncthreads();
    if constexpr (SHARED) derive_all_rows(a, own, width);
    __syncthreads();
    count_others<T, SHARED>(a, own, width);
    __syncthreads();
    if constexpr (SHARED) {
        for (u32 i = threadIdx.x; i < cells; i += THREADS) {
            if (own.counts[i] != 0) atomicAdd(&running[i], own.counts[i]);
        }
    }
}

template <class T> DEVICE void choose(const HistogramArgs& a) {
    if (!a.shared) histogram<T, false, WARP>(a);
    else if (a.width == WARP) histogram<T, true, WARP>(a);
    else histogram<T, true, 0>(a);
}

KERNEL(histogram_f32, HistogramArgs, THREADS) { choose<float>(a); }
KERNEL(histogram_bf16, HistogramArgs, THREADS) { choose<bf16>(a); }

struct HistogramOrderArgs {
    const u32* counts;
    u32* out;
    u64 cells;  // G1 B
    u32 neurons;
    u32 width;  // P
};

// counts[neuron / P][cell][neuron % P] to out[neuron][cell], a square of 32 at a time.
KERNEL(histogram_order, HistogramOrderArgs, 256) {
    EL_SHARED(u32, square, [WARP][WARP + 1]);
    const u32 first = blockIdx.x * WARP;  // neuron
    for (u64 start = (u64)blockIdx.y * WARP; start < a.cells; start += (u64)gridDim.y * WARP) {
        const u32 neuron = first + lane_id();
        const u64 block = neuron / a.width * a.cells;
        for (u32 row = warp_id(); row < WARP; row += blockDim.x / WARP) {
            const bool there = neuron < a.neurons && start + row < a.cells;
            square[row][lane_id()] =
                there ? a.counts[(block + start + row) * a.width + neuron % a.width] : 0;
        }
        __syncthreads();
        for (u32 row = warp_id(); row < WARP; row += blockDim.x / WARP) {
            const u64 cell = start + lane_id();
            if (first + row < a.neurons && cell < a.cells) {
                a.out[(first + row) * a.cells + cell] = square[lane_id()][row];
            }
        }
        __syncthreads();
    }
}
