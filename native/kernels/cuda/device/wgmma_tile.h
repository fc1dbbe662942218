// Tiles of 16-bit operands in shared memory for wgmma, as the copy engine leaves them: boxes of rows of 128 bytes whose
// 16-byte units are permuted by the row's number modulo 8. A tile is 64 deep along K.
//   along K:       one box [outer, 64]
//   along M or N:  boxes [64, 64] of K by 64 of the outer side, one after the other
// Either way 64 of the outer side take kTileBytes, and the next 64 follow.
#pragma once

#include "kernels/cuda/device/ptx_sm90.h"

namespace threefold::cuda {

constexpr int kDeep = 64, kTileBytes = 64 * kDeep * 2;

// Of the 16 deep piece that begins at k (a multiple of 16) of a tile in shared memory at `tile`.
template <bool along_k>
__device__ __forceinline__ uint64_t tile_descriptor(uint32_t tile, int k) {
  constexpr uint64_t kLeading = kTileBytes, kStride = 8 * 128;  // to the next 64 of the outer side; from 8 rows to the next 8
  uint64_t start = tile + k * (along_k ? 2 : 128);
  return start >> 4 | kLeading >> 4 << 16 | kStride >> 4 << 32 | uint64_t(1) << 62;
}

// Brings kOuter of the outer side from (outer0, k0) of an operand to a tile; the bytes arrive at `bar`. By one thread.
template <bool along_k, int kOuter>
__device__ __forceinline__ void copy_tile(unsigned char* tile, const TensorMap& map, int64_t outer0, int64_t k0, uint64_t* bar) {
  if constexpr (along_k) {
    ptx::copy_box(tile, map, int(k0), int(outer0), bar);
  } else {
    static_assert(kOuter % 64 == 0);
#pragma unroll
    for (int i = 0; i < kOuter; i += 64) ptx::copy_box(tile + i * kDeep * 2, map, int(outer0) + i, int(k0), bar);
  }
}

// Rows of the boxes that copy_tile expects of a map.
template <bool along_k, int kOuter>
constexpr int kBoxRows = along_k ? kOuter : kDeep;

// sums[64, N] += the 64 rows of a by the N columns of b, over the 64 deep tiles at these addresses of shared memory.
template <typename T, bool a_along_k, bool b_along_k, int half_n>
__device__ __forceinline__ void multiply_tiles(float (&sums)[half_n], uint32_t a, uint32_t b) {
#pragma unroll
  for (int k = 0; k < kDeep; k += 16)
    ptx::wgmma<T, a_along_k, b_along_k>(sums, tile_descriptor<a_along_k>(a, k), tile_descriptor<b_along_k>(b, k));
}

}  // namespace threefold::cuda
