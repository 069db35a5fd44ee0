// score: what metrics need of a row of logits, and their gradients with respect to the logits.
//
//   logits, reference  [rows, cols] of T  rows `stride` elements apart; reference may be null
//   targets, foils     [rows] u32         answers, checked on the host; foils may be null
//   weights            [rows] f32         score_grad alone
//   out                score:      [rows, 4] f32, rows `out_stride` apart: log p(target); logit(target)
//                                  less logit(foil); 1 if no logit is above the target's;
//                                  KL(reference || logits)
//                      score_grad: [rows, cols] of T: the metric's gradient times the row's weight
//
// A single column is a yes-no question: the answer 0 has the logit 0, the answer 1 that column's.
//
// Bytes  score: R V s, with a reference 4 R V s; score_grad: 3 R V s, with one 5 R V s
// Flops  about 12 R V for each e^x
// Floor  score, R = 1024, V = 131072, bf16: 268 MB, 62 us at 4.3 TB/s -> bound by memory, with the
//        exponentials close behind
// A block has a row. The largest logit and the sum of e^(x - largest) are found in one walk (Milakov
// and Gimelshein 2018), a pack at a time, then put together in a tree: which thread has which column
// depends on the number of columns alone, so a row's bits do too.
#include "row.cuh"

struct ScoreArgs {
    const void* logits;
    const void* reference;
    const u32* targets;
    const u32* foils;
    const float* weights;
    void* out;
    u64 stride;
    u64 out_stride;
    u32 cols;
    u32 metric;
};

// Numbered in the order of the variants of crate::device::gradient_ops::Metric; 1 is LogProb.
constexpr u32 LOSS = 0, PROB = 2, LOGIT_DIFFERENCE = 3, KL = 4;
constexpr u32 THREADS = 256;
constexpr u32 NOWHERE = 0xffffffffu;

// The sum of e^x over some logits: `sum` times e^`largest`.
struct Total {
    float largest, sum;

    template <u32 N> DEVICE void take(const float (&x)[N]) {
        float top = largest;
        for (u32 i = 0; i < N; ++i) top = larger(top, x[i]);
        // Nothing but minus infinity so far: any finite number serves, infinity - infinity does not.
        const float from = top == never() ? 0.0f : top;
        float more = 0.0f;
        for (u32 i = 0; i < N; ++i) more += expf(x[i] - from);
        sum = sum * expf(largest - from) + more;
        largest = top;
    }
    // Over the block; `scratch` is 64 floats of shared memory that nothing else uses.
    DEVICE Total of_block(float* scratch) const {
        float top = warp_max(largest);
        if (lane_id() == 0) scratch[warp_id()] = top;
        __syncthreads();
        top = warp_max(lane_id() < THREADS / WARP ? scratch[lane_id()] : never());
        const float from = top == never() ? 0.0f : top;
        return {from, block_sum(sum * expf(largest - from), scratch + WARP)};
    }
    // log p of a logit: near 0 it has more digits than x - (largest + log(sum)).
    DEVICE float log_prob(float x, float log_sum) const { return x - largest - log_sum; }
};

// A row and what it is held against.
template <class T> struct Row {
    const T* logits;
    const T* reference;
    u32 cols;
    bool wide;

    DEVICE Row(const ScoreArgs& a)
        : logits(static_cast<const T*>(a.logits) + blockIdx.x * a.stride),
          reference(a.reference ? static_cast<const T*>(a.reference) + blockIdx.x * a.stride : nullptr),
          cols(a.cols),
          wide(a.stride % Pack<T>::SIZE == 0) {}

    DEVICE u32 column(u32 answer) const {
        if (cols > 1) return answer;
        return answer == 1 ? 0 : NOWHERE;
    }
    DEVICE float logit(u32 answer) const {
        const u32 at = column(answer);
        return at == NOWHERE ? 0.0f : to_float(logits[at]);
    }
    // Calls then(first column, columns) for this thread's packs.
    template <class F> DEVICE void packs(const F& then) const {
        constexpr u32 SIZE = Pack<T>::SIZE;
        for (u32 at = threadIdx.x * SIZE; at < cols; at += THREADS * SIZE) {
            then(at, smaller(cols - at, SIZE));
        }
    }
    // Some of a row as floats, minus infinity beyond its end.
    DEVICE void load(float (&x)[Pack<T>::SIZE], const T* row, u32 at, u32 left) const {
        const Pack<T> pack = wide ? load_part<true>(row + at, left) : load_part<false>(row + at, left);
        for (u32 i = 0; i < Pack<T>::SIZE; ++i) x[i] = i < left ? to_float(pack.at[i]) : never();
    }
    // What a thread begins with: the first of a single column has the answer 0, too.
    DEVICE Total empty() const {
        if (cols == 1 && threadIdx.x == 0) return {0.0f, 1.0f};
        return {never(), 0.0f};
    }
    DEVICE Total total(const T* row, float* scratch) const {
        Total total = empty();
        packs([&](u32 at, u32 left) {
            float x[Pack<T>::SIZE];
            load(x, row, at, left);
            total.take(x);
        });
        return total.of_block(scratch);
    }
};

