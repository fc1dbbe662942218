// Elements of any storage type as fp32 and back: kernels compute in fp32 and touch memory through these.
#pragma once

#include "core/dtype.h"
#include "kernels/cuda/device/ptx.h"

namespace threefold::cuda {

template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) { return x; }
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) { return {ptx::bf16_bits(x)}; }
template <>
__device__ __forceinline__ f16 from_float<f16>(float x) { return {ptx::f16_bits(x)}; }

// 16 bytes of elements, moved by one instruction.
template <typename T>
struct alignas(16) Pack {
  static constexpr int size = 16 / sizeof(T);
  T v[size];
};

template <typename T>
__device__ __forceinline__ Pack<T> load_pack(const T* p) { return *reinterpret_cast<const Pack<T>*>(p); }
template <typename T>
__device__ __forceinline__ void store_pack(T* p, const Pack<T>& x) { *reinterpret_cast<Pack<T>*>(p) = x; }

// Whether rows of `columns` elements from p on can be moved in packs. Shape and address alone decide, never the values.
template <typename T>
__host__ __device__ __forceinline__ bool packs(const T* p, int64_t columns) {
  return columns % Pack<T>::size == 0 && reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

}  // namespace threefold::cuda
