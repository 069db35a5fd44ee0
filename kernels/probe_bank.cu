// probe_bank: rows read by banks of linear probes: losses, gradients, and steps of Adam.
//
//   x        [.., inputs] of T  rows `stride` elements apart, read in whole packs
//   tasks    [tasks] ProbeTask  which of `rows` and `targets` are a task's; `rows` are rows of x
//   weights, sums, first, masks [cells] f32, totals [cells] f64: see probe_bank.cuh
//            TRAIN: `first` and `second` are Adam's moments; GRADIENT: `first` is the point, and `totals`
//            the gradients of the pass; MEASURE: weights alone
//   logits   [64, panels * 32] f32 of each unit; losses f64, said u32: [64, heads] of each unit
//   loss_sums [heads] f64; counts [3, classes] u64: seen, right, said
//
// A block has a unit and walks over all rows of its task, 64 at a time: logits, losses and gradients of
// logits, gradients of weights; and at the end of a batch a step, at the end of a run of GRADIENT a sum in
// f64. Inputs go by in tiles of 64, once for each product; the next tile is under way meanwhile. Each
// element is one chain of sums, over inputs or over rows in order, that goes on where the last call ended:
// nothing depends on how rows are cut. No two blocks write one place.
//
// With C columns, padded to panels of 32, N inputs and R rows of a task:
// Flops  4 R N C    Bytes  2 R N s of x and 16 N C / 64 a row of sums and weights, from the L2
// Floor  one unit is one processor's: 128 FMA a clock, 64 rows x 2688 inputs x 32 columns in 86,000
//        clocks. Loads from shared memory bound both products: 3 of 16 bytes a lane for 8 FMA in the
//        first, 3 for 8 in the second, of which a clock takes one: at best 2/3 of that rate.
#include "probe_bank.cuh"

struct ProbeBankArgs {
    const void* x;
    const void* units;
    const void* heads;
    const void* tasks;
    const u32* rows;
    const float* targets;
    const float* corrections;  // [steps, 2] for each task
    float* weights;
    float* sums;
    float* first;
    void* second;
    const float* masks;  // or null
    float* logits;
    double* losses;
    u32* said;
    double* loss_sums;
    u64* counts;
    u64 stride;
    u32 inputs;
    u32 mode;
    u32 limit;    // rows of a batch or a run
    u32 end;      // 1: what waits is a batch or a run
    u32 classes;  // of all heads
    u32 unused;
};

constexpr u32 TRAIN = 0, GRADIENT = 1, MEASURE = 2;
// Numbered in the order of the variants of crate::device::probe_ops::ProbeLoss; 0 is Softmax.
constexpr u32 LOGISTIC = 1, SQUARED = 2;
constexpr u32 CHUNK = 64;         // rows that are read together; as in probe_bank_tables.rs
constexpr u32 TILE = 64;             // inputs
constexpr u32 EACH = CHUNK / WARPS;  // rows, or inputs, of a warp
constexpr u32 COLUMN = CHUNK + 4;    // floats from one input of a tile to the next
constexpr float KEEP = 0.1f, KEEP_SQUARE = 0.999f, ADD_SQUARE = 0.001f, EPSILON = 1e-8f;

struct ProbeTask {
    u32 first;        // in rows and targets
    u32 count;
    u32 waiting;      // rows since the last step or run
    u32 corrections;  // first of its own
};

struct Shared {
    float x[TILE * COLUMN];       // [inputs][rows]
    float beside[TILE * LANES];   // weights [inputs][columns], or gradients [rows][columns]
    double part[WARPS * LANES];
    double square[MOST_HEADS];    // squared norms
    float l1[LANES], shrink[LANES], rate[LANES];  // of a panel
};

// Rows of a chunk.
template <class T> struct Chunk {
    const T* x;
    const u32* rows;
    u64 stride;
    u32 count, inputs;

    // Inputs of a row: this thread's part of a tile, 16 of row threadIdx % 64. The input after the last
    // is 1; rows that are not there, and inputs further on, are 0.
    DEVICE void fetch(float (&out)[TILE / 4], u32 first) const {
        constexpr u32 SIZE = Pack<T>::SIZE;
        const u32 row = threadIdx.x % CHUNK;
        const u32 from = first + threadIdx.x / CHUNK * (TILE / 4);
        const bool there = row < count;
        const T* line = x + (there ? rows[row] * stride : 0);
#pragma unroll
        for (u32 k = 0; k < TILE / 4; k += SIZE) {
            const u32 at = from + k;
            const Pack<T> pack = load_part<true>(line + at, there && at < inputs ? inputs - at : 0);
#pragma unroll
            for (u32 i = 0; i < SIZE; ++i) {
                const float one = there && at + i == inputs ? 1.0f : 0.0f;
                out[k + i] = at + i < inputs ? to_float(pack.at[i]) : one;
            }
        }
    }
};

