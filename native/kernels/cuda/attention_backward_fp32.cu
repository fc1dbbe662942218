// Gradients of attention in fp32 (Dao et al. 2022, algorithm 4), the probabilities computed again from the log-sum-exp:
//   P = exp(scale Q K^T - lse)   dP = dO V^T   D = rowsum(dO * O)   dS = P * (dP - D)
//   dV = P^T dO                  dQ = scale dS K                    dK = scale dS^T Q
// With dropout, M of 0 or 1 / (1 - p): dP = M * (dO V^T) and dV = (P * M)^T dO; D holds as it is.
// Two passes without a shared sum: a block owns a tile of queries and gives its dQ, or a tile of keys and gives its dK and
// dV, over the group's query heads and their tiles in order. Either way a thread has a few rows of the tile it owns against
// every 16th row of the other.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device/dropout.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/device/tile.h"

namespace threefold::cuda {
namespace {

constexpr int kThreads = 256;
template <int kWide>
constexpr int kTile = kWide <= 64 ? 64 : 32;  // queries of a tile, and keys

// Tiles are [kTile, kWide], weights [owned rows, other rows].
template <int kWide>
struct Shared {
  static constexpr int stride = kStride<float, kWide>, tile = kTile<kWide>, each = tile / 16, columns = kWide / 64, weights = tile + 4;
  float q[tile * stride], dout[tile * stride], k[tile * stride], v[tile * stride];
  float p[tile * weights], ds[tile * weights];
  float2 stats[tile];

