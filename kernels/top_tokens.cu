// top_tokens: the k largest and the k smallest values of every neuron with their rows (A8 of the
// accumulators).
//
//   x       [tokens, N] of T, rows `stride` apart       source [R] token of each row
//   ids     [R] u64, who each row is                    per direction: values [N, k] f32, rows
//                                                       [N, k] u64, len [N] u32, running
//
// A block owns 32 neurons (lanes) and reads 128 rows at a time, 8 a warp. A value beyond the k-th
// of its neuron is noted in shared memory; between two barriers one warp then puts what was noted
// into the lists of the largest and another into those of the smallest. Lists are ordered by value
// and row, a total order: which warp noted a value first changes nothing. Hits grow with the
// logarithm of the rows, k (1 + ln(R / k)) per neuron: after the first rows the cost is that of
// reading.
//
// Bytes  T N s (s = 2 or 4) and 24 N k a direction      Compares  2 a value
// Floor  T = 16384, N = 8192, bf16: 62 us of memory; about 6 issue slots a value: 26 us
#include "common.cuh"

struct TopTokensArgs {
    const void* x;
    const u32* source;
    const u64* ids;
    float* top_values;
    u64* top_rows;
    u32* top_len;
    float* bottom_values;
    u64* bottom_rows;
    u32* bottom_len;
    u32 stride;
    u32 neurons;
    u32 rows;
    u32 top;     // k
    u32 bottom;  // k
    u32 later;   // rows ascend and come after all seen before: an equal value never wins
    u32 shared;  // whether lists fit into shared memory
    u32 unused;  // no gap at the end
};

constexpr u32 THREADS = 512;
constexpr u32 WARPS = THREADS / WARP;
constexpr u32 CHUNK = 8;              // rows of a warp at a time; source is filled up to it
constexpr u32 STAGE = CHUNK * WARPS;  // rows between two barriers

// The list of one neuron: place j is `step` after place j - 1.
template <bool BOTTOM> struct List {
    float* values;
    u64* rows;
    u32 step;
    u32 k;
    u32 len;

    // What is kept largest: x, or -x for the smallest values.
    DEVICE static float key(float x) { return BOTTOM ? -x : x; }
    DEVICE float limit() const {
        return len == k && k > 0 ? values[(k - 1) * step] : key(-float_of_bits(INFINITE));
    }
    // Better value first, then the lower row.
    DEVICE bool precedes(float x, u64 row, u32 place) const {
        const float left = key(x), right = key(values[place * step]);
        return left > right || (left == right && row < rows[place * step]);
    }

    // Puts a finite value where it belongs, if it does.
    DEVICE void offer(float x, u64 row) {
        if (k == 0 || (len == k && !precedes(x, row, k - 1))) return;
        u32 at = len == k ? k - 1 : len++;
        for (; at > 0 && precedes(x, row, at - 1); --at) {
            values[at * step] = values[(at - 1) * step];
            rows[at * step] = rows[(at - 1) * step];
        }
        values[at * step] = x;
        rows[at * step] = row;
    }
};

// What the rows of a stage noted, per neuron, in any order.
struct Noted {
    float* values;  // [STAGE, 32]
    u32* rows;      // of the batch
    u32* len;       // [32]
};

// The lists of a direction between batches.
struct Lists {
    float* values;
    u64* rows;
    u32* len;
    u32 k;
};

// The list of a lane during a batch: in shared memory from `memory` on, or where it is kept. Made
// anew where it is needed, so that it holds no registers while rows are read.
template <bool BOTTOM>
DEVICE List<BOTTOM> list_of(const Lists& kept, u8* memory, bool shared, u32 neuron, u32 len) {
    if (!shared) {
        const u64 first = (u64)neuron * kept.k;
        return List<BOTTOM>{kept.values + first, kept.rows + first, 1, kept.k, len};
    }
    float* values = reinterpret_cast<float*>(memory + kept.k * WARP * sizeof(u64));
    u64* rows = reinterpret_cast<u64*>(memory);
    return List<BOTTOM>{values + lane_id(), rows + lane_id(), WARP, kept.k, len};
}

// Brings a lane's list to shared memory if it is to be there; returns what a value must exceed.
template <bool BOTTOM>
DEVICE float open_list(const Lists& kept, u8* memory, bool shared, u32 neuron, u32& len) {
    len = kept.len[neuron];
    const List<BOTTOM> list = list_of<BOTTOM>(kept, memory, shared, neuron, len);
    for (u32 j = 0; shared && j < len; ++j) {
        list.values[j * WARP] = kept.values[(u64)neuron * kept.k + j];
        list.rows[j * WARP] = kept.rows[(u64)neuron * kept.k + j];
    }
    return list.limit();
}

template <bool BOTTOM>
DEVICE void keep_list(const Lists& kept, u8* memory, bool shared, u32 neuron, u32 len) {
    const List<BOTTOM> list = list_of<BOTTOM>(kept, memory, shared, neuron, len);
    kept.len[neuron] = len;
    for (u32 j = 0; shared && j < len; ++j) {
        kept.values[(u64)neuron * kept.k + j] = list.values[j * WARP];
        kept.rows[(u64)neuron * kept.k + j] = list.rows[j * WARP];
    }
}

// Puts what was noted for a lane into its list; returns what a value must exceed now.
template <bool BOTTOM>
DEVICE float put(const u64* ids, const Noted& noted, List<BOTTOM> list, u32& len) {
#pragma unroll 1
    for (u32 i = 0; i < noted.len[lane_id()]; ++i) {
        const u32 place = i * WARP + lane_id();
        list.offer(noted.values[place], ids[noted.rows[place]]);
    }
    len = list.len;
    return list.limit();
}

