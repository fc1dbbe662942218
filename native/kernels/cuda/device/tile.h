// Rows of a head in shared memory: [rows, kWide] with 16 bytes between them, so that eight rows of one 16-byte column lie in
// different banks. Columns from D on and rows that do not exist are 0.
#pragma once

#include "kernels/cuda/device/element.h"

namespace threefold::cuda {

template <typename T, int kWide>
constexpr int kStride = kWide + Pack<T>::size;

// Copies `rows` rows; source(r) is row r in global memory, or nullptr. In packs by asynchronous copies, which the caller
// commits and waits for; one by one where rows are not aligned. `memory` is any pack-aligned address of the tensor.
template <typename T, int kWide, int kThreads, typename Source>
__device__ __forceinline__ void load_tile(T* tile, int rows, int d, bool packed, const T* memory, Source source) {
  constexpr int size = Pack<T>::size, stride = kStride<T, kWide>, chunks = kWide / size;
  if (packed) {
    constexpr int slots = chunks <= 8 ? 8 : chunks <= 16 ? 16 : chunks <= 32 ? 32 : 64;  // a thread keeps its column
    int column = threadIdx.x % slots * size;
    if (column >= kWide) return;
#pragma unroll 1
    for (int r = threadIdx.x / slots; r < rows; r += kThreads / slots) {
      const T* row = source(r);
      bool there = row && column < d;
      ptx::copy_async_16(tile + r * stride + column, there ? row + column : memory, there ? 16 : 0);
    }
    return;
  }
#pragma unroll 1
  for (int i = threadIdx.x; i < rows * kWide; i += kThreads) {
    int r = i / kWide, column = i % kWide;
    const T* row = source(r);
    tile[r * stride + column] = row && column < d ? row[column] : from_float<T>(0);
  }
}

// Writes `rows` rows of a tile to out, `row` elements apart; thread `thread` of `threads` does its share.
template <typename T, int kWide>
__device__ __forceinline__ void store_tile(const T* tile, T* out, int64_t row, int rows, int d, bool packed, int thread, int threads) {
  int step = packed ? Pack<T>::size : 1, across = (d + step - 1) / step;
  for (int i = thread; i < rows * across; i += threads) {
    int r = i / across, c = i % across * step;
    if (packed)
      store_pack(out + r * row + c, load_pack(tile + r * kStride<T, kWide> + c));
    else
      out[r * row + c] = tile[r * kStride<T, kWide> + c];
  }
}

// Rows [first, first + count) of a sequence: a source for load_tile.
template <typename T>
struct SequenceRows {
  const T* first;
  int64_t stride;
  int count;
  __device__ __forceinline__ const T* operator()(int r) const { return r < count ? first + r * stride : nullptr; }
};

}  // namespace threefold::cuda