  // Row tx + 16 j of `other` dot row ty each + i of `own`.
  static __device__ void dots(const float* own, const float* other, int d, float (&x)[each][each]) {
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    for (int c = 0; c < d; c += 4) {
      float4 a[each], b[each];
#pragma unroll
      for (int i = 0; i < each; ++i) {
        a[i] = *reinterpret_cast<const float4*>(own + (ty * each + i) * stride + c);
        b[i] = *reinterpret_cast<const float4*>(other + (tx + 16 * i) * stride + c);
      }
#pragma unroll
      for (int i = 0; i < each; ++i)
#pragma unroll
        for (int j = 0; j < each; ++j)
          x[i][j] = fmaf(a[i].w, b[j].w, fmaf(a[i].z, b[j].z, fmaf(a[i].y, b[j].y, fmaf(a[i].x, b[j].x, x[i][j]))));
    }
  }
  // sum[i] += weights of row ty each + i times the rows of `other`, columns 64 c + 4 tx on.
  static __device__ void accumulate(const float* weight, const float* other, float4 (&sum)[each][columns]) {
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    for (int j = 0; j < tile; ++j)
#pragma unroll
      for (int c = 0; c < columns; ++c) {
        float4 x = *reinterpret_cast<const float4*>(other + j * stride + c * 64 + tx * 4);
#pragma unroll
        for (int i = 0; i < each; ++i) {
          float w = weight[(ty * each + i) * weights + j];
          float4& s = sum[i][c];
          s = make_float4(fmaf(w, x.x, s.x), fmaf(w, x.y, s.y), fmaf(w, x.z, s.z), fmaf(w, x.w, s.w));
        }
      }
  }
  // Rows of dqkv, from `out` on, `row` elements apart; `count` of the tile exist.
  static __device__ void store(float* out, int64_t row, int count, int d, float scale, const float4 (&sum)[each][columns]) {
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < each; ++i)
#pragma unroll
      for (int c = 0; c < columns; ++c) {
        const float x[4] = {sum[i][c].x, sum[i][c].y, sum[i][c].z, sum[i][c].w};
#pragma unroll
        for (int k = 0; k < 4; ++k)
          if (int at = c * 64 + tx * 4 + k; ty * each + i < count && at < d) out[(ty * each + i) * row + at] = x[k] * scale;
      }
  }
};

struct Inputs {
  const float *qkv, *dout;  // [T, row], [T, N D]
  const float2* stats;      // [N, T]
  const int32_t* starts;    // [B + 1]
  int sequences;
  int64_t tokens;
  bool packed;
};

template <int kWide, bool owns_queries, bool drops>
__global__ void __launch_bounds__(kThreads, 1) backward_kernel(Inputs in, float* dqkv, Attention s, Keep keep, float scale, Check check) {
  using S = Shared<kWide>;
  constexpr int tile = S::tile, each = S::each;
  auto& m = shared_struct<S>();
  if (blockIdx.x == 0 && blockIdx.y == 0) check_starts(in.starts, in.sequences, in.tokens, check);
  Tile own;
  int number = owns_queries ? gridDim.x - 1 - blockIdx.x : blockIdx.x;  // the most work first
  if (!find_tile(in.starts, in.sequences, in.tokens, tile, number, own)) return;
  int kv_head = owns_queries ? blockIdx.y / s.group : blockIdx.y;
  int first_head = owns_queries ? blockIdx.y : kv_head * s.group, heads = owns_queries ? 1 : s.group;
  int tx = threadIdx.x % 16, ty = threadIdx.x / 16;

  auto load = [&](float* to, const float* from, int64_t row, int64_t column, int first) {
    SequenceRows<float> rows{from + (own.start + first) * row + column, row, own.length - first};
    load_tile<float, kWide, kThreads>(to, tile, s.d, in.packed, in.qkv, rows);
  };
  auto load_queries = [&](int head, int first) {
    load(m.q, in.qkv, s.row, s.query(head), first);
    load(m.dout, in.dout, int64_t(s.heads) * s.d, s.query(head), first);
    for (int i = threadIdx.x; i < tile; i += kThreads)
      if (first + i < own.length) m.stats[i] = in.stats[head * in.tokens + own.start + first + i];
  };
  auto load_keys = [&](int first) {
    load(m.k, in.qkv, s.row, s.key(kv_head), first);
    load(m.v, in.qkv, s.row, s.value(kv_head), first);
  };
  // Tiles of the other side that share a visible pair with this one.
  int begin = owns_queries ? s.first_visible(own.first) / tile * tile : own.first;
  int end = owns_queries ? min(own.first + tile, own.length) : own.length;
  if (!owns_queries && s.window > 0) end = int(min(int64_t(end), int64_t(own.first) + tile + s.window - 1));

  float4 first_sum[each][S::columns] = {}, second_sum[each][S::columns] = {};  // dQ; or dK and dV
  owns_queries ? load_queries(first_head, own.first) : load_keys(own.first);
  for (int head = first_head; head < first_head + heads; ++head) {
    float slope = s.slope(head);
    for (int other = begin; other < end; other += tile) {
      __syncthreads();
      owns_queries ? load_keys(other) : load_queries(head, other);
      ptx::copy_async_commit();
      ptx::copy_async_wait<0>();
      __syncthreads();
      float dot[each][each] = {}, dp[each][each] = {};
      S::dots(owns_queries ? m.q : m.k, owns_queries ? m.k : m.q, s.d, dot);
      S::dots(owns_queries ? m.dout : m.v, owns_queries ? m.v : m.dout, s.d, dp);
      with_kind(s, [&]<Attention::Kind kind>(KindIs<kind>) {
#pragma unroll
        for (int i = 0; i < each; ++i)
#pragma unroll
          for (int j = 0; j < each; ++j) {
            int row = ty * each + i, column = tx + 16 * j, query = owns_queries ? row : column;
            int key = owns_queries ? other + column : own.first + row, position = (owns_queries ? own.first : other) + query;
            Weights w;
            if (position < own.length && s.visible(key, position))
              w = weigh<kind>(s, dot[i][j], dp[i][j], slope, key - position, m.stats[query], drops ? keep.at(own.start, head, position, key) : 1);
            m.ds[row * S::weights + column] = w.ds;
            if (!owns_queries) m.p[row * S::weights + column] = w.p;
          }
      });
      __syncthreads();
      S::accumulate(m.ds, owns_queries ? m.k : m.q, first_sum);
      if (!owns_queries) S::accumulate(m.p, m.dout, second_sum);
    }
  }
  float* out = dqkv + (own.start + own.first) * s.row;
  int count = own.length - own.first;
  S::store(out + (owns_queries ? s.query(first_head) : s.key(kv_head)), s.row, count, s.d, scale, first_sum);
  if (!owns_queries) S::store(out + s.value(kv_head), s.row, count, s.d, 1, second_sum);
}

}  // namespace

void attention_backward_fp32(Exec& ex, const AttentionBackward& a, const float2* stats) {
  Attention s(a.shape);
  int64_t tokens = a.qkv.dim(0), sequences = a.starts.dim(0) - 1;
  Inputs in{a.qkv.f32(), a.dout.f32(), stats, a.starts.i32(), int(sequences), tokens, packs(a.qkv.f32(), s.d) && packs(a.dout.f32(), s.d)};
  Check check = starts_check(ex.gpu->fault, "attention_backward");
  with_head_size(s.d, [&]<int size>(std::integral_constant<int, size>) {
    constexpr int wide = size == 96 ? 128 : size;
    auto start = [&](auto kernel, int heads) {
      launch(ex, {"attention_backward", {tiles_for(tokens, sequences, kTile<wide>), unsigned(heads)}, {kThreads}, sizeof(Shared<wide>)},
             kernel, in, a.dqkv.f32(), s, Keep(a.dropout), a.shape.scale, check);
    };
    with_bool(bool(a.dropout), [&]<bool drops>(std::bool_constant<drops>) {
      start(backward_kernel<wide, false, drops>, s.kv_heads);
      start(backward_kernel<wide, true, drops>, s.heads);
    });
  });
}

}  // namespace threefold::cuda