// Eight rows of a neuron, NaN where there is none.
template <class T>
DEVICE void load_values(const TopTokensArgs& a, const u8* column, u32 first, float (&x)[CHUNK]) {
#pragma unroll
    for (u32 part = 0; part < CHUNK / 4; ++part) {
        const Pack<u32> rows = load_pack(a.source + first + part * 4);
#pragma unroll
        for (u32 k = 0; k < 4; ++k) {
            const u64 offset = (u64)rows.at[k] * (u32)(a.stride * sizeof(T));
            const float value = to_float(*reinterpret_cast<const T*>(column + offset));
            x[part * 4 + k] =
                first + part * 4 + k < a.rows ? value : float_of_bits(INFINITE | 1);
        }
    }
}

// Notes the values beyond the limits; equal ones too where those may win. NaN is never beyond.
DEVICE void note(const TopTokensArgs& a, const Noted& noted, float high, float low, u32 first,
                 const float (&x)[CHUNK]) {
    bool hit = false;
#pragma unroll
    for (u32 k = 0; k < CHUNK; ++k) {
        hit |= x[k] > high || x[k] < low;
        if (!a.later) hit |= x[k] == high || x[k] == low;
    }
    if (!hit) return;
#pragma unroll
    for (u32 k = 0; k < CHUNK; ++k) {
        const bool beyond = x[k] > high || x[k] < low;
        const bool equal = !a.later && (x[k] == high || x[k] == low);
        if ((beyond || equal) && is_finite(x[k])) {
            const u32 place = atomicAdd(&noted.len[lane_id()], 1u) * WARP + lane_id();
            noted.values[place] = x[k];
            noted.rows[place] = first + k;
        }
    }
}

template <class T> DEVICE void top_tokens(const TopTokensArgs& a) {
    EL_SMEM(memory);
    EL_SHARED(float, noted_values, [STAGE * WARP]);
    EL_SHARED(u32, noted_rows, [STAGE * WARP]);
    EL_SHARED(u32, noted_len, [WARP]);
    EL_SHARED(float, limits, [2][WARP]);  // a value above the first or below the second is noted
    EL_SHARED(u32, lens, [2][WARP]);
    const Noted noted = {noted_values, noted_rows, noted_len};
    const Lists tops = {a.top_values, a.top_rows, a.top_len, a.top};
    const Lists bottoms = {a.bottom_values, a.bottom_rows, a.bottom_len, a.bottom};
    u8* bottom_memory = memory + a.top * WARP * (u32)(sizeof(u64) + sizeof(float));
    const u32 lane = lane_id(), neuron = blockIdx.x * WARP + lane;
    const u32 column = smaller(neuron, a.neurons - 1);
    const u8* x = reinterpret_cast<const u8*>(static_cast<const T*>(a.x) + column);
    // One warp keeps the lists of the largest values, another those of the smallest.
    const bool keeps_top = warp_id() == 0 && a.top > 0 && neuron < a.neurons;
    const bool keeps_bottom = warp_id() == 1 && a.bottom > 0 && neuron < a.neurons;
    if (warp_id() == 0) {
        limits[0][lane] = float_of_bits(INFINITE);
        limits[1][lane] = -float_of_bits(INFINITE);
        noted_len[lane] = 0;
    }
    __syncthreads();
    if (keeps_top) {
        limits[0][lane] = open_list<false>(tops, memory, a.shared, neuron, lens[0][lane]);
    }
    if (keeps_bottom) {
        limits[1][lane] = open_list<true>(bottoms, bottom_memory, a.shared, neuron, lens[1][lane]);
    }
    const u32 last = (a.rows - 1) / CHUNK * CHUNK;  // a chunk that is always there
    float ahead[CHUNK];
    load_values<T>(a, x, smaller(warp_id() * CHUNK, last), ahead);
    for (u32 stage = 0; stage < a.rows; stage += STAGE) {
        __syncthreads();
        const u32 first = stage + warp_id() * CHUNK;
        float values[CHUNK];
#pragma unroll
        for (u32 k = 0; k < CHUNK; ++k) values[k] = ahead[k];
        load_values<T>(a, x, smaller(first + STAGE, last), ahead);
        if (first < a.rows) note(a, noted, limits[0][lane], limits[1][lane], first, values);
        __syncthreads();
        if (!__any_sync(FULL, noted_len[lane] != 0)) continue;
        if (keeps_top) {
            const auto list = list_of<false>(tops, memory, a.shared, neuron, lens[0][lane]);
            limits[0][lane] = put(a.ids, noted, list, lens[0][lane]);
        }
        if (keeps_bottom) {
            const u32 len = lens[1][lane];
            const auto list = list_of<true>(bottoms, bottom_memory, a.shared, neuron, len);
            limits[1][lane] = put(a.ids, noted, list, lens[1][lane]);
        }
        __syncthreads();
        if (warp_id() == 0) noted_len[lane] = 0;
    }
    if (keeps_top) keep_list<false>(tops, memory, a.shared, neuron, lens[0][lane]);
    if (keeps_bottom) keep_list<true>(bottoms, bottom_memory, a.shared, neuron, lens[1][lane]);
}

KERNEL_OF(top_tokens_f32, TopTokensArgs, THREADS, 2) { top_tokens<float>(a); }
KERNEL_OF(top_tokens_bf16, TopTokensArgs, THREADS, 2) { top_tokens<bf16>(a); }
