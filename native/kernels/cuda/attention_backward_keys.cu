// dK and dV on tensor cores: a block owns a tile of keys of one key/value head and goes over the group's query heads and
// their tiles of 64 queries. Of each pair of tiles a warp makes the P^T and dS^T of 32 keys and a part of the queries; they
// meet in shared memory, rounded to 16 bits, and a warp adds P^T dO and dS^T Q of its 32 keys and a part of the columns.
#include <cstddef>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/device/dropout.h"
#include "kernels/cuda/device/fragments.h"
#include "kernels/cuda/device/shared.h"

namespace threefold::cuda {
namespace {

constexpr int kThreads = 256, kQueries = 64;
template <int kWide>
constexpr int kDown = kWide <= 128 ? 4 : 2;  // warps along the keys; the others share their rows
template <int kWide>
constexpr int kRows = 32 * kDown<kWide>;
template <typename T>
constexpr int kWeights = kStride<T, kQueries>;

template <typename T, int kWide>
struct Shared {
  Tile tile;  // here, like what follows, to leave its registers to the sums
  float slope;
  int kv_head, end;  // of the queries that see a key of the tile
  Keep keep;
  alignas(16) T k[kRows<kWide> * kStride<T, kWide>], v[kRows<kWide> * kStride<T, kWide>];
  T p[kRows<kWide> * kWeights<T>], ds[kRows<kWide> * kWeights<T>];  // [keys, queries]
  struct Stage {
    T q[kQueries * kStride<T, kWide>], dout[kQueries * kStride<T, kWide>];
    float2 stats[kQueries];
  } stage[2];  // the second where there is room
};

// dqkv [T, row]: the keys' and values' columns are written.
template <typename T, int kWide, bool drops>
__global__ void __launch_bounds__(kThreads, 1) keys_kernel(BackwardInputs<T> in, T* dqkv, Attention s, Keep keep, float scale, int stages, Check check) {
  constexpr int stride = kStride<T, kWide>, weights = kWeights<T>, across = kThreads / 32 / kDown<kWide>;
  constexpr int tiles = 2, queries = kQueries / across / 8, columns = kWide / across / 8;  // of one warp, in tiles of 16, 8 and 8
  constexpr int together = drops ? 1 : tiles;  // with a mask there are no registers for the scores of two
  auto& m = shared_struct<Shared<T, kWide>>();
  if (blockIdx.x == 0 && blockIdx.y == 0) check_starts(in.starts, in.sequences, in.tokens, check);
  Tile tile;
  if (!find_tile(in.starts, in.sequences, in.tokens, kRows<kWide>, int(blockIdx.x), tile)) return;  // keys of the most queries first
  if (threadIdx.x == 0) {
    m.tile = tile, m.kv_head = blockIdx.y, m.slope = s.slope(m.kv_head * s.group), m.end = tile.length, m.keep = keep;
    if (s.window > 0) m.end = int(min(int64_t(tile.length), int64_t(tile.first) + kRows<kWide> + s.window - 1));
  }
  __syncthreads();
  auto load = [&](T* to, int rows, const T* from, int64_t row, int64_t column, int first) {
    SequenceRows<T> source{from + (m.tile.start + first) * row + column, row, m.tile.length - first};
    load_tile<T, kWide, kThreads>(to, rows, s.d, in.packed, in.qkv, source);
  };
  auto load_queries = [&](int stage, int head, int first) {
    auto& to = m.stage[stage];
    load(to.q, kQueries, in.qkv, s.row, s.query(head), first);
    load(to.dout, kQueries, in.dout, int64_t(s.heads) * s.d, s.query(head), first);
    if (int i = threadIdx.x; i < kQueries) {
      bool there = first + i < m.tile.length;
      ptx::copy_async_8(to.stats + i, in.stats + head * in.tokens + m.tile.start + (there ? first + i : 0), there ? 8 : 0);
    }
    ptx::copy_async_commit();
  };

  int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, warp = threadIdx.x / 32;
  int own = warp % kDown<kWide> * 32, part = warp / kDown<kWide>;  // the warp's first key of the tile; which of the others
  float dk[tiles][columns][4] = {}, dv[tiles][columns][4] = {};
  load(m.k, kRows<kWide>, in.qkv, s.row, s.key(m.kv_head), m.tile.first);
  load(m.v, kRows<kWide>, in.qkv, s.row, s.value(m.kv_head), m.tile.first);
  int head = m.kv_head * s.group, first = m.tile.first, stage = 0;
  load_queries(0, head, first);
  for (;;) {
    int next_head = head, next = first + kQueries;
    if (next >= m.end) ++next_head, next = m.tile.first;
    bool last = next_head == (m.kv_head + 1) * s.group;
    ptx::copy_async_wait<0>();
    __syncthreads();  // this tile is there, and nobody reads the one before or its weights
    if (stages == 2 && !last) load_queries(stage ^ 1, next_head, next);
    const auto& at = m.stage[stage];

    int key = m.tile.first + own, query = part * queries * 8;
    bool hidden = key > first + query + queries * 8 - 1;
    bool edge = key + 32 > first + query + 1 || key < s.first_visible(first + query + queries * 8 - 1);
#pragma unroll 1
    for (int lower = 0; lower < tiles; lower += together) {
      const int rows = own + lower * 16, from = m.tile.first + rows;  // their first key
      uint32_t kept = 0;
      if (drops && !hidden) kept = m.keep.template keys_by_queries<queries, together>(m.tile.start, head, first + query, from);
      float x[together][queries][4] = {}, dp[together][queries][4] = {};
      auto multiply = [&](const T* keys, const T* others, float(&sum)[together][queries][4]) {
#pragma unroll
        for (int c = 0; c < kWide; c += 16) {
          uint32_t a[together][4];
#pragma unroll
          for (int t = 0; t < together; ++t) load_a<T, stride>(a[t], keys + (rows + t * 16) * stride + c);
#pragma unroll
          for (int n = 0; n < queries; n += 2) {
            uint32_t b[2][2];
            load_b_rows<T, stride>(b, others + (query + n * 8) * stride + c);
#pragma unroll
            for (int t = 0; t < together; ++t)
#pragma unroll
              for (int j = 0; j < 2; ++j) ptx::mma_16x8x16<T>(sum[t][n + j], a[t], b[j]);
          }
        }
      };
      auto for_sums = [&](auto f) {  // f(x, dp, key, position, column of its query, number of its bit in the mask)
#pragma unroll
        for (int n = 0; n < queries; ++n)
#pragma unroll
          for (int t = 0; t < together; ++t)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              int column = query + n * 8 + 2 * q + i % 2;
              f(x[t][n][i], dp[t][n][i], from + t * 16 + i / 2 * 8 + g, first + column, column, (n * together + t) * 4 + i);
            }
      };
      if (!hidden) {
        multiply(m.k, at.q, x);
        multiply(m.v, at.dout, dp);
        with_kind(s, [&]<Attention::Kind kind>(KindIs<kind>) {
          for_sums([&](float& x, float& dp, int key, int position, int column, int bit) {
            Weights w = weigh<kind>(s, x, dp, m.slope, key - position, at.stats[column], drops ? m.keep.factor_of(kept, bit) : 1);
            x = w.p, dp = w.ds;
          });
        });
        if (edge)
          for_sums([&](float& x, float& dp, int key, int position, int, int) { if (!s.visible(key, position)) x = dp = 0; });
      }
#pragma unroll
      for (int n = 0; n < queries; ++n)
#pragma unroll
        for (int t = 0; t < together; ++t)
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            int to = (rows + t * 16 + r * 8 + g) * weights + query + n * 8 + 2 * q;
            *reinterpret_cast<uint32_t*>(m.p + to) = ptx::pack_bits<T>(x[t][n][2 * r], x[t][n][2 * r + 1]);
            *reinterpret_cast<uint32_t*>(m.ds + to) = ptx::pack_bits<T>(dp[t][n][2 * r], dp[t][n][2 * r + 1]);
          }
    }
    __syncthreads();
    auto accumulate = [&](const T* weight, const T* others, float(&sum)[tiles][columns][4]) {
#pragma unroll
      for (int n = 0; n < kQueries; n += 16) {
        if (first + n + 15 < key) continue;  // none of the queries sees one of the keys
        uint32_t a[tiles][4];
#pragma unroll
        for (int t = 0; t < tiles; ++t) load_a<T, weights>(a[t], weight + (own + t * 16) * weights + n);
#pragma unroll
        for (int c = 0; c < columns; c += 2) {
          uint32_t b[2][2];
          load_b_columns<T, stride>(b, others + n * stride + (part * columns + c) * 8);
#pragma unroll
          for (int t = 0; t < tiles; ++t)
#pragma unroll
            for (int j = 0; j < 2; ++j) ptx::mma_16x8x16<T>(sum[t][c + j], a[t], b[j]);
        }
      }
    };
    accumulate(m.p, at.dout, dv);
    accumulate(m.ds, at.q, dk);
    if (last) break;
    if (stages == 1) {
      __syncthreads();
      load_queries(0, next_head, next);
    }
    if (next_head != head && threadIdx.x == 0) m.slope = s.slope(next_head);  // nobody reads that of this tile any more
    head = next_head, first = next, stage ^= stages - 1;
  }

