// histogram: counts of every neuron per bin in every group (A5 of the accumulators).
//
//   x       [tokens, N] of T, rows `stride` apart       source [R] token of each row
//   edges   [N, B - 1] ascending: bin of x = number of edges e with x > e
//   counts  [ceil(N / P), G1, B, P] u32, running        first_groups [R] index among G1, 0 for none
//   out     [N, G1, B] u32, once at the end             other_rows, other_groups [others]: a row's
//                                                       groups after its first
//
// A block owns P neurons and a slab of the rows. Edges, transposed and filled up with inf, and
// counts stand in shared memory with neurons as lanes, so that the lanes of a warp meet different
// banks. A row counts in its first group, and all rows then gain what the groups have gained: one
// increment a value instead of two. P is 32, or the largest power of two whose counts fit; where
// not even one neuron's do, edges and counts are used in global memory. Counts are integers:
// neither slabs nor the order of increments changes them.
//
// Bytes  T N s (s = 2 or 4) and 8 N G1 B      Compares  log2(B) a value
// Floor  T = 16384, N = 8192, G1 = 18, B = 64, bf16: 80 us of memory; 7 turns of shared memory a
//        value and warp (5 edges, 1 or 2 for the increment): 120 us; 29 issue slots: 125 us
#include "common.cuh"

struct HistogramArgs {
    const void* x;
    const float* edges;
    const u32* source;
    const u32* first_groups;
    const u32* other_rows;
    const u32* other_groups;
    u32* counts;
    u32 stride;
    u32 neurons;
    u32 rows;
    u32 others;
    u32 groups;  // G1
    u32 bins;
    u32 half;    // first step of the search: the bins are below 2 half
    u32 width;   // P
    u32 shared;  // whether edges and counts fit into shared memory
    u32 unused;  // no gap at the end
};

constexpr u32 THREADS = 512;
constexpr u32 CHUNK = 8;  // rows of a lane at a time; source and first_groups are filled up to it
constexpr u32 NOT_A_NUMBER = 0x7fc00000u;
constexpr u32 NO_ROW = 0xffffffffu;  // first_groups of what fills up the last chunk

// What a block works on, and which of its neurons a lane has. A warp has 32 / P rows at a time.
struct Owner {
    const u8* column;  // of x
    float* edges;  // [2 half - 1, P], in shared memory
    u32* counts;   // [G1, B, P], and P more for values without a bin where it is shared memory
    u32 nowhere;   // where those start
    u32 group_size;
    u32 lane;      // neuron in the block
    u32 neuron;
    u32 worker;    // number of this lane among those that share the neuron in all slabs
    u32 workers;
};

// Some rows of one neuron, and where the counts of their first groups start.
struct Values {
    float x[CHUNK];
    u32 counts[CHUNK];
};

// The value of a row; of row 0 or of the last neuron where there is none, so that all can be read.
template <class T> DEVICE float load_value(const HistogramArgs& a, const Owner& own, u32 row) {
    const u64 offset = (u64)row * (u32)(a.stride * sizeof(T));
    return to_float(*reinterpret_cast<const T*>(own.column + offset));
}

// A row or value that does not count becomes NaN, which lies above no edge.
template <class T>
DEVICE void load_values(const HistogramArgs& a, const Owner& own, u32 chunk, Values& values) {
#pragma unroll
    for (u32 part = 0; part < CHUNK / 4; ++part) {
        const u32 first = chunk * CHUNK + part * 4;
        const Pack<u32> rows = load_pack(a.source + first);
        const Pack<u32> groups = load_pack(a.first_groups + first);
#pragma unroll
        for (u32 k = 0; k < 4; ++k) {
            const float value = load_value<T>(a, own, rows.at[k]);
            const bool counts = is_finite(value) && groups.at[k] != NO_ROW;
            values.x[part * 4 + k] = counts ? value : float_of_bits(NOT_A_NUMBER);
            values.counts[part * 4 + k] = counts ? groups.at[k] * own.group_size : own.nowhere;
        }
    }
}

// The step of a search over `step` times P edges; `at` are offsets in bytes, which need no scaling.
template <u32 K>
DEVICE void halve(const float* edges, u32 step, const float (&x)[K], u32 (&at)[K]) {
#pragma unroll
    for (u32 k = 0; k < K; ++k) {
        const u8* edge = reinterpret_cast<const u8*>(edges) + at[k];
        if (x[k] > *reinterpret_cast<const float*>(edge)) at[k] += step * (u32)sizeof(float);
    }
}

// bins[k] = P * (bin of x[k]) + lane, all searched side by side. HALF is a.half where the compiler
// shall know it, else 0.
template <u32 HALF, u32 K>
DEVICE void search(const float* edges, u32 half, u32 width, const float (&x)[K], u32 lane,
                   u32 (&bins)[K]) {
#pragma unroll
    for (u32 k = 0; k < K; ++k) bins[k] = lane * (u32)sizeof(float);
    if constexpr (HALF != 0) {
#pragma unroll
        for (u32 step = HALF; step > 0; step /= 2) {
            halve(edges + (step - 1) * WARP, step * WARP, x, bins);
        }
    } else {
#pragma unroll 1
        for (u32 step = half; step > 0; step /= 2) {
            halve(edges + (step - 1) * width, step * width, x, bins);
        }
    }
#pragma unroll
    for (u32 k = 0; k < K; ++k) bins[k] /= (u32)sizeof(float);
}

