// norm_grad: gradients through layer norm and root-mean-square norm: whole rows, or heads.
//
//   x       [rows, ...] of T   what the norm read; rows `stride` elements apart
//   g       [rows, ...] of T   the gradient of the normed values, in place; the same stride
//   weight  [cols] f32
//   A row has `heads` runs of `cols` columns from column `first` on.
//
// With n = (x - mean) / s and u = g (weight + offset): dx = (u - mean(u) - n mean(u n)) / s.
// The root-mean-square norm has neither mean of x nor mean of u.
//
// Bytes  3 T C s + 4 C, s = 2 or 4 bytes   Flops  about 14 T C
// Floor  T = 8192, C = 4096, bf16: 201 MB, 47 us at 4.3 TB/s -> bound by memory
// As in norm.cu: each element is read once and waits in a register, mean and squares are two sums
// one after the other, a run of up to 1024 columns has 8, 16 or 32 lanes of a warp and a longer one
// a block. mean(u n) is taken as sum(u (x - mean)) / (s cols), beside the squares. A block's run of
// more than 8192 columns is read again, and so are runs that are not made of whole packs of 16 bytes.
#include "norm.cuh"

struct NormGradArgs {
    const void* x;
    const float* weight;
    void* g;
    u64 stride;
    u32 rows;
    u32 heads;
    u32 first;
    u32 cols;
    u32 lane_bits;  // a run has 2^lane_bits lanes (norm_grad_narrow alone)
    u32 layer;      // 1: the mean is subtracted; 0: root mean square
    float eps;
    float offset;  // added to the weight
};

// N neighbouring elements, a pack or one; zeros where there are none.
template <u32 N, class T> DEVICE void fetch(T (&to)[N], const T* from, bool there) {
    if constexpr (N == 1) {
        to[0] = there ? *from : T{};
    } else {
        const Pack<T> pack = load_part<true>(from, there);
        for (u32 i = 0; i < N; ++i) to[i] = pack.at[i];
    }
}

// The elements of a run that one thread has: N from `first` on, N more each `step` further.
template <class T, u32 N> struct Run {
    const T* x;
    T* g;
    const float* weight;
    float offset;
    u32 first, step, cols;

    // As floats; the gradient times the weight.
    DEVICE void widen(float (&xs)[N], float (&us)[N], const T (&x)[N], const T (&g)[N], u32 at) const {
        float factor[N];
        if constexpr (N == 1) {
            factor[0] = weight[at];
        } else {
            load(factor, weight + at);
        }
        for (u32 i = 0; i < N; ++i) {
            xs[i] = to_float(x[i]);
            us[i] = to_float(g[i]) * (factor[i] + offset);
        }
    }
    DEVICE void store(const float (&u)[N], u32 at) const {
        if constexpr (N == 1) {
            g[at] = from_float<T>(u[0]);
        } else {
            store_pack(g + at, pack_of<T>(u));
        }
    }
};

