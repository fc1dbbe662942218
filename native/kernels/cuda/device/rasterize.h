// Which tile of the output a block takes.
#pragma once

#include <cstdint>

namespace threefold::cuda {

struct TileOrigin {
  int64_t i, j;
};

// Tiles in bands of 8 down: blocks that run at one time share rows of a and columns of b in the second-level cache.
template <int kTileM, int kTileN>
__device__ __forceinline__ TileOrigin tile_origin(int64_t number, int64_t m, int64_t n) {
  constexpr int64_t kBand = 8;
  int64_t down = (m + kTileM - 1) / kTileM, across = (n + kTileN - 1) / kTileN;
  int64_t band = number / (kBand * across) * kBand, in_band = number % (kBand * across);
  int64_t height = down - band < kBand ? down - band : kBand;
  return {(band + in_band % height) * kTileM, in_band / height * kTileN};
}

}  // namespace threefold::cuda
