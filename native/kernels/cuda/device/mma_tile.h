// Tiles of 16-bit operands in shared memory for mma.sync: how they lie there, how they arrive, how fragments are taken.
//
// A tile is rows of kRow elements. The 16-byte units of a row are permuted by the row's number modulo 8, so that the 8 rows
// of an 8 x 8 matrix lie in different banks.
#pragma once

#include "kernels/cuda/device/operand.h"

namespace threefold::cuda {

// Where the 8 elements from `column` (a multiple of 8) of a row begin.
template <int kRow>
__device__ __forceinline__ int tile_at(int row, int column) {
  return row * kRow + (column / 8 ^ row % 8) * 8;
}

// Starts to bring the piece [kOuter, kDeep] of x at (outer0, k0) to a tile, zeros where it leaves x; thread t of kThreads.
// It has arrived when the thread's copies have (copy_async_wait) and a barrier has told the others.
template <bool k_contiguous, int kOuter, int kDeep, int kThreads, typename T>
__device__ __forceinline__ void fetch_tile(const Operand<T>& x, int64_t outer0, int64_t k0, T* tile, int t) {
  constexpr int kRow = k_contiguous ? kDeep : kOuter, kUnits = kOuter * kDeep / 8;
  static_assert(kUnits % kThreads == 0 && kRow % 64 == 0);
  const int64_t row0 = k_contiguous ? outer0 : k0, column0 = k_contiguous ? k0 : outer0;
  const int64_t rows = k_contiguous ? x.outer : x.k, columns = k_contiguous ? x.k : x.outer;
#pragma unroll
  for (int i = 0; i < kUnits / kThreads; ++i) {
    int unit = i * kThreads + t, row = unit / (kRow / 8), column = unit % (kRow / 8) * 8;
    T* to = tile + tile_at<kRow>(row, column);
    int64_t left = row0 + row < rows ? columns - (column0 + column) : 0;
    const T* from = x.data + (row0 + row) * columns + column0 + column;
    if (x.wide) {
      bool some = left > 0;  // then all 8: the length of rows is a multiple of 8
      ptx::copy_async_16(to, some ? from : x.data, some ? 16 : 0);
      continue;
    }
    Pack<T> p;
#pragma unroll
    for (int j = 0; j < 8; ++j) p.v[j] = j < left ? from[j] : T{};
    store_pack(to, p);
  }
}

// The fragment of 16 outer x 16 k elements at (outer, k) of a tile: for lane (g, q) = (lane / 4, lane % 4) the pairs along k
//   (g, 2q), (g + 8, 2q), (g, 2q + 8), (g + 8, 2q + 8).
// As a it is one operand of mma_16x8x16; as b it is two: {r[0], r[2]} and {r[1], r[3]}.
template <bool k_contiguous, int kRow, typename T>
__device__ __forceinline__ void load_fragment(uint32_t (&r)[4], const T* tile, int outer, int k, int lane) {
  outer += lane / 8 % 2 * 8, k += lane / 16 * 8;
  if (k_contiguous)
    ptx::load_matrix_x4(r, tile + tile_at<kRow>(outer + lane % 8, k));
  else
    ptx::load_matrix_x4_transposed(r, tile + tile_at<kRow>(k + lane % 8, outer));
}

}  // namespace threefold::cuda
