// dQ on tensor cores: a block owns a tile of queries of one head, a warp 16 or 32 of its rows, and goes over the blocks of
// keys they see. See attention_backward_fp32.cu for the sums; dS is rounded to 16 bits for dS K.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device/dropout.h"
#include "kernels/cuda/device/fragments.h"
#include "kernels/cuda/device/shared.h"

namespace threefold::cuda {
namespace {

constexpr int kThreads = 128, kHalf = 32;  // keys whose scores a warp has in registers at once
template <int kWide>
constexpr int kTiles = kWide <= 128 ? 2 : 1;
template <int kWide>
constexpr int kRows = 16 * kTiles<kWide> * (kThreads / 32);

template <typename T, int kWide>
struct Shared {
  Tile tile;  // here, like what follows, to leave its registers to the sums
  float slope;
  int head;
  Keep keep;
  alignas(16) T q[kRows<kWide> * kStride<T, kWide>], dout[kRows<kWide> * kStride<T, kWide>];
  struct Stage {
    T k[kKeys * kStride<T, kWide>], v[kKeys * kStride<T, kWide>];
  } stage[2];  // the second where there is room
};

// dqkv [T, row]: the queries' columns are written.
template <typename T, int kWide, bool drops>
__global__ void __launch_bounds__(kThreads, kWide <= 128 ? 2 : 1)
    queries_kernel(BackwardInputs<T> in, T* dqkv, Attention s, Keep keep, float scale, int stages, Check check) {
  constexpr int stride = kStride<T, kWide>, tiles = kTiles<kWide>, columns = kWide / 8, count = 16 * tiles;
  auto& m = shared_struct<Shared<T, kWide>>();
  if (blockIdx.x == 0 && blockIdx.y == 0) check_starts(in.starts, in.sequences, in.tokens, check);
  Tile tile;
  if (!find_tile(in.starts, in.sequences, in.tokens, kRows<kWide>, int(gridDim.x - 1 - blockIdx.x), tile)) return;  // most keys first
  if (threadIdx.x == 0) m.tile = tile, m.head = blockIdx.y, m.slope = s.slope(m.head), m.keep = keep;
  __syncthreads();
  auto load = [&](T* to, int rows, const T* from, int64_t row, int64_t column, int first) {
    SequenceRows<T> source{from + (m.tile.start + first) * row + column, row, m.tile.length - first};
    load_tile<T, kWide, kThreads>(to, rows, s.d, in.packed, in.qkv, source);
  };
  auto load_keys = [&](int stage, int key) {
    load(m.stage[stage].k, kKeys, in.qkv, s.row, s.key(m.head / s.group), key);
    load(m.stage[stage].v, kKeys, in.qkv, s.row, s.value(m.head / s.group), key);
    ptx::copy_async_commit();
  };

  int within = threadIdx.x / 32 * count, first = m.tile.first + within, g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
  float2 stats[tiles][2];
#pragma unroll
  for (int t = 0; t < tiles; ++t)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      int position = first + t * 16 + r * 8 + g;
      stats[t][r] = position < m.tile.length ? in.stats[m.head * in.tokens + m.tile.start + position] : make_float2(0, 0);
    }
  float dq[tiles][columns][4] = {};
  int end = min(m.tile.first + kRows<kWide>, m.tile.length);
  int key = s.first_visible(m.tile.first) / kKeys * kKeys;
  load(m.q, kRows<kWide>, in.qkv, s.row, s.query(m.head), m.tile.first);
  load(m.dout, kRows<kWide>, in.dout, int64_t(s.heads) * s.d, s.query(m.head), m.tile.first);
  load_keys(0, key);
  for (int stage = 0; key < end; key += kKeys, stage ^= stages - 1) {
    ptx::copy_async_wait<0>();
    __syncthreads();
    if (stages == 2 && key + kKeys < end) load_keys(stage ^ 1, key + kKeys);
    const auto& in_stage = m.stage[stage];
#pragma unroll 1
    for (int half = 0; half < kKeys; half += kHalf) {
      int from = key + half, last = first + count - 1;
      if (first >= m.tile.length || from > last || from + kHalf <= s.first_visible(first)) continue;
      bool edge = from + kHalf > first + 1 || from < s.first_visible(last);
      uint32_t kept[tiles];
      if constexpr (drops) {
#pragma unroll
        for (int t = 0; t < tiles; ++t) kept[t] = m.keep.template queries_by_keys<kHalf / 8>(m.tile.start, m.head, first + t * 16, from);
      }
      float x[tiles][kHalf / 8][4] = {}, dp[tiles][kHalf / 8][4] = {};
      auto multiply = [&](const T* rows, const T* keys, float(&sum)[tiles][kHalf / 8][4]) {
#pragma unroll
        for (int c = 0; c < kWide; c += 16) {
          uint32_t a[tiles][4];
#pragma unroll
          for (int t = 0; t < tiles; ++t) load_a<T, stride>(a[t], rows + (within + t * 16) * stride + c);
#pragma unroll
          for (int n = 0; n < kHalf / 8; n += 2) {
            uint32_t b[2][2];
            load_b_rows<T, stride>(b, keys + (half + n * 8) * stride + c);
#pragma unroll
            for (int t = 0; t < tiles; ++t)
#pragma unroll
              for (int j = 0; j < 2; ++j) ptx::mma_16x8x16<T>(sum[t][n + j], a[t], b[j]);
          }
        }
      };
      multiply(m.q, in_stage.k, x);
      multiply(m.dout, in_stage.v, dp);
      auto for_sums = [&](auto f) {  // f(x, dp, key, position, t, number of its bit in the mask)
#pragma unroll
        for (int t = 0; t < tiles; ++t)
#pragma unroll
          for (int n = 0; n < kHalf / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) f(x[t][n][i], dp[t][n][i], from + n * 8 + 2 * q + i % 2, first + t * 16 + i / 2 * 8 + g, t, 4 * n + i);
      };
      with_kind(s, [&]<Attention::Kind kind>(KindIs<kind>) {
        for_sums([&](float& x, float dp, int at, int position, int t, int bit) {
          x = weigh<kind>(s, x, dp, m.slope, at - position, stats[t][bit / 2 % 2], drops ? m.keep.factor_of(kept[t], bit) : 1).ds;
        });
      });
      if (edge)
        for_sums([&](float& x, float, int at, int position, int, int) { if (!s.visible(at, position)) x = 0; });
#pragma unroll
      for (int n = 0; n < kHalf / 8; n += 2) {
        uint32_t a[tiles][4];
#pragma unroll
        for (int t = 0; t < tiles; ++t) round_a<T>(a[t], x[t][n], x[t][n + 1]);
#pragma unroll
        for (int c = 0; c < columns; c += 2) {
          uint32_t b[2][2];
          load_b_columns<T, stride>(b, in_stage.k + (half + n * 8) * stride + c * 8);
#pragma unroll
          for (int t = 0; t < tiles; ++t)
#pragma unroll
            for (int j = 0; j < 2; ++j) ptx::mma_16x8x16<T>(dq[t][c + j], a[t], b[j]);
        }
      }
    }
    if (stages == 2 || key + kKeys >= end) continue;
    __syncthreads();
    load_keys(0, key + kKeys);
  }