  __syncthreads();  // the tile's keys and values make room for their gradients
#pragma unroll
  for (int t = 0; t < tiles; ++t)
#pragma unroll
    for (int c = 0; c < columns; ++c)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        int to = (own + t * 16 + r * 8 + g) * stride + (part * columns + c) * 8 + 2 * q;
        *reinterpret_cast<uint32_t*>(m.k + to) = ptx::pack_bits<T>(dk[t][c][2 * r] * scale, dk[t][c][2 * r + 1] * scale);
        *reinterpret_cast<uint32_t*>(m.v + to) = ptx::pack_bits<T>(dv[t][c][2 * r], dv[t][c][2 * r + 1]);
      }
  __syncthreads();
  T* out = dqkv + (m.tile.start + m.tile.first) * s.row;
  int count = min(kRows<kWide>, m.tile.length - m.tile.first);
  store_tile<T, kWide>(m.k, out + s.key(m.kv_head), s.row, count, s.d, packs(dqkv, s.d), threadIdx.x, kThreads);
  store_tile<T, kWide>(m.v, out + s.value(m.kv_head), s.row, count, s.d, packs(dqkv, s.d), threadIdx.x, kThreads);
}

}  // namespace

template <typename T>
void attention_backward_keys(Exec& ex, const AttentionBackward& a, const BackwardInputs<T>& in) {
  Attention s(a.shape);
  with_head_size(s.d, [&]<int wide>(std::integral_constant<int, wide>) {
    using S = Shared<T, wide>;
    constexpr int64_t two = sizeof(S), one = two - int64_t(sizeof(typename S::Stage));
    int stages = two <= ex.gpu->shared_limit ? 2 : 1;
    with_bool(bool(a.dropout), [&]<bool drops>(std::bool_constant<drops>) {
      launch(ex, {"attention_backward", {tiles_for(in.tokens, in.sequences, kRows<wide>), unsigned(s.kv_heads)}, {kThreads}, stages == 2 ? two : one},
             keys_kernel<T, wide, drops>, in, a.dqkv.as<T>(), s, Keep(a.dropout), a.shape.scale, stages, starts_check(ex.gpu->fault, "attention_backward"));
    });
  });
}
template void attention_backward_keys(Exec&, const AttentionBackward&, const BackwardInputs<bf16>&);
template void attention_backward_keys(Exec&, const AttentionBackward&, const BackwardInputs<f16>&);

}  // namespace threefold::cuda
