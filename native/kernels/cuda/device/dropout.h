// Masks of dropout on the device, as factors: 0, or 1 / (1 - p). Lanes that need words of one Philox block share it.
#pragma once

#include "kernels/cuda/device/reduce.h"
#include "kernels/dropout.h"

namespace threefold::cuda {

struct Keep {
  uint64_t seed;
  uint32_t stream, threshold;
  float scale;
  const int32_t* rows;  // [T]

  explicit Keep(const DropoutMask& m) : seed(m.seed), stream(m.stream), threshold(m.threshold()), scale(m.scale()), rows(m.rows.i32()) {}

  __device__ __forceinline__ float factor(uint32_t word) const { return word < threshold ? 0 : scale; }
  __device__ __forceinline__ PhiloxBlock words(int64_t token, int head, int position, int block) const {
    return dropout_words(seed, stream + uint32_t(head), uint32_t(rows[token]), uint32_t(position), uint32_t(block));
  }
  // Of one probability of attention. token: any of the sequence.
  __device__ __forceinline__ float at(int64_t token, int head, int position, int key) const {
    return factor(words(token, head, position, key / 4)[key % 4]);
  }

  // Of a 16 x 8 tile of sums of queries by keys: this lane's four, as fragments.h places them. position: of row 0; key: of
  // column 0, a multiple of 8. The whole warp calls it.
  __device__ __forceinline__ void by_queries(float (&f)[4], int64_t token, int head, int position, int key) const {
    int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    bool odd = q & 1;  // the even lane draws for row g, the odd one for row g + 8; each half goes to the other
    PhiloxBlock w = words(token, head, position + g + (odd ? 8 : 0), key / 4 + q / 2);
    uint32_t own[2] = {odd ? w[2] : w[0], odd ? w[3] : w[1]}, other[2] = {odd ? w[0] : w[2], odd ? w[1] : w[3]};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint32_t got = __shfl_xor_sync(kFull, other[i], 1);
      f[i] = factor(odd ? got : own[i]);
      f[2 + i] = factor(odd ? own[i] : got);
    }
  }
  // The same of a tile of keys by queries. key: of row 0, a multiple of 4; position: of column 0.
  __device__ __forceinline__ void by_keys(float (&f)[4], int64_t token, int head, int position, int key) const {
    int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, turn = g % 4;
    // Four lanes share the blocks of their four sums: each draws one, then words are transposed among them.
    PhiloxBlock drawn = words(token, head, position + 2 * q + turn % 2, (key + turn / 2 * 8 + g) / 4);
    uint32_t w[4] = {drawn[0], drawn[1], drawn[2], drawn[3]};
#pragma unroll
    for (int bit = 1; bit <= 2; bit *= 2)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (i & bit) continue;
        bool upper = turn & bit;
        uint32_t got = __shfl_xor_sync(kFull, upper ? w[i] : w[i | bit], bit * 4);
        (upper ? w[i] : w[i | bit]) = got;
      }
#pragma unroll
    for (int i = 0; i < 4; ++i) f[i] = factor(w[i]);
  }
};

}  // namespace threefold::cuda
