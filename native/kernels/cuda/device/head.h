// A head of D elements held by the smallest power of two of lanes that have 8 elements each. Its sums are a chain of 8 in
// each lane, then a tree over those lanes: they depend on nothing but the head.
#pragma once

#include "kernels/cuda/device/element.h"
#include "kernels/cuda/device/reduce.h"

namespace threefold::cuda {

constexpr int kEach = 8;  // elements of one lane

inline int lanes_of_head(int64_t d) {
  int lanes = 1;
  while (lanes * kEach < d) lanes *= 2;
  return lanes;
}

// Elements [first, first + 8) of a head, 0 from D on.
template <typename T>
__device__ __forceinline__ void load_head(const T* head, int first, int d, bool packed, float (&x)[kEach]) {
#pragma unroll
  for (int i = 0; i < kEach; i += Pack<T>::size) {
    if (packed && first + i < d) {
      Pack<T> p = load_pack(head + first + i);
#pragma unroll
      for (int j = 0; j < Pack<T>::size; ++j) x[i + j] = to_float(p.v[j]);
    } else {
#pragma unroll
      for (int j = 0; j < Pack<T>::size; ++j) x[i + j] = first + i + j < d ? to_float(head[first + i + j]) : 0;
    }
  }
}
template <typename T>
__device__ __forceinline__ void store_head(T* head, int first, int d, bool packed, const float (&x)[kEach]) {
#pragma unroll
  for (int i = 0; i < kEach; i += Pack<T>::size) {
    Pack<T> p;
#pragma unroll
    for (int j = 0; j < Pack<T>::size; ++j) p.v[j] = from_float<T>(x[i + j]);
    if (packed && first + i < d)
      store_pack(head + first + i, p);
    else
#pragma unroll
      for (int j = 0; j < Pack<T>::size; ++j)
        if (first + i + j < d) head[first + i + j] = p.v[j];
  }
}

// Of the lanes of one head, each of which gets it. Every lane of the warp calls it.
__device__ __forceinline__ float head_sum(float x, int lanes) {
  for (int with = lanes / 2; with > 0; with /= 2) x += __shfl_xor_sync(kFull, x, with);
  return x;
}
__device__ __forceinline__ float head_dot(const float (&a)[kEach], const float (&b)[kEach], int lanes) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) sum = fmaf(a[i], b[i], sum);
  return head_sum(sum, lanes);
}

}  // namespace threefold::cuda
