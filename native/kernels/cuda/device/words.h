// 16 bytes of elements as the four words they are: one access, and converted only where they are used, so that several
// loads stand side by side before the first is waited for. Elements of 16 bits lie in pairs, the first in the low half.
#pragma once

#include "kernels/cuda/device/element.h"

namespace threefold::cuda {

template <typename T>
struct alignas(16) Words {
  static constexpr int size = 16 / sizeof(T);
  uint32_t w[4];

  __device__ __forceinline__ float get(int i) const { return to_float(T{uint16_t(w[i / 2] >> i % 2 * 16)}); }
  // Tells the compiler to convert them once more rather than keep what it converted.
  __device__ __forceinline__ void renew() {
#pragma unroll
    for (int i = 0; i < 4; ++i) ptx::renew(w[i]);
  }
  __device__ __forceinline__ void set(const float (&x)[size]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) w[i] = ptx::pack_bits<T>(x[2 * i], x[2 * i + 1]);
  }
};
template <>
__device__ __forceinline__ float Words<float>::get(int i) const { return __uint_as_float(w[i]); }
template <>
__device__ __forceinline__ float Words<f16>::get(int i) const { return ptx::f16_value(uint16_t(w[i / 2] >> i % 2 * 16)); }
template <>
__device__ __forceinline__ void Words<float>::set(const float (&x)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) w[i] = __float_as_uint(x[i]);
}

// 16-byte aligned addresses.
template <typename T>
__device__ __forceinline__ Words<T> load_words(const T* p) {
  uint4 x = ptx::load_16(p);
  return {{x.x, x.y, x.z, x.w}};
}
template <typename T>
__device__ __forceinline__ void store_words(T* p, const Words<T>& x) {
  ptx::store_16(p, make_uint4(x.w[0], x.w[1], x.w[2], x.w[3]));
}

// The same at p where only `count` elements are there, which may be none: the rest is 0. `wide`: the address is aligned
// and counts are none or enough. Both ways give the same bits.
template <typename T>
__device__ __forceinline__ Words<T> load_words(const T* p, int64_t count, bool wide) {
  Words<T> x{};
  if (wide) {
    if (count > 0) x = load_words(p);
    return x;
  }
#pragma unroll
  for (int i = 0; i < Words<T>::size; ++i)
    if (i < count) {
      if constexpr (sizeof(T) == 4)
        x.w[i] = __float_as_uint(p[i]);
      else
        x.w[i / 2] |= uint32_t(p[i].bits) << i % 2 * 16;
    }
  return x;
}
template <typename T>
__device__ __forceinline__ void store_words(T* p, int64_t count, bool wide, const Words<T>& x) {
  if (wide) {
    if (count > 0) store_words(p, x);
    return;
  }
#pragma unroll
  for (int i = 0; i < Words<T>::size; ++i)
    if (i < count) {
      if constexpr (sizeof(T) == 4)
        p[i] = __uint_as_float(x.w[i]);
      else
        p[i] = T{uint16_t(x.w[i / 2] >> i % 2 * 16)};
    }
}

// Whether every pointer given lies at a multiple of 16 bytes; nullptr does. Address and shape alone choose the way.
template <typename... P>
bool aligned(const P*... p) {
  return ((reinterpret_cast<uintptr_t>(p) | ... | 0) % 16) == 0;
}

}  // namespace threefold::cuda
