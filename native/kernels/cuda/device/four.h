// Four neighbouring elements as fp32 and back: 16 bytes of fp32, 8 bytes of a 16-bit type, by one instruction where the
// rows allow it. Both ways give the same bits.
#pragma once

#include "kernels/cuda/device/element.h"

namespace threefold::cuda {

template <typename T>
struct alignas(4 * sizeof(T)) Four {
  T v[4];
};

// Whether rows of `columns` elements from p on can be moved four at a time. Shape and address alone decide.
template <typename T>
__host__ __device__ __forceinline__ bool fours(const T* p, int64_t columns) {
  return columns % 4 == 0 && reinterpret_cast<uintptr_t>(p) % sizeof(Four<T>) == 0;
}

// The first `count` of four elements; the rest is 0. `wide` as fours() says.
template <typename T>
__device__ __forceinline__ Four<T> load_four(const T* p, int count, bool wide) {
  if (wide && count >= 4) return *reinterpret_cast<const Four<T>*>(p);
  Four<T> x{};
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (i < count) x.v[i] = p[i];
  return x;
}
template <typename T>
__device__ __forceinline__ void store_four(T* p, int count, bool wide, const Four<T>& x) {
  if (wide && count >= 4) {
    *reinterpret_cast<Four<T>*>(p) = x;
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (i < count) p[i] = x.v[i];
}

}  // namespace threefold::cuda
