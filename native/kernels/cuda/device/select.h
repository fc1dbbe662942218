// Choosing in one row of logits, by one block, by sums of whole-number weights: those are the same in any order. A pass
// over the row is 16-byte loads, several in flight; what it sums goes to shared memory.
#pragma once

#include "kernels/cuda/device/softmax_state.h"

namespace threefold::cuda {

using Mass = unsigned long long;  // a weight, or a sum of them

constexpr int kBins = 2048;
constexpr int kAtOnce = 16;  // logits of one thread in flight: more would spill where a block has 1024 threads

// Shared memory of a block that selects.
struct SelectShared {
  uint32_t low[kBins], high[kBins];  // halves of the mass of each bin
  Mass warp_sums[32];
  Mass left, inside;  // of the bin found: what is needed of its mass, and all of it
  int bin, column;
};

// Keys in the order of floats; -0 has the key of 0, NaN the lowest.
__device__ __forceinline__ uint32_t key_of(float x) {
  if (!(x == x)) return 0;
  uint32_t bits = __float_as_uint(x + 0.0f);
  return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}
__device__ __forceinline__ float value_of(uint32_t key) {
  return __uint_as_float(key ^ (key >> 31 ? 0x80000000u : 0xffffffffu));
}

// The tokens from the highest logit down to a last one, of equal ones those of lower index.
constexpr int kAll = 0x7fffffff;
struct Cut {
  uint32_t key = 0;
  int last = kAll;
  __device__ bool keeps(int column, uint32_t k) const { return k > key || (k == key && column <= last); }
};

// A row of n logits, capped as they are read.
struct LogitRow {
  const float* x;
  int n;
  Softcap cap;

  // f(column, logit) of every column, by all threads of a block.
  template <typename F>
  __device__ __forceinline__ void each(F f) const {
    constexpr int kLoads = 2;
    bool aligned = aligned16(x);
    int step = 4 * blockDim.x;
    for (int c = 4 * threadIdx.x; c < n; c += kLoads * step) {
      float v[4 * kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) load4(x, c + i * step, n, aligned, v, 4 * i);
      cap.apply(v);
#pragma unroll
      for (int i = 0; i < 4 * kLoads; ++i) {
        int column = c + i / 4 * step + i % 4;
        if (column < n) f(column, v[i]);
      }
    }
  }
  __device__ int tiles() const { return (n + kTile - 1) / kTile; }
};

__device__ __forceinline__ Mass warp_total(Mass x) {
  for (int with = 16; with > 0; with /= 2) x += __shfl_xor_sync(kFull, x, with);
  return x;
}
// Of this lane and those before it.
__device__ __forceinline__ Mass warp_scan(Mass x) {
  int lane = threadIdx.x % 32;
  for (int by = 1; by < 32; by *= 2) {
    Mass below = __shfl_up_sync(kFull, x, by);
    if (lane >= by) x += below;
  }
  return x;
}

// sums[tile] = the sum of weight(column, logit) over its columns, by all warps of a block. sums [tiles]
template <typename Weight>
__device__ __forceinline__ void tile_sums(const LogitRow& row, Weight weight, Mass* sums) {
  bool aligned = aligned16(row.x);
  for (int t = threadIdx.x / 32; t < row.tiles(); t += blockDim.x / 32) {
    Mass sum = 0;
#pragma unroll 1
    for (int first = t * kTile + 4 * (threadIdx.x % 32), end = first + kTile; first < end; first += 32 * kAtOnce) {
      float x[kAtOnce];
#pragma unroll
      for (int j = 0; j < kAtOnce; j += 4) load4(row.x, first + 32 * j, row.n, aligned, x, j);
      row.cap.apply(x);
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        int column = first + 32 * (j & ~3) + j % 4;
        if (column < row.n) sum += weight(column, x[j]);
      }
    }
    sum = warp_total(sum);
    if (threadIdx.x % 32 == 0) sums[t] = sum;
  }
}

// Where a running sum passes a number: in which tile, whose sum is `mass`, `at` from its start.
struct Place {
  int tile;
  Mass at, mass;
};
// By one warp: the first tile at whose end the running sum is above `threshold`, which is below the total; sum_of(tile).
template <typename Sum>
__device__ __forceinline__ Place find_tile(Sum sum_of, int tiles, Mass threshold) {
  int lane = threadIdx.x % 32;
  Mass carried = 0;
  for (int base = 0;; base += 32) {
    Mass own = base + lane < tiles ? sum_of(base + lane) : 0, up_to = carried + warp_scan(own);
    unsigned above = __ballot_sync(kFull, up_to > threshold);
    if (above) {
      int lane_found = __ffs(int(above)) - 1;
      Mass at = threshold - (up_to - own);
      return {base + lane_found, __shfl_sync(kFull, at, lane_found), __shfl_sync(kFull, own, lane_found)};
    }
    carried = __shfl_sync(kFull, up_to, 31);
    if (base + 32 >= tiles) return {0, 0, 0};
  }
}
// By one warp: the column at a place. Where the weights of the tile do not add up to its sum, because that was formed in
// another way, the place is taken in proportion. Column 0 of the tile where no column weighs anything.
template <typename Weight>
__device__ __forceinline__ int find_column(const LogitRow& row, Place place, Weight weight) {
  int lane = threadIdx.x % 32, first = place.tile * kTile + lane * kPerLane;
  bool aligned = aligned16(row.x);
  Mass own = 0;
#pragma unroll 1
  for (int from = first; from < first + kPerLane; from += kAtOnce) {
    float x[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; j += 4) load4(row.x, from + j, row.n, aligned, x, j);
    row.cap.apply(x);
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j)
      if (from + j < row.n) own += weight(from + j, x[j]);
  }
  Mass up_to = warp_scan(own), total = __shfl_sync(kFull, up_to, 31), at = place.at;
  if (total == 0) return place.tile * kTile;
  if (total != place.mass) at = min(total - 1, Mass(double(at) / double(place.mass) * double(total)));
  // One lane walks its columns, which are in the L1 cache by now.
  Mass running = up_to - own;
  bool here = running <= at && at < up_to;
  int column = first;
  if (here)
    while ((running += weight(column, row.cap(row.x[column]))) <= at) ++column;
  return __shfl_sync(kFull, column, __ffs(int(__ballot_sync(kFull, here))) - 1);
}

