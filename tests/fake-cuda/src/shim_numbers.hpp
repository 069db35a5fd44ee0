// The rest of the language: atomics on integers, bit functions, and the maths that CUDA declares
// without a header. There are no atomics on floats: their order would show in the result.
#pragma once

// --- Atomics ---

// A macro per operation keeps the overloads that CUDA has: int, unsigned and unsigned long long.
#define FAKE_ATOMIC(NAME, T, NEW)                                                                  \
    static inline T NAME(T* at, T x) {                                                             \
        T old = __atomic_load_n(at, __ATOMIC_RELAXED);                                             \
        while (!__atomic_compare_exchange_n(at, &old, (T)(NEW), false, __ATOMIC_ACQ_REL,           \
                                            __ATOMIC_RELAXED)) {                                   \
        }                                                                                          \
        return old;                                                                                \
    }
#define FAKE_ATOMICS(NAME, NEW)                                                                    \
    FAKE_ATOMIC(NAME, int, NEW)                                                                    \
    FAKE_ATOMIC(NAME, unsigned, NEW)                                                               \
    FAKE_ATOMIC(NAME, unsigned long long, NEW)
FAKE_ATOMICS(atomicExch, x)
FAKE_ATOMICS(atomicMin, x < old ? x : old)
FAKE_ATOMICS(atomicMax, old < x ? x : old)
FAKE_ATOMICS(atomicAnd, old& x)
FAKE_ATOMICS(atomicOr, old | x)
FAKE_ATOMICS(atomicXor, old ^ x)
FAKE_ATOMIC(atomicAdd, unsigned, old + x)
FAKE_ATOMIC(atomicAdd, unsigned long long, old + x)
FAKE_ATOMIC(atomicAdd, int, (unsigned)old + (unsigned)x)
FAKE_ATOMIC(atomicSub, unsigned, old - x)
FAKE_ATOMIC(atomicSub, int, (unsigned)old - (unsigned)x)
#undef FAKE_ATOMICS
#undef FAKE_ATOMIC
template <class T> static inline T atomicCAS(T* at, T expected, T x) {
    __atomic_compare_exchange_n(at, &expected, x, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return expected;
}

// --- Bits ---

template <class To, class From> static inline To fake_bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To out;
    __builtin_memcpy(&out, &x, sizeof(To));
    return out;
}
static inline unsigned __float_as_uint(float x) { return fake_bits<unsigned>(x); }
static inline int __float_as_int(float x) { return fake_bits<int>(x); }
static inline float __uint_as_float(unsigned x) { return fake_bits<float>(x); }
static inline float __int_as_float(int x) { return fake_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return fake_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return fake_bits<double>(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }
static inline int __clzll(long long x) {
    return x == 0 ? 64 : __builtin_clzll((unsigned long long)x);
}
static inline unsigned __brev(unsigned x) {
    unsigned out = 0;
    for (int i = 0; i < 32; ++i) out |= ((x >> i) & 1u) << (31 - i);
    return out;
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)(((unsigned long long)a * b) >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}

// --- Maths ---

#define FAKE_MIN_MAX(T)                                                                            \
    static inline T min(T a, T b) { return b < a ? b : a; }                                        \
    static inline T max(T a, T b) { return a < b ? b : a; }
FAKE_MIN_MAX(int)
FAKE_MIN_MAX(unsigned)
FAKE_MIN_MAX(long long)
FAKE_MIN_MAX(unsigned long long)
#undef FAKE_MIN_MAX
// Any NaN gives way to a number, also the signalling ones that glibc's fminf would hand on.
static inline float fake_min(float a, float b) { return a != a || b < a ? b : a; }
static inline float fake_max(float a, float b) { return a != a || a < b ? b : a; }
#define fminf(A, B) fake_min(A, B)
#define fmaxf(A, B) fake_max(A, B)
static inline float min(float a, float b) { return fake_min(a, b); }
static inline float max(float a, float b) { return fake_max(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline unsigned __float2uint_rn(float x) { return (unsigned)rintf(x); }
static inline int __float2int_rn(float x) { return (int)rintf(x); }
// glibc declares a function of this name, so ours is a macro.
#define __expf(x) expf(x)
#define __logf(x) logf(x)
template <class T> static inline T __ldg(const T* from) { return *from; }
