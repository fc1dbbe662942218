// What the matmuls of few rows (decoding) have in common. A block makes 32 columns of out for all rows: its warps sum one
// chunk of K each, round after round, and after each round the chunks' sums join the totals in index order.
#pragma once

#include "kernels/cuda/device/epilogue.h"

namespace threefold::cuda {

constexpr int kFewColumns = 32, kFewPitch = kFewColumns + 4;  // of a tile [rows, 32] in shared memory

// totals += the round's `chunks` sums, [chunks, kRows] rows; the first round starts from 0. For the whole block, whose
// threads may write to sums and read totals afterwards.
template <int kRows>
__device__ __forceinline__ void join_chunks(float* totals, const float* sums, int chunks, bool first) {
  __syncthreads();
  for (int x = threadIdx.x; x < kRows * kFewColumns; x += blockDim.x) {
    int at = x / kFewColumns * kFewPitch + x % kFewColumns;
    float total = first ? 0.0f : totals[at];
    for (int c = 0; c < chunks; ++c) total += sums[c * kRows * kFewPitch + at];
    totals[at] = total;
  }
  __syncthreads();
}

// out[0.., j0..] from the joined totals: every warp takes 16 rows.
template <int kRows>
__device__ __forceinline__ void finish_few_rows(const Epilogue& e, float* totals, int64_t j0) {
  int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  for (int i = threadIdx.x / 32 * 16; i < kRows; i += warps * 16)
    finish_tile<16, kFewColumns, kFewPitch, 32>(e, totals + i * kFewPitch, i, j0, lane);
}

}  // namespace threefold::cuda
