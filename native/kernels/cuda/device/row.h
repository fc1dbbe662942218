// One row of [rows, H] to a team of threads: a warp where the row is short, else a block. Thread i of the team takes the
// words i, i + team, i + 2 team, ... of the row. Which team it is, hence the order of every sum, depends on H and the type.
#pragma once

#include "kernels/cuda/device/reduce.h"
#include "kernels/cuda/device/words.h"
#include "kernels/cuda/launch.h"

namespace threefold::cuda {

// Rows that a block of warps takes at a time.
constexpr int kRowsOfWarps = 4;
constexpr int kMostThreads = 1024;

struct RowTeam {
  bool block;     // or a warp
  int threads;    // of a block
  int64_t words;  // of a row

  // At most `kept` words a thread, up to `most` threads; above that a thread takes more.
  template <typename T>
  static RowTeam of(int64_t h, int kept, int most = kMostThreads) {
    int64_t words = (h + Words<T>::size - 1) / Words<T>::size;
    if (words <= 32 * kept) return {false, 32 * kRowsOfWarps, words};
    return {true, int(std::min<int64_t>(most, (words + 32 * kept - 1) / (32 * kept) * 32)), words};
  }
  bool keeps(int kept) const { return words <= int64_t(block ? threads : 32) * kept; }
  Launch over(const char* name, int64_t rows, int64_t shared = 0) const {
    return {name, {block ? unsigned(rows) : blocks_for(rows, kRowsOfWarps)}, {unsigned(threads)}, shared};
  }
};

// The place of the calling thread. `row` may lie past the last one: for a whole warp, never for part of a block.
template <bool block>
struct RowPlace {
  static constexpr int most = block ? kMostThreads : 32 * kRowsOfWarps;  // threads of a block
  int64_t row;
  int lane, team;
  __device__ __forceinline__ RowPlace()
      : row(block ? blockIdx.x : int64_t(blockIdx.x) * kRowsOfWarps + threadIdx.x / 32),
        lane(block ? threadIdx.x : threadIdx.x % 32), team(block ? blockDim.x : 32) {}
};

// Whether rows of h elements at these addresses are moved in whole words.
template <typename T, typename... P>
bool whole_words(int64_t h, const P*... p) {
  return h % Words<T>::size == 0 && aligned(p...);
}

// Sums of n numbers of every thread over its team; each thread gets them. A block needs `scratch`: 32 n floats of shared
// memory that the sums before did not use.
template <bool block, int n>
__device__ __forceinline__ void team_sums(float (&x)[n], float* scratch) {
#pragma unroll
  for (int i = 0; i < n; ++i) x[i] = warp_sum(x[i]);
  if constexpr (block) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    if (lane == 0) {
#pragma unroll
      for (int i = 0; i < n; ++i) scratch[i * 32 + warp] = x[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < n; ++i) x[i] = warp_sum(lane < warps ? scratch[i * 32 + lane] : 0.0f);
  }
}

}  // namespace threefold::cuda