  if (first >= m.tile.length) return;
  T* rows = m.q + within * stride;  // the warp's own, which no one else reads
#pragma unroll
  for (int t = 0; t < tiles; ++t)
#pragma unroll
    for (int c = 0; c < columns; ++c)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        *reinterpret_cast<uint32_t*>(rows + (t * 16 + r * 8 + g) * stride + c * 8 + 2 * q) =
            ptx::pack_bits<T>(dq[t][c][2 * r] * scale, dq[t][c][2 * r + 1] * scale);
  __syncwarp();
  store_tile<T, kWide>(rows, dqkv + (m.tile.start + first) * s.row + s.query(m.head), s.row, min(count, m.tile.length - first), s.d,
                       packs(dqkv, s.d), threadIdx.x % 32, 32);
}

}  // namespace

template <typename T>
void attention_backward_queries(Exec& ex, const AttentionBackward& a, const BackwardInputs<T>& in) {
  Attention s(a.shape);
  with_head_size(s.d, [&]<int wide>(std::integral_constant<int, wide>) {
    using S = Shared<T, wide>;
    // Two blocks on a multiprocessor hide each other's waits; where only one fits, two stages do.
    constexpr int64_t two = sizeof(S), one = two - int64_t(sizeof(typename S::Stage));
    int64_t limit = ex.gpu->shared_limit;
    int stages = 2 * two <= limit || (2 * one > limit && two <= limit) ? 2 : 1;
    with_bool(bool(a.dropout), [&]<bool drops>(std::bool_constant<drops>) {
      launch(ex, {"attention_backward", {tiles_for(in.tokens, in.sequences, kRows<wide>), unsigned(s.heads)}, {kThreads}, stages == 2 ? two : one},
             queries_kernel<T, wide, drops>, in, a.dqkv.as<T>(), s, Keep(a.dropout), a.shape.scale, stages, starts_check(ex.gpu->fault, "attention_backward"));
    });
  });
}
template void attention_backward_queries(Exec&, const AttentionBackward&, const BackwardInputs<bf16>&);
template void attention_backward_queries(Exec&, const AttentionBackward&, const BackwardInputs<f16>&);

}  // namespace threefold::cuda