// The same in global memory, where edges are not transposed.
template <u32 K>
DEVICE void search_global(const HistogramArgs& a, const Owner& own, const float (&x)[K],
                          u32 (&bins)[K]) {
    const u32 edges = a.bins - 1;
    for (u32 k = 0; k < K; ++k) {
        u32 bin = 0;
        for (u32 step = a.half; step > 0; step /= 2) {
            const u32 at = bin + step - 1;
            if (at < edges && x[k] > a.edges[(u64)own.neuron * edges + at]) bin += step;
        }
        bins[k] = bin * WARP + own.lane;
    }
}

template <bool SHARED, u32 WIDTH, u32 K>
DEVICE void find_bins(const HistogramArgs& a, const Owner& own, u32 width, const float (&x)[K],
                      u32 (&bins)[K]) {
    if constexpr (!SHARED) search_global(a, own, x, bins);
    else if (WIDTH && a.half == WARP) search<WARP>(own.edges, 0, WIDTH, x, own.lane, bins);
    else search<0>(own.edges, a.half, width, x, own.lane, bins);
}

// Counts each row in its first group; and among all rows, where those are not derived.
template <class T, bool SHARED, u32 WIDTH>
DEVICE void count_rows(const HistogramArgs& a, const Owner& own, u32 width) {
    const u32 chunks = ceil_div(a.rows, CHUNK);
    Values ahead;
    if (own.worker < chunks) load_values<T>(a, own, own.worker, ahead);
    for (u32 chunk = own.worker; chunk < chunks; chunk += own.workers) {
        const Values values = ahead;
        const u32 next = chunk + own.workers;
        if (next < chunks) load_values<T>(a, own, next, ahead);
        u32 bins[CHUNK];
        find_bins<SHARED, WIDTH, CHUNK>(a, own, width, values.x, bins);
#pragma unroll
        for (u32 k = 0; k < CHUNK; ++k) {
            if (!SHARED && values.counts[k] == own.nowhere) continue;
            atomicAdd(&own.counts[values.counts[k] + bins[k]], 1u);
            if (!SHARED && values.counts[k] != 0) atomicAdd(&own.counts[bins[k]], 1u);
        }
    }
}

// Counts rows in their groups after the first.
template <class T, bool SHARED, u32 WIDTH>
DEVICE void count_others(const HistogramArgs& a, const Owner& own, u32 width) {
    for (u32 i = own.worker; i < a.others; i += own.workers) {
        const float value[1] = {load_value<T>(a, own, a.source[a.other_rows[i]])};
        u32 bin[1];
        find_bins<SHARED, WIDTH, 1>(a, own, width, value, bin);
        if (!is_finite(value[0])) continue;
        atomicAdd(&own.counts[a.other_groups[i] * own.group_size + bin[0]], 1u);
    }
}

// Fills the block's shared memory: its edges, and counts of 0.
DEVICE void begin(const HistogramArgs& a, const Owner& own, u32 width) {
    const u32 first = blockIdx.x * width;
    for (u32 i = threadIdx.x; i < (2 * a.half - 1) * width; i += THREADS) {
        const u32 neuron = first + i % width, at = i / width;
        const bool there = neuron < a.neurons && at < a.bins - 1;
        own.edges[i] = there ? a.edges[(u64)neuron * (a.bins - 1) + at] : float_of_bits(INFINITE);
    }
    for (u32 i = threadIdx.x; i < own.nowhere; i += THREADS) own.counts[i] = 0;
}

// All rows = rows of any first group, or of none.
DEVICE void derive_all_rows(const Owner& own) {
    for (u32 i = threadIdx.x; i < own.group_size; i += THREADS) {
        u32 sum = 0;
        for (u32 at = i; at < own.nowhere; at += own.group_size) sum += own.counts[at];
        own.counts[i] = sum;
    }
}

// WIDTH is P where that is 32, else 0.
template <class T, bool SHARED, u32 WIDTH> DEVICE void histogram(const HistogramArgs& a) {
    EL_SMEM(memory);
    const u32 width = WIDTH ? WIDTH : a.width;
    Owner own;
    own.group_size = a.bins * width;
    own.nowhere = a.groups * own.group_size;
    u32* running = a.counts + (u64)blockIdx.x * own.nowhere;
    own.edges = reinterpret_cast<float*>(memory);
    own.counts = SHARED ? reinterpret_cast<u32*>(own.edges + (2 * a.half - 1) * width) : running;
    own.lane = lane_id() % width;
    // Lanes beyond the last neuron repeat it, and count in columns that no one reads.
    own.neuron = smaller(blockIdx.x * width + own.lane, a.neurons - 1);
    own.column = reinterpret_cast<const u8*>(static_cast<const T*>(a.x) + own.neuron);
    const u32 each = THREADS / width;
    own.worker = blockIdx.y * each + warp_id() * (WARP / width) + lane_id() / width;
    own.workers = gridDim.y * each;
    if constexpr (SHARED) begin(a, own, width);
    __syncthreads();
    count_rows<T, SHARED, WIDTH>(a, own, width);
    __syncthreads();
    if constexpr (SHARED) derive_all_rows(own);
    __syncthreads();
    count_others<T, SHARED, WIDTH>(a, own, width);
    __syncthreads();
    if constexpr (SHARED) {
        for (u32 i = threadIdx.x; i < own.nowhere; i += THREADS) {
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
