// THE log-softmax. Logprob and sample both fold logits through it, in the same tiles, so that the log-prob recorded
// when a token is drawn and the one computed later from the hidden state are bit-equal (contract 1). One warp folds a
// tile by itself; a row's tiles are joined in one fixed order, whoever folded them.
#pragma once

#include "kernels/cuda/device/element.h"
#include "kernels/cuda/device/reduce.h"

namespace threefold::cuda {

constexpr int kTile = 1024;  // columns of the vocabulary, counted from 0
constexpr int kPerLane = kTile / 32;

inline int64_t tiles_of(int64_t columns) { return (columns + kTile - 1) / kTile; }

// x -> softcap tanh(x / softcap); 0 = off.
struct Softcap {
  float cap = 0, inverse = 0;
  Softcap() = default;
  explicit Softcap(float cap) : cap(cap), inverse(cap > 0 ? 1 / cap : 0) {}
  __device__ float operator()(float x) const { return cap > 0 ? cap * tanhf(x * inverse) : x; }
  template <int size>
  __device__ __forceinline__ void apply(float (&x)[size]) const {
    if (cap > 0)
#pragma unroll
      for (int i = 0; i < size; ++i) x[i] = cap * tanhf(x[i] * inverse);
  }
};

// Columns [c, c + 4) of a row of n, 0 past its end, into x[at ...]. Aligned: the row starts at a multiple of 16 bytes.
template <int size>
__device__ __forceinline__ void load4(const float* row, int c, int n, bool aligned, float (&x)[size], int at) {
  if (aligned && c + 4 <= n) {
    Pack<float> pack = load_pack(row + c);
    for (int i = 0; i < 4; ++i) x[at + i] = pack.v[i];
  } else {
    for (int i = 0; i < 4; ++i) x[at + i] = c + i < n ? row[c + i] : 0;
  }
}
__device__ __forceinline__ bool aligned16(const float* row) { return reinterpret_cast<uintptr_t>(row) % 16 == 0; }

// Which column of its tile element j of a lane is.
__device__ __forceinline__ int column_of(int lane, int j) { return 128 * (j / 4) + 4 * lane + j % 4; }
// A tile's first n logits into the registers of a warp, in that order.
__device__ __forceinline__ void load_tile(const float* tile, int n, float (&x)[kPerLane]) {
  int lane = threadIdx.x % 32;
  bool aligned = aligned16(tile);
#pragma unroll
  for (int j = 0; j < kPerLane; j += 4) load4(tile, column_of(lane, j), n, aligned, x, j);
}

// Softmax of one tile: with z = logit * inv_temperature,
struct TilePart {
  float max;       // of z
  float sum;       // of exp(z - max)
  float weighted;  // of exp(z - max) * (z - max), when entropy is asked for
};

// Folds the n logits of a warp's tile, after their cap. Every lane gets the result.
__device__ __forceinline__ TilePart fold_tile(const float (&x)[kPerLane], int n, float inv_temperature, bool entropy) {
  int lane = threadIdx.x % 32;
  float z[kPerLane], max = -INFINITY, sum = 0, weighted = 0;
#pragma unroll
  for (int j = 0; j < kPerLane; ++j) {
    z[j] = column_of(lane, j) < n ? x[j] * inv_temperature : -INFINITY;
    max = fmaxf(max, z[j]);
  }
  max = warp_max(max);
  float from = max == -INFINITY ? 0 : max;  // nothing but -inf (or NaN, which then shows in the sum)
#pragma unroll
  for (int j = 0; j < kPerLane; ++j) {
    float shifted = z[j] - from, e = expf(shifted);
    sum += e;
    // exp of the lower bound is 0 all the same, and 0 * bound is 0 where 0 * -inf would be NaN
    if (entropy) weighted = fmaf(e, fmaxf(shifted, -1000.0f), weighted);
  }
  return {max, warp_sum(sum), entropy ? warp_sum(weighted) : 0};
}

// Softmax of a row.
struct SoftmaxState {
  float max;
  double sum, weighted;
  __device__ double lse() const { return double(max) + log(sum); }
  // The log-prob of a token, from its logit after the cap.
  __device__ float logprob(float logit, float inv_temperature) const { return float(double(logit * inv_temperature) - lse()); }
  __device__ float entropy() const { return float(log(sum) - weighted / sum); }
};

// The state of a row from parts [tiles], by one warp: lane l takes tiles l, l + 32, ... in order, a tree joins the lanes.
__device__ __forceinline__ SoftmaxState join_tiles(const TilePart* parts, int tiles) {
  int lane = threadIdx.x % 32;
  float max = -INFINITY;
  for (int t = lane; t < tiles; t += 32) max = fmaxf(max, parts[t].max);
  max = warp_max(max);
  double sum = 0, weighted = 0;
  for (int t = lane; t < tiles; t += 32) {
    TilePart part = parts[t];
    if (part.sum == 0) continue;  // nothing but -inf
    double drop = double(part.max) - max, keep = exp(drop);
    sum += keep * part.sum;
    if (keep > 0) weighted += keep * (part.weighted + part.sum * drop);
  }
  return {max, warp_sum(sum), warp_sum(weighted)};
}

}  // namespace threefold::cuda
