// How flat arrays are cut: a block takes a stretch of elements, a thread kEach groups of kSize neighbours, a block's width
// apart. A stretch that lies inside the array is moved in whole groups, all loads before the first use; the last one, and
// arrays that are not aligned, element by element.
#pragma once

#include "kernels/cuda/launch.h"

namespace threefold::cuda {

template <int kSize, int kEach>
struct Stretch {
  static constexpr int threads = 256, each = kEach;
  static constexpr int64_t elements = int64_t(threads) * kSize * kEach;
  static Launch over(const char* name, int64_t n) { return {name, {blocks_for(n, elements)}, {threads}}; }

  // Of stretch `number` in [0, n): whether it lies inside; where group j of this thread begins; f(i) for the elements
  // of this thread, one by one.
  __device__ static bool inside(int64_t number, int64_t n) { return (number + 1) * elements <= n; }
  __device__ static int64_t at(int64_t number, int j) {
    return number * elements + (j * threads + int(threadIdx.x)) * kSize;
  }
  template <typename F>
  __device__ static void one_by_one(int64_t number, int64_t n, F f) {
    int64_t end = min((number + 1) * elements, n);
    for (int64_t i = number * elements + threadIdx.x; i < end; i += threads) f(i);
  }
};

}  // namespace threefold::cuda
