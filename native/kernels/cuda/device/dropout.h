// Masks of dropout on the device, as factors: 0, or 1 / (1 - p). Lanes that need words of one Philox block share it. Those of
// tiles are drawn as bits before the scores are made, in loops that stay loops: Philox takes as many registers as there are
// scores.
#pragma once

#include "kernels/cuda/device/reduce.h"
#include "kernels/dropout.h"

namespace threefold::cuda {

struct Keep {
  uint64_t seed;
  uint32_t stream, threshold;
  float scale;
  const int32_t* rows;  // [T]

  Keep() = default;
  explicit Keep(const DropoutMask& m) : seed(m.seed), stream(m.stream), threshold(m.threshold()), scale(m.scale()), rows(m.rows.i32()) {}

  __device__ __forceinline__ float factor(uint32_t word) const { return word < threshold ? 0 : scale; }
  __device__ __forceinline__ PhiloxBlock words(int64_t token, int head, int position, int block) const {
    return dropout_words(seed, stream + uint32_t(head), uint32_t(rows[token]), uint32_t(position), uint32_t(block));
  }
  // The same of a Keep in shared memory, whose seed is read anew, or the ten keys that follow from it would stay in registers.
  __device__ __forceinline__ PhiloxBlock words_anew(int64_t token, int head, int position, int block) const {
    uint64_t anew = *static_cast<const volatile uint64_t*>(&seed);
    return dropout_words(anew, stream + uint32_t(head), uint32_t(rows[token]), uint32_t(position), uint32_t(block));
  }
  // Of one probability of attention. token: any of the sequence.
  __device__ __forceinline__ float at(int64_t token, int head, int position, int key) const {
    PhiloxBlock w = words(token, head, position, key / 4);
    uint32_t half[2] = {key & 2 ? w[2] : w[0], key & 2 ? w[3] : w[1]};  // an index would put the words on the stack
    return factor(key & 1 ? half[1] : half[0]);
  }

  __device__ __forceinline__ uint32_t kept(uint32_t word) const { return word >= threshold; }
  // From bit `at` of a mask.
  __device__ __forceinline__ float factor_of(uint32_t mask, int at) const { return mask >> at & 1 ? scale : 0; }

  // Of up to eight tiles of 16 queries by 8 keys, side by side: bit 4 n + i is that of sum i of tile n, as fragments.h places
  // them. position: of row 0; key: of column 0, a multiple of 8. The whole warp calls it.
  template <int count>
  __device__ __forceinline__ uint32_t queries_by_keys(int64_t token, int head, int position, int key) const {
    static_assert(count <= 8);
    int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    bool odd = q & 1;  // the even lane draws for row g, the odd one for row g + 8; each half goes to the other
    uint32_t mask = 0;
#pragma unroll 1
    for (int n = 0; n < count; ++n) {
      PhiloxBlock w = words_anew(token, head, position + g + (odd ? 8 : 0), key / 4 + n * 2 + q / 2);
      uint32_t low = kept(w[0]) | kept(w[1]) << 1, high = kept(w[2]) | kept(w[3]) << 1;
      uint32_t own = odd ? high : low, got = __shfl_xor_sync(kFull, odd ? low : high, 1);
      mask |= (odd ? got | own << 2 : own | got << 2) << 4 * n;
    }
    return mask;
  }
  // The same of `across` times `down` tiles of 16 keys by 8 queries: tile (n, t), which begins 8 n queries and 16 t keys on, has
  // the bits from 4 (n down + t) on. key: a multiple of 4.
  template <int across, int down>
  __device__ __forceinline__ uint32_t keys_by_queries(int64_t token, int head, int position, int key) const {
    static_assert(across * down <= 8);
    int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, turn = g % 4;
    uint32_t mask = 0;
#pragma unroll 1
    for (int n = 0; n < across * down; ++n) {
      // Four lanes share the blocks of their four sums: each draws one, then bits are transposed among them.
      PhiloxBlock w = words_anew(token, head, position + n / down * 8 + 2 * q + turn % 2, (key + n % down * 16 + turn / 2 * 8 + g) / 4);
      uint32_t drawn = kept(w[0]) | kept(w[1]) << 1 | kept(w[2]) << 2 | kept(w[3]) << 3, own = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) own |= (__shfl_sync(kFull, drawn, (lane & ~12) | i << 2) >> turn & 1) << i;
      mask |= own << 4 * n;
    }
    return mask;
  }
};

}  // namespace threefold::cuda
