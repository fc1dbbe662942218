// What a .cu file sees in place of CUDA's own headers when the host's compiler builds it: the language's words, the
// vector types and the built-in functions the kernels use, each with its documented meaning. Included before all else
// (CMakeLists.txt).
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/emulated/block.h"

#define THREEFOLD_EMULATED 1

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
// __shared__ stays undefined: shared memory is asked for at the launch (device/shared.h), where it can be poisoned.

using dim3 = threefold::emulated::Dim3;
#define threadIdx (threefold::emulated::thread().index)
#define blockIdx (threefold::emulated::thread().block->index)
#define blockDim (threefold::emulated::thread().block->size)
#define gridDim (threefold::emulated::thread().block->grid)
constexpr int warpSize = 32;

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(unsigned(x)) + 1 : 0; }
inline unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int i = 0; i < 32; ++i) r |= (x >> i & 1u) << (31 - i);
  return r;
}
template <typename T>
T __ldg(const T* p) { return *p; }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
using std::max;
using std::min;

inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline void __threadfence_block() {}
inline void __threadfence_system() { __threadfence(); }
inline void __trap() { threefold::emulated::thread().block->broken("no trap", "__trap()"); }

// --- barriers, shuffles and votes --------------------------------------------------------------------------------------

inline void __syncthreads() { threefold::emulated::thread().block->barrier_sync(0); }

namespace threefold::emulated {

// Every lane of the mask gives a value and gets one: get(values by lane, mask, lane).
template <typename T, typename Get>
T exchange(const char* kind, unsigned mask, T value, Get get) {
  struct Operand {
    T in, out;
    int lane;
    Get* get;
  } own{value, value, thread().lane, &get};
  thread().block->collective(kind, mask, &own, [](void* const operands[32], uint32_t mask) {
    T values[32] = {};
    for (int i = 0; i < 32; ++i)
      if (mask >> i & 1) values[i] = static_cast<Operand*>(operands[i])->in;
    for (int i = 0; i < 32; ++i)
      if (mask >> i & 1) {
        auto* o = static_cast<Operand*>(operands[i]);
        o->out = (*o->get)(values, mask, i);
      }
  });
  return own.out;
}
// The value of lane `from`; a lane that does not take part gives what nobody may rely on.
template <typename T>
T of_lane(const T* values, uint32_t mask, int from) {
  if (mask >> from & 1) return values[from];
  T poison;
  std::memset(&poison, 0xff, sizeof poison);
  return poison;
}

}  // namespace threefold::emulated

inline void __syncwarp(unsigned mask = 0xffffffffu) {
  threefold::emulated::exchange("__syncwarp", mask, 0, [](const int*, uint32_t, int) { return 0; });
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  return threefold::emulated::exchange("__shfl_sync", mask, value, [=](const T* v, uint32_t m, int lane) {
    return threefold::emulated::of_lane(v, m, lane / width * width + from % width);
  });
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
  return threefold::emulated::exchange("__shfl_xor_sync", mask, value, [=](const T* v, uint32_t m, int lane) {
    int from = lane ^ with;
    return from / width <= lane / width ? threefold::emulated::of_lane(v, m, from) : v[lane];
  });
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  return threefold::emulated::exchange("__shfl_down_sync", mask, value, [=](const T* v, uint32_t m, int lane) {
    int from = lane + int(by);
    return from / width == lane / width ? threefold::emulated::of_lane(v, m, from) : v[lane];
  });
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  return threefold::emulated::exchange("__shfl_up_sync", mask, value, [=](const T* v, uint32_t m, int lane) {
    int from = lane - int(by);
    return from >= lane / width * width ? threefold::emulated::of_lane(v, m, from) : v[lane];
  });
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return threefold::emulated::exchange("__ballot_sync", mask, unsigned(predicate != 0), [](const unsigned* v, uint32_t m, int) {
    unsigned votes = 0;
    for (int i = 0; i < 32; ++i) votes |= (m >> i & 1 && v[i]) ? 1u << i : 0;
    return votes;
  });
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }
// The lanes whose value is the same as the caller's.
template <typename T>
unsigned __match_any_sync(unsigned mask, T value) {
  struct Both {
    T value;
    unsigned same;
  };
  return threefold::emulated::exchange("__match_any_sync", mask, Both{value, 0}, [](const Both* v, uint32_t m, int lane) {
    Both b{v[lane].value, 0};
    for (int i = 0; i < 32; ++i) b.same |= (m >> i & 1 && v[i].value == b.value) ? 1u << i : 0;
    return b;
  }).same;
}
inline unsigned __activemask() = delete;  // what it returns is up to the hardware

// --- atomics: blocks may run on several threads of the system -----------------------------------------------------------

template <typename T, typename F>
T emulated_atomic(T* p, F change) {
  std::atomic_ref<T> a(*p);
  T seen = a.load();
  while (!a.compare_exchange_weak(seen, change(seen))) {
  }
  return seen;
}
template <typename T>
T atomicAdd(T* p, T v) { return emulated_atomic(p, [=](T x) { return T(x + v); }); }
template <typename T>
T atomicMax(T* p, T v) { return emulated_atomic(p, [=](T x) { return std::max(x, v); }); }
template <typename T>
T atomicMin(T* p, T v) { return emulated_atomic(p, [=](T x) { return std::min(x, v); }); }
template <typename T>
T atomicOr(T* p, T v) { return emulated_atomic(p, [=](T x) { return T(x | v); }); }
template <typename T>
T atomicExch(T* p, T v) { return std::atomic_ref<T>(*p).exchange(v); }
template <typename T>
T atomicCAS(T* p, T expected, T v) {
  std::atomic_ref<T>(*p).compare_exchange_strong(expected, v);
  return expected;
}
