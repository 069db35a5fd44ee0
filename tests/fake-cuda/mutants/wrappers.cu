// Wrappers that do not do what the hardware does: tests/kernels/cuda/conformance.rs has to see each.
#include "common.cuh"

#define pack_bf16x2(LOW, HIGH) pack_bf16x2(HIGH, LOW)             // halves exchanged
#define exp2_fast(X) exp2f(X)                                     // subnormal results are kept
#define fma_exact(X, Y, Z) add_exact(mul_exact(X, Y), Z)          // rounded twice
#define count_positive(COUNT, X) ((COUNT) += !((X) <= 0.0f))      // counts NaN
#define __shfl_xor_sync(MASK, X, BY) __shfl_up_sync(MASK, X, BY)  // the wrong kind
#define load_matrix_x4(OUT, ROW) load_matrix_x4_transposed(OUT, ROW)
#define mma_16x8x16(SUM, A, B0, B1) mma_16x8x16(SUM, A, B1, B0)   // the halves of k exchanged
#define copy_async_16(TO, FROM, BYTES) copy_async_16(TO, FROM, 16)
#include "../../kernels/cuda/conformance/matrices.cu"
#include "../../kernels/cuda/conformance/numbers.cu"
#include "../../kernels/cuda/conformance/threads.cu"
