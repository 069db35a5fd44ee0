// The host halves of kernels/device_sm90.cuh, name by name.
#pragma once
#ifndef FAKE_SCAN

// --- Barriers in shared memory ---

static inline void barrier_init(u64* barrier, u32 arrivals, FAKE_SITE) {
    fake::barrier_init(barrier, arrivals, site);
}
// Everything is visible to everybody here; that a block barrier follows is what can be missed.
static inline void barrier_init_fence() {}
static inline void barrier_arrive(u64* barrier, FAKE_SITE) { fake::barrier_arrive(barrier, site); }
static inline void barrier_arrive_expect(u64* barrier, u32 bytes, FAKE_SITE) {
    fake::barrier_arrive_expect(barrier, bytes, site);
}
static inline void barrier_wait(u64* barrier, u32 parity, FAKE_SITE) {
    fake::barrier_wait(barrier, parity, site);
}

// --- Bulk copies ---

static inline void prefetch_map(const TensorMap*) {}
static inline void copy_box(void* to, const TensorMap* map, i32 column, i32 row, u64* barrier,
                            FAKE_SITE) {
    fake::copy_box(to, map, column, row, barrier, site);
}

// --- Products by a group of four warps ---

static inline void group_fence(FAKE_SITE) { fake::group_fence(site); }
static inline void group_commit(FAKE_SITE) { fake::group_commit(site); }
template <u32 N> static inline void group_wait(FAKE_SITE) { fake::group_wait(N, site); }
template <u32 N> static inline void registers_raise(FAKE_SITE) { fake::registers(N, true, site); }
template <u32 N> static inline void registers_lower(FAKE_SITE) { fake::registers(N, false, site); }

static inline void group_multiply_64x128x16(float (&sum)[64], u64 a, u64 b, u32 keep, FAKE_SITE) {
    fake::group_multiply(sum, 128, a, b, keep, site);
}
static inline void group_multiply_64x256x16(float (&sum)[128], u64 a, u64 b, u32 keep, FAKE_SITE) {
    fake::group_multiply(sum, 256, a, b, keep, site);
}
#endif
