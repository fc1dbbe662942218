// THE header of inline PTX: every instruction that C++ cannot say, one function each. kernels/emulated/ptx.h holds their
// twins, which do what the PTX manual (8.5) says they do, lane by lane and register by register.
#pragma once

#include <cstdint>

#ifdef THREEFOLD_EMULATED
#include "kernels/emulated/ptx.h"
#else

#include "core/dtype.h"

namespace threefold::cuda::ptx {

// --- conversions: round to nearest even -----------------------------------------------------------------------------------

__device__ __forceinline__ uint16_t bf16_bits(float x) {
  uint16_t r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(x));
  return r;
}
__device__ __forceinline__ uint16_t f16_bits(float x) {
  uint16_t r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(x));
  return r;
}
__device__ __forceinline__ float f16_value(uint16_t bits) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(bits));
  return r;
}
// Two at once: `low` in the low half.
template <typename T>
__device__ __forceinline__ uint32_t pack_bits(float low, float high);
template <>
__device__ __forceinline__ uint32_t pack_bits<bf16>(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
template <>
__device__ __forceinline__ uint32_t pack_bits<f16>(float low, float high) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// 2^x within 2 units of the last place, as exp2f; results below the normal numbers are 0.
__device__ __forceinline__ float exp2(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

__device__ __forceinline__ uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// 16 bytes of global memory at an aligned address, whatever their type is elsewhere.
__device__ __forceinline__ uint4 load_16(const void* p) { return *static_cast<const uint4*>(p); }
__device__ __forceinline__ void store_16(void* p, uint4 x) { *static_cast<uint4*>(p) = x; }

// No instruction: the compiler takes x for a new number, so that what was computed from it is computed again where it is
// used again, and holds no registers in between.
__device__ __forceinline__ void renew(uint32_t& x) { asm volatile("" : "+r"(x)); }

// --- asynchronous copies (sm_80) -----------------------------------------------------------------------------------------

// 16 bytes, both sides 16-byte aligned: the first `filled` from global memory, the rest 0. `filled` 0 reads nothing.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, int filled) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(filled) : "memory");
}
// The same of 8 bytes.
__device__ __forceinline__ void copy_async_8(void* shared, const void* global, int filled) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(filled) : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Returns when all but the newest `pending` groups of this thread have arrived (for this thread; a barrier tells the others).
template <int pending>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// --- tensor cores (sm_80) ------------------------------------------------------------------------------------------------

// Four 8 x 8 matrices of 16-bit elements: lanes 8i to 8i + 7 give the addresses (16-byte aligned) of the rows of matrix i;
// register i of lane l receives elements 2 (l % 4) and the next of row l / 4 of matrix i.
__device__ __forceinline__ void load_matrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
// The same of the transposed matrices: rows 2 (l % 4) and the next, at column l / 4.
__device__ __forceinline__ void load_matrix_x4_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// d[16, 8] += a[16, 16] b[16, 8] in fp32. With g = lane / 4 and q = lane % 4:
//   a: {(g, 2q), (g, 2q+1)}, {(g+8, ..)}, {(g, 2q+8), (g, 2q+9)}, {(g+8, ..)}   b: {(2q, g), (2q+1, g)}, {(2q+8, g), (2q+9, g)}
//   d: (g, 2q), (g, 2q+1), (g+8, 2q), (g+8, 2q+1)
template <typename T>
__device__ __forceinline__ void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
template <>
__device__ __forceinline__ void mma_16x8x16<bf16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void mma_16x8x16<f16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace threefold::cuda::ptx

#endif