// The run at element `start`; `cols` is 0 for threads that have none and only keep the sums of their
// warp company.
template <class T, u32 N, class Group>
DEVICE void norm_grad_run(const NormGradArgs& a, u64 start, u32 cols, const Group& group) {
    constexpr u32 PACKS = N == 1 ? 1 : HELD / N;
    constexpr bool LONG = Group::LONG || N == 1;  // there may be more
    const Run<T, N> run = {static_cast<const T*>(a.x) + start, static_cast<T*>(a.g) + start,
                           a.weight, a.offset, group.index * N, group.threads * N, cols};
    T x[PACKS][N], g[PACKS][N];
#pragma unroll
    for (u32 k = 0; k < PACKS; ++k) {
        const u32 at = run.first + k * run.step;
        fetch(x[k], run.x + at, at < cols);
        fetch(g[k], run.g + at, at < cols);
    }
    float xs[PACKS][N], us[PACKS][N];
#pragma unroll
    for (u32 k = 0; k < PACKS; ++k) {
        const u32 at = run.first + k * run.step;
        if (at < cols) run.widen(xs[k], us[k], x[k], g[k], at);
    }
    // What is held, and then what is not.
    const auto each = [&](const auto& then) {
#pragma unroll
        for (u32 k = 0; k < PACKS; ++k) {
            const u32 at = run.first + k * run.step;
            if (at < cols) then(xs[k], us[k], at);
        }
#pragma unroll 1
        for (u32 at = run.first + PACKS * run.step; LONG && at < cols; at += run.step) {
            T x[N], g[N];
            float v[N], u[N];
            fetch(x, run.x + at, true);
            fetch(g, run.g + at, true);
            run.widen(v, u, x, g, at);
            then(v, u, at);
        }
    };
    const float count = (float)a.cols;
    float mean = 0.0f, flat = 0.0f;  // of x, and of u
    if (a.layer) {
        float sum = 0.0f, gradients = 0.0f;
        each([&](const float(&x)[N], const float(&u)[N], u32) {
            for (u32 i = 0; i < N; ++i) {
                sum += x[i];
                gradients += u[i];
            }
        });
        mean = group.sum(sum, 0) / count;
        flat = group.sum(gradients, 1) / count;
    }
    float squares = 0.0f, along = 0.0f;
    each([&](const float(&x)[N], const float(&u)[N], u32) {
        for (u32 i = 0; i < N; ++i) {
            const float centered = x[i] - mean;
            squares += centered * centered;
            along += u[i] * centered;
        }
    });
    const float inverse = 1.0f / sqrtf(group.sum(squares, 2) / count + a.eps);
    along = group.sum(along, 3) / count * inverse;
    each([&](const float(&x)[N], const float(&u)[N], u32 at) {
        float out[N];
        for (u32 i = 0; i < N; ++i) {
            out[i] = (u[i] - flat - (x[i] - mean) * inverse * along) * inverse;
        }
        run.store(out, at);
    });
}

// Run `index`, if `there` is one.
template <class T, class Group>
DEVICE void norm_grad(const NormGradArgs& a, u32 index, bool there, const Group& group) {
    const u32 head = index % a.heads;
    const u64 start = index / a.heads * a.stride + a.first + (u64)head * a.cols;
    const u32 cols = there ? a.cols : 0;
    if ((a.stride | a.first | a.cols) % Pack<T>::SIZE == 0) {
        norm_grad_run<T, Pack<T>::SIZE>(a, start, cols, group);
    } else {
        norm_grad_run<T, 1>(a, start, cols, group);
    }
}

template <class T> DEVICE void norm_grad_narrow(const NormGradArgs& a) {
    const u32 lanes = 1u << a.lane_bits;
    const u32 run = blockIdx.x * (blockDim.x >> a.lane_bits) + (threadIdx.x >> a.lane_bits);
    norm_grad<T>(a, run, run < a.rows * a.heads, Lanes{lanes, threadIdx.x & (lanes - 1)});
}
template <class T> DEVICE void norm_grad_wide(const NormGradArgs& a) {
    EL_SHARED(float, scratch, [4 * WARP]);
    norm_grad<T>(a, blockIdx.x, true, Block{blockDim.x, threadIdx.x, scratch});
}

// In float a thread's 64 values and what it does with them just miss half a processor's registers.
KERNEL(norm_grad_narrow_f32, NormGradArgs, 256) { norm_grad_narrow<float>(a); }
KERNEL_OF(norm_grad_narrow_bf16, NormGradArgs, 256, 2) { norm_grad_narrow<bf16>(a); }
KERNEL(norm_grad_wide_f32, NormGradArgs, 256) { norm_grad_wide<float>(a); }
KERNEL_OF(norm_grad_wide_bf16, NormGradArgs, 256, 2) { norm_grad_wide<bf16>(a); }