DEVICE void store_x(Shared& s, const float (&x)[TILE / 4]) {
    const u32 first = threadIdx.x / CHUNK * (TILE / 4);
#pragma unroll
    for (u32 k = 0; k < TILE / 4; ++k) s.x[(first + k) * COLUMN + threadIdx.x % CHUNK] = x[k];
}

// Logits of a chunk for one panel of weights, to `out`, rows `width` apart.
template <class T>
DEVICE void logits(Shared& s, const Chunk<T>& chunk, const float* weights, float* out, u32 width) {
    const u32 steps = chunk.inputs + 1, cells = steps * LANES;
    float x[TILE / 4], w[TILE * LANES / THREADS], sum[EACH] = {};
    const auto fetch = [&](u32 first) {
        chunk.fetch(x, first);
#pragma unroll
        for (u32 k = 0; k < TILE * LANES / THREADS; k += 4) {
            const u32 at = first * LANES + k * THREADS + threadIdx.x * 4;
            const Pack<float> four = load_part<true>(weights + at, at < cells ? 4u : 0u);
            for (u32 i = 0; i < 4; ++i) w[k + i] = four.at[i];
        }
    };
    fetch(0);
    for (u32 first = 0; first < steps; first += TILE) {
        __syncthreads();
        store_x(s, x);
#pragma unroll
        for (u32 k = 0; k < TILE * LANES / THREADS; k += 4) {
            store_pack(s.beside + k * THREADS + threadIdx.x * 4,
                       Pack<float>{{w[k], w[k + 1], w[k + 2], w[k + 3]}});
        }
        __syncthreads();
        if (first + TILE < steps) fetch(first + TILE);
#pragma unroll 4
        for (u32 k = 0; k < TILE; ++k) {
            const float weight = s.beside[k * LANES + lane_id()];
            const float* column = s.x + k * COLUMN + warp_id() * EACH;
            const Pack<float> low = load_pack(column), high = load_pack(column + 4);
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                sum[i] += low.at[i] * weight;
                sum[i + 4] += high.at[i] * weight;
            }
        }
    }
    for (u32 i = 0; i < EACH; ++i) {
        const u32 row = warp_id() * EACH + i;
        if (row < chunk.count) out[(u64)row * width + lane_id()] = sum[i];
    }
}

// What a head does with a row: its logits become gradients. Answers the loss.
DEVICE float judge(u32 loss, float* z, u32 columns, float target, u32& said) {
    said = 0;
    if (loss == LOGISTIC) {
        const float x = z[0], e = expf(-fabsf(x));
        said = x > 0.0f ? 1 : 0;
        z[0] = (x < 0.0f ? e : 1.0f) / (1.0f + e) - target;
        return larger(x, 0.0f) + log1pf(e) - target * x;
    }
    if (loss == SQUARED) {
        const float off = z[0] - target;
        z[0] = 2.0f * off;
        return off * off;
    }
    float top = z[0], sum = 0.0f;
    for (u32 c = 1; c < columns; ++c) {
        if (z[c] > top) {
            top = z[c];
            said = c;
        }
    }
    const u32 wanted = (u32)target;
    const float less = top - z[wanted];
    for (u32 c = 0; c < columns; ++c) {
        z[c] = expf(z[c] - top);
        sum += z[c];
    }
    const float factor = 1.0f / sum;
    for (u32 c = 0; c < columns; ++c) z[c] *= factor;
    z[wanted] -= 1.0f;
    return less + logf(sum);
}

