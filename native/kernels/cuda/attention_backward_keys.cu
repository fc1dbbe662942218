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
  T k[kRows<kWide> * kStride<T, kWide>], v[kRows<kWide> * kStride<T, kWide>];
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
  auto& m = shared_struct<Shared<T, kWide>>();
  if (blockIdx.x == 0 && blockIdx.y == 0) check_starts(in.starts, in.sequences, in.tokens, check);
  Tile tile;
  if (!find_tile(in.starts, in.sequences, in.tokens, kRows<kWide>, int(blockIdx.x), tile)) return;  // keys of the most queries first
  int kv_head = blockIdx.y, first_head = kv_head * s.group;
  auto load = [&](T* to, int rows, const T* from, int64_t row, int64_t column, int first) {
    SequenceRows<T> source{from + (tile.start + first) * row + column, row, tile.length - first};
    load_tile<T, kWide, kThreads>(to, rows, s.d, in.packed, in.qkv, source);
  };
  auto load_queries = [&](int stage, int head, int first) {
    auto& to = m.stage[stage];
    load(to.q, kQueries, in.qkv, s.row, s.query(head), first);
    load(to.dout, kQueries, in.dout, int64_t(s.heads) * s.d, s.query(head), first);
    if (int i = threadIdx.x; i < kQueries) {
      bool there = first + i < tile.length;
      ptx::copy_async_8(to.stats + i, in.stats + head * in.tokens + tile.start + (there ? first + i : 0), there ? 8 : 0);
    }
    ptx::copy_async_commit();
  };

  int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, warp = threadIdx.x / 32;
  int own = warp % kDown<kWide> * 32, part = warp / kDown<kWide>;  // the warp's first key of the tile; which of the others
  int end = tile.length;  // of the queries that see a key of the tile
  if (s.window > 0) end = int(min(int64_t(end), int64_t(tile.first) + kRows<kWide> + s.window - 1));
  float dk[tiles][columns][4] = {}, dv[tiles][columns][4] = {};
  load(m.k, kRows<kWide>, in.qkv, s.row, s.key(kv_head), tile.first);
  load(m.v, kRows<kWide>, in.qkv, s.row, s.value(kv_head), tile.first);
  int head = first_head, first = tile.first, stage = 0;
  load_queries(0, head, first);
  float slope = s.slope(head);
  for (;;) {
    int next_head = head, next = first + kQueries;
    if (next >= end) ++next_head, next = tile.first;
    bool last = next_head == first_head + s.group;
    ptx::copy_async_wait<0>();
    __syncthreads();  // this tile is there, and nobody reads the one before or its weights
    if (stages == 2 && !last) load_queries(stage ^ 1, next_head, next);
    const auto& at = m.stage[stage];

    int key = tile.first + own, query = part * queries * 8;
    bool hidden = key > first + query + queries * 8 - 1;
    bool edge = key + 32 > first + query + 1 || key < s.first_visible(first + query + queries * 8 - 1);
    float x[tiles][queries][4] = {}, dp[tiles][queries][4] = {};
    auto multiply = [&](const T* keys, const T* others, float(&sum)[tiles][queries][4]) {
#pragma unroll
      for (int c = 0; c < kWide; c += 16) {
        uint32_t a[tiles][4];
#pragma unroll
        for (int t = 0; t < tiles; ++t) load_a<T, stride>(a[t], keys + (own + t * 16) * stride + c);
#pragma unroll
        for (int n = 0; n < queries; n += 2) {
          uint32_t b[2][2];
          load_b_rows<T, stride>(b, others + (query + n * 8) * stride + c);
#pragma unroll
          for (int t = 0; t < tiles; ++t)
#pragma unroll
            for (int j = 0; j < 2; ++j) ptx::mma_16x8x16<T>(sum[t][n + j], a[t], b[j]);
        }
      }
    };
    if (!hidden) {
      multiply(m.k, at.q, x);
      multiply(m.v, at.dout, dp);
    }
#pragma unroll
    for (int n = 0; n < queries; ++n) {
      int column = query + n * 8 + 2 * q;
      const float2 stats[2] = {at.stats[column], at.stats[column + 1]};
#pragma unroll
      for (int t = 0; t < tiles; ++t) {
        float f[4] = {1, 1, 1, 1};
        if (drops && !hidden) keep.by_keys(f, tile.start, head, first + query + n * 8, tile.first + own + t * 16);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          Weights w[2];
          int row = own + t * 16 + r * 8 + g;
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            int position = first + column + i, from = tile.first + row;
            if (!hidden && (!edge || s.visible(from, position)))
              w[i] = weigh(s, x[t][n][2 * r + i], dp[t][n][2 * r + i], slope, from - position, stats[i], f[2 * r + i]);
          }
          *reinterpret_cast<uint32_t*>(m.p + row * weights + column) = ptx::pack_bits<T>(w[0].p, w[1].p);
          *reinterpret_cast<uint32_t*>(m.ds + row * weights + column) = ptx::pack_bits<T>(w[0].ds, w[1].ds);
        }
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
    if (next_head != head) slope = s.slope(next_head);
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
  T* out = dqkv + (tile.start + tile.first) * s.row;
  int count = min(kRows<kWide>, tile.length - tile.first);
  store_tile<T, kWide>(m.k, out + s.key(kv_head), s.row, count, s.d, packs(dqkv, s.d), threadIdx.x, kThreads);
  store_tile<T, kWide>(m.v, out + s.value(kv_head), s.row, count, s.d, packs(dqkv, s.d), threadIdx.x, kThreads);
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