// Adds to a bin. Two atomics of 32 bits, with the carry by hand: shared memory has none of 64.
__device__ __forceinline__ void add_mass(SelectShared& s, uint32_t bin, Mass x) {
  uint32_t low = uint32_t(x), high = uint32_t(x >> 32);
  if (low && atomicAdd(&s.low[bin], low) + low < low) ++high;
  if (high) atomicAdd(&s.high[bin], high);
}

// The sum of x over the threads before this one; `total` over all.
__device__ __forceinline__ Mass block_before(Mass x, Mass* warp_sums, Mass& total) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  Mass up_to = warp_scan(x), before = 0;
  total = __shfl_sync(kFull, up_to, 31);
  if (warps == 1) return up_to - x;
  if (lane == 31) warp_sums[warp] = up_to;
  __syncthreads();
  Mass of_warps = warp_scan(lane < warps ? warp_sums[lane] : 0);
  total = __shfl_sync(kFull, of_warps, 31);
  if (warp > 0) before = __shfl_sync(kFull, of_warps, warp - 1);
  return before + up_to - x;
}

// Of the tokens that `within` keeps, from the highest logit down, the fewest whose masses add up to target(total of the
// masses), which is 1 or more and at most the total. mass_of(logit) does not rise from one logit to a lower one. By all
// threads of a block, a power of two: radix select over the bits of the keys until the last bin is needed whole, then over
// the columns of equal logits. sums [tiles]: scratch
template <typename MassOf, typename Target>
__device__ __forceinline__ Cut select(const LogitRow& row, const Cut& within, MassOf mass_of, Target target, SelectShared& s,
                                      Mass* sums) {
  uint32_t prefix = 0;  // of the keys in the bin that holds the last token
  Mass left = 0;        // what that bin has to give
  for (int shift = 21, bits = 11;; bits = min(shift, 11), shift -= bits) {
    for (int bin = threadIdx.x; bin < kBins; bin += blockDim.x) s.low[bin] = s.high[bin] = 0;
    __syncthreads();
    row.each([&](int column, float x) {
      uint32_t key = key_of(x);
      if (shift < 21 && key >> (shift + bits) != prefix) return;
      if (within.keeps(column, key)) add_mass(s, key >> shift & ((1u << bits) - 1), mass_of(x));
    });
    __syncthreads();
    // Each thread has a stretch of bins, the first one the highest.
    int each = kBins / blockDim.x, top = kBins - 1 - threadIdx.x * each;
    auto of_bin = [&](int bin) { return Mass(s.high[bin]) << 32 | s.low[bin]; };
    Mass own = 0, total;
    for (int i = 0; i < each; ++i) own += of_bin(top - i);
    Mass before = block_before(own, s.warp_sums, total);
    if (shift == 21) left = target(total);
    if (before < left && left <= before + own) {
      int bin = top;
      for (; before + of_bin(bin) < left; --bin) before += of_bin(bin);
      s.bin = bin, s.left = left - before, s.inside = of_bin(bin);
    }
    __syncthreads();
    prefix = prefix << bits | uint32_t(s.bin);
    left = s.left;
    uint32_t lowest = prefix << shift;
    Mass least = mass_of(value_of(lowest));  // of any token of the bin
    if (s.inside < left + least) return lowest <= within.key ? within : Cut{lowest};
    if (shift > 0) continue;

    Mass needed = (left + least - 1) / least;  // of the equal ones, from the lowest column
    int last = lowest == within.key ? within.last : kAll;
    auto equal = [&](int column, float x) { return Mass(key_of(x) == lowest && column <= last); };
    tile_sums(row, equal, sums);
    __syncthreads();
    if (threadIdx.x < 32) {
      int column = find_column(row, find_tile([&](int t) { return sums[t]; }, row.tiles(), needed - 1), equal);
      if (threadIdx.x == 0) s.column = column;
    }
    __syncthreads();
    return {lowest, s.column};
  }
}

}  // namespace threefold::cuda