// KL(reference || logits), the same for every thread. `scratch` is 96 floats.
template <class T> DEVICE float divergence(const Row<T>& row, const Total& ours, float* scratch) {
    const Total theirs = row.total(row.reference, scratch);
    const float our_log = logf(ours.sum), their_log = logf(theirs.sum);
    const auto term = [&](float q, float p) {
        const float log = theirs.log_prob(q, their_log);
        return expf(log) * (log - ours.log_prob(p, our_log));
    };
    float sum = row.cols == 1 && threadIdx.x == 0 ? term(0.0f, 0.0f) : 0.0f;
    row.packs([&](u32 at, u32 left) {
        float q[Pack<T>::SIZE], p[Pack<T>::SIZE];
        row.load(q, row.reference, at, left);
        row.load(p, row.logits, at, left);
        float some = 0.0f;
        for (u32 i = 0; i < Pack<T>::SIZE; ++i) some += i < left ? term(q[i], p[i]) : 0.0f;
        sum += some;
    });
    return block_sum(sum, scratch + 2 * WARP);
}

template <class T> DEVICE void score(const ScoreArgs& a) {
    EL_SHARED(float, scratch, [6 * WARP]);
    const Row<T> row(a);
    const u32 target = a.targets[blockIdx.x];
    const float wanted = row.logit(target);
    Total total = row.empty();
    // NaN is not at most the target's.
    bool above = row.cols == 1 && !(row.logit(1 - target) <= wanted);
    row.packs([&](u32 at, u32 left) {
        float x[Pack<T>::SIZE];
        row.load(x, row.logits, at, left);
        total.take(x);
        for (u32 i = 0; i < Pack<T>::SIZE; ++i) above |= row.cols > 1 && !(x[i] <= wanted);
    });
    total = total.of_block(scratch);
    const float beaten = block_sum(above ? 1.0f : 0.0f, scratch + 2 * WARP);
    const float kl = row.reference != nullptr ? divergence(row, total, scratch + 3 * WARP) : 0.0f;
    if (threadIdx.x > 0) return;
    float* out = static_cast<float*>(a.out) + blockIdx.x * a.out_stride;
    out[0] = total.log_prob(wanted, logf(total.sum));
    out[1] = a.foils != nullptr ? wanted - row.logit(a.foils[blockIdx.x]) : 0.0f;
    out[2] = beaten == 0.0f ? 1.0f : 0.0f;
    out[3] = kl;
}

// g = ours softmax(logits) + theirs softmax(reference), plus `weight` at one column and less it at
// another.
struct Gradient {
    Total our_total, their_total;
    float ours, theirs, weight;
    u32 plus, minus;

    DEVICE float at(u32 column, float x, float reference) const {
        float g = 0.0f;
        if (ours != 0.0f) g += ours * expf(x - our_total.largest);
        if (theirs != 0.0f) g += theirs * expf(reference - their_total.largest);
        if (column == plus) g += weight;
        if (column == minus) g -= weight;
        return g;
    }
};

template <class T> DEVICE Gradient gradient_of(const ScoreArgs& a, const Row<T>& row, float* scratch) {
    const u32 target = a.targets[blockIdx.x];
    Gradient gradient = {{0.0f, 1.0f}, {0.0f, 1.0f}, 0.0f, 0.0f, a.weights[blockIdx.x], NOWHERE, NOWHERE};
    if (a.metric == LOGIT_DIFFERENCE) {
        gradient.plus = row.column(target);
        gradient.minus = row.column(a.foils[blockIdx.x]);
        return gradient;
    }
    gradient.our_total = row.total(row.logits, scratch);
    const float sum = gradient.our_total.sum;
    if (a.metric == KL) {
        gradient.their_total = row.total(row.reference, scratch + 2 * WARP);
        gradient.ours = gradient.weight / sum;
        gradient.theirs = -gradient.weight / gradient.their_total.sum;
        return gradient;
    }
    if (a.metric == LOSS) gradient.weight = -gradient.weight;
    if (a.metric == PROB) {
        gradient.weight *= expf(gradient.our_total.log_prob(row.logit(target), logf(sum)));
    }
    gradient.ours = -gradient.weight / sum;
    gradient.plus = row.column(target);
    return gradient;
}

template <class T> DEVICE void score_grad(const ScoreArgs& a) {
    EL_SHARED(float, scratch, [4 * WARP]);
    const Row<T> row(a);
    const Gradient gradient = gradient_of(a, row, scratch);
    T* out = static_cast<T*>(a.out) + blockIdx.x * a.out_stride;
    row.packs([&](u32 at, u32 left) {
        float x[Pack<T>::SIZE], q[Pack<T>::SIZE] = {};
        row.load(x, row.logits, at, left);
        if (gradient.theirs != 0.0f) row.load(q, row.reference, at, left);
        for (u32 i = 0; i < Pack<T>::SIZE; ++i) x[i] = gradient.at(at + i, x[i], q[i]);
        if (row.wide) {
            store_part<true>(out + at, pack_of<T>(x), left);
        } else {
            store_part<false>(out + at, pack_of<T>(x), left);
        }
    });
}

KERNEL(score_f32, ScoreArgs, THREADS) { score<float>(a); }
KERNEL(score_bf16, ScoreArgs, THREADS) { score<bf16>(a); }
KERNEL(score_grad_f32, ScoreArgs, THREADS) { score_grad<float>(a); }
KERNEL(score_grad_bf16, ScoreArgs, THREADS) { score_grad<bf16>(a); }