// Losses of a chunk, and what they are told: a thread for each row and head, then one for each head.
DEVICE void judge_all(const ProbeBankArgs& a, const ProbeUnit& unit, const ProbeHead* heads,
                      const float* targets, u32 count) {
    const u32 width = unit.panels * LANES;
    float* z = a.logits + unit.logits;
    double* losses = a.losses + (u64)unit.first_head * CHUNK;
    u32* said = a.said + (u64)unit.first_head * CHUNK;
    __syncthreads();
    for (u32 at = threadIdx.x; at < count * unit.heads; at += THREADS) {
        const u32 row = at / unit.heads, h = at % unit.heads;
        float* own = z + (u64)row * width + heads[h].first;
        u32 answer;
        losses[at] = judge(unit.loss, own, heads[h].columns, targets[row], answer);
        said[at] = answer;
    }
    __syncthreads();
    if (a.mode == TRAIN || threadIdx.x >= unit.heads) return;
    const u32 h = threadIdx.x;
    double sum = a.loss_sums[unit.first_head + h];
    for (u32 row = 0; row < count; ++row) sum += losses[row * unit.heads + h];
    a.loss_sums[unit.first_head + h] = sum;
    if (a.mode == GRADIENT || unit.loss == SQUARED) return;
    u64* counts = a.counts + heads[h].classes;
    for (u32 row = 0; row < count; ++row) {
        const u32 wanted = (u32)targets[row], answer = said[row * unit.heads + h];
        counts[wanted] += 1;
        counts[a.classes + wanted] += answer == wanted ? 1 : 0;
        counts[2 * a.classes + answer] += 1;
    }
}

// Squared norms of the weights of each head, biases left out.
DEVICE void norms(Shared& s, const ProbeBankArgs& a, const ProbeUnit& unit, const ProbeHead* heads) {
    if (threadIdx.x < MOST_HEADS) s.square[threadIdx.x] = 0.0;
    for (u32 panel = 0; panel < unit.panels; ++panel) {
        const float* w = a.weights + unit.cells + (u64)panel * (a.inputs + 1) * LANES;
        double sum = 0.0;
        for (u32 i = warp_id(); i < a.inputs; i += WARPS) {
            const double one = w[(u64)i * LANES + lane_id()];
            sum += one * one;
        }
        __syncthreads();
        s.part[threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.x < unit.heads) {
            const ProbeHead head = heads[threadIdx.x];
            for (u32 c = 0; c < LANES; ++c) {
                if (panel * LANES + c - head.first >= head.columns) continue;
                for (u32 k = 0; k < WARPS; ++k) s.square[threadIdx.x] += s.part[k * LANES + c];
            }
        }
    }
}

// What the columns of a panel need for a step.
DEVICE void set_columns(Shared& s, const ProbeUnit& unit, const ProbeHead* heads, u32 panel, float correct) {
    if (threadIdx.x >= LANES) return;
    const u32 c = threadIdx.x, h = owner(unit, heads, panel * LANES + c);
    s.l1[c] = s.shrink[c] = s.rate[c] = 0.0f;
    if (h == MOST_HEADS) return;
    s.l1[c] = heads[h].l1;
    s.rate[c] = heads[h].rate * correct;
    if (!heads[h].norm) s.shrink[c] = 2.0f * heads[h].l2;
    else if (s.square[h] > 0.0) s.shrink[c] = (float)(heads[h].l2 / sqrt(s.square[h]));
}

// A weight's step of Adam (Kingma and Ba 2015, algorithm 1; epsilon after the root).
DEVICE void step(const Shared& s, const ProbeBankArgs& a, u64 cell, float sum, bool bias, float mean, float root) {
    const u32 c = lane_id();
    if (a.masks != nullptr && a.masks[cell] == 0.0f) sum = 0.0f;
    float* second = static_cast<float*>(a.second);
    const float w = a.weights[cell], l1 = bias ? 0.0f : s.l1[c];
    const float sign = w > 0.0f ? l1 : w < 0.0f ? -l1 : 0.0f;
    const float g = sum * mean + sign + (bias ? 0.0f : s.shrink[c]) * w;
    const float m = a.first[cell] + (g - a.first[cell]) * KEEP;
    const float v = second[cell] * KEEP_SQUARE + ADD_SQUARE * g * g;
    a.first[cell] = m;
    second[cell] = v;
    a.weights[cell] = w - s.rate[c] * m / (sqrtf(v) / root + EPSILON);
}

// What ends after a chunk: nothing, or a batch or run of `rows` rows.
struct Ending {
    u32 rows;
    float correct, root;
};

