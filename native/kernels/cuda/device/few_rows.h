// What the matmuls of few rows (decoding) have in common. A block makes some columns of out for all rows: its warps, or
// warpgroups, sum one chunk of K each, round after round, and after each round the chunks' sums join the totals in index order.
#pragma once

#include "kernels/cuda/device/epilogue.h"

namespace threefold::cuda {

// Floats of a tile of sums [kRows, kColumns] in shared memory, and from row to row.
template <int kColumns>
constexpr int kFewPitch = kColumns + 4;
template <int kRows, int kColumns>
constexpr int kFewTile = kRows * kFewPitch<kColumns>;

// totals += the round's `chunks` tiles of sums; the first round starts from 0. For the whole block, whose
// threads may write to sums and read totals afterwards.
template <int kRows, int kColumns>
__device__ __forceinline__ void join_chunks(float* totals, const float* sums, int chunks, bool first) {
  __syncthreads();
  for (int x = threadIdx.x; x < kRows * kColumns; x += blockDim.x) {
    int at = x / kColumns * kFewPitch<kColumns> + x % kColumns;
    float total = first ? 0.0f : totals[at];
    for (int c = 0; c < chunks; ++c) total += sums[c * kFewTile<kRows, kColumns> + at];
    totals[at] = total;
  }
  __syncthreads();
}

// out[0.., j0..] from the joined totals: every warp takes up to 16 rows.
template <int kRows, int kColumns>
__device__ __forceinline__ void finish_few_rows(const Epilogue& e, float* totals, int64_t j0) {
  constexpr int kTake = kRows < 16 ? kRows : 16, kPitch = kFewPitch<kColumns>;
  int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  for (int i = threadIdx.x / 32 * kTake; i < kRows; i += warps * kTake)
    finish_tile<kTake, kColumns, kPitch, 32>(e, totals + i * kPitch, i, j0, lane);
}

}  // namespace threefold::cuda