// Adds the gradients of a chunk to the sums of a panel; at an end these are spent.
template <class T>
DEVICE void gradients(Shared& s, const ProbeBankArgs& a, const ProbeUnit& unit, const Chunk<T>& chunk,
                      u32 panel, Ending end) {
    const u32 steps = a.inputs + 1, width = unit.panels * LANES;
    const u64 cells = unit.cells + (u64)panel * steps * LANES;
    const float* z = a.logits + unit.logits + panel * LANES;
    for (u32 at = threadIdx.x; at < CHUNK * LANES; at += THREADS) {
        const u32 row = at / LANES, c = at % LANES;
        const bool there = row < chunk.count && panel * LANES + c < unit.columns;
        s.beside[at] = there ? z[(u64)row * width + c] : 0.0f;
    }
    float x[TILE / 4];
    chunk.fetch(x, 0);
    for (u32 first = 0; first < steps; first += TILE) {
        __syncthreads();
        store_x(s, x);
        __syncthreads();
        if (first + TILE < steps) chunk.fetch(x, first + TILE);
        const u32 input = first + warp_id() * EACH;
        const u64 own = cells + (u64)input * LANES + lane_id();
        float sum[EACH];
#pragma unroll
        for (u32 i = 0; i < EACH; ++i) sum[i] = input + i < steps ? a.sums[own + i * LANES] : 0.0f;
        for (u32 row = 0; row < chunk.count; row += 4) {
            float g[4];
#pragma unroll
            for (u32 k = 0; k < 4; ++k) g[k] = s.beside[(row + k) * LANES + lane_id()];
#pragma unroll
            for (u32 i = 0; i < EACH; ++i) {
                const Pack<float> four = load_pack(s.x + (warp_id() * EACH + i) * COLUMN + row);
#pragma unroll
                for (u32 k = 0; k < 4; ++k) sum[i] += four.at[k] * g[k];
            }
        }
#pragma unroll
        for (u32 i = 0; i < EACH; ++i) {
            if (input + i >= steps) continue;
            const u64 cell = own + i * LANES;
            if (end.rows > 0 && a.mode == TRAIN) {
                step(s, a, cell, sum[i], input + i == a.inputs, 1.0f / (float)end.rows, end.root);
            } else if (end.rows > 0) {
                static_cast<double*>(a.second)[cell] += sum[i];
            }
            a.sums[cell] = end.rows > 0 ? 0.0f : sum[i];
        }
    }
}

template <class T> DEVICE void probe_bank(const ProbeBankArgs& a) {
    EL_SHARED_PACKS(Shared, shared, [1]);
    Shared& s = shared[0];
    const ProbeUnit unit = static_cast<const ProbeUnit*>(a.units)[blockIdx.x];
    const ProbeHead* heads = static_cast<const ProbeHead*>(a.heads) + unit.first_head;
    const ProbeTask task = static_cast<const ProbeTask*>(a.tasks)[unit.task];
    const float* point = (a.mode == GRADIENT ? a.first : a.weights) + unit.cells;
    const float* corrections = a.corrections + 2 * task.corrections;
    u32 waiting = task.waiting, done = 0;
    while (true) {
        const u32 room = a.mode == MEASURE ? CHUNK : smaller(CHUNK, a.limit - waiting);
        const u32 count = smaller(room, task.count - done);
        if (count == 0 && (a.end == 0 || waiting == 0)) return;
        const Chunk<T> chunk = {static_cast<const T*>(a.x), a.rows + task.first + done, a.stride, count, a.inputs};
        if (count > 0) {
            for (u32 panel = 0; panel < unit.panels; ++panel) {
                float* out = a.logits + unit.logits + panel * LANES;
                logits(s, chunk, point + (u64)panel * (a.inputs + 1) * LANES, out, unit.panels * LANES);
            }
            judge_all(a, unit, heads, a.targets + task.first + done, count);
        }
        done += count;
        if (a.mode == MEASURE) continue;
        waiting += count;
        const bool last = waiting == a.limit || count == 0;
        Ending end = {last ? waiting : 0, 0.0f, 0.0f};
        if (last && a.mode == TRAIN) {
            end.correct = corrections[0];
            end.root = corrections[1];
            corrections += 2;
            if (unit.normed) norms(s, a, unit, heads);
        }
        for (u32 panel = 0; panel < unit.panels; ++panel) {
            __syncthreads();
            if (last && a.mode == TRAIN) set_columns(s, unit, heads, panel, end.correct);
            gradients(s, a, unit, chunk, panel, end);
        }
        if (last) waiting = 0;
        __syncthreads();
    }
}

KERNEL(probe_bank_f32, ProbeBankArgs, THREADS) { probe_bank<float>(a); }
KERNEL(probe_bank_bf16, ProbeBankArgs, THREADS) { probe_bank<bf16>(a); }
