// Attention forward in fp32: a block owns 64 queries of one head, a thread 4 rows and every 16th key, then 4 rows and every
// 16th group of four columns. A score is one FMA chain over D, an output one over the keys.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device/dropout.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/device/tile.h"

namespace threefold::cuda {
namespace {

constexpr int kThreads = 256, kRows = 64;
constexpr int kScores = kKeys + 4;  // floats between rows of probabilities

template <int kWide>
constexpr int64_t kShared = ((kRows + kKeys) * kStride<float, kWide> + kRows * kScores) * int64_t(sizeof(float));

__device__ __forceinline__ float4 scaled(const float4& x, float by) { return make_float4(x.x * by, x.y * by, x.z * by, x.w * by); }
__device__ __forceinline__ void add(float4& sum, float a, const float4& x) {
  sum = make_float4(fmaf(a, x.x, sum.x), fmaf(a, x.y, sum.y), fmaf(a, x.z, sum.z), fmaf(a, x.w, sum.w));
}
__device__ __forceinline__ float4 joined(const float4& a, const float4& b, const Joint& by) {
  return make_float4(joined(a.x, b.x, by), joined(a.y, b.y, by), joined(a.z, b.z, by), joined(a.w, b.w, by));
}
__device__ __forceinline__ const float4& four(const float* p) { return *reinterpret_cast<const float4*>(p); }

// qkv [T, row], starts [B + 1], out [T, N D], lse [T, N] or nullptr.
template <int kWide, bool drops>
__global__ void __launch_bounds__(kThreads, 1) forward_kernel(const float* qkv, const int32_t* starts, int sequences, int64_t tokens,
                                                           float* out, float* lse, Attention s, Keep keep, bool packed, Check check) {
  constexpr int stride = kStride<float, kWide>, columns = kWide / 64;  // groups of four of one thread
  float* q = shared_array<float>();  // [64, kWide]
  float* kv = q + kRows * stride;    // [64, kWide]: the keys, then the values, of one block
  float* p = kv + kKeys * stride;    // [64, 64]
  int tx = threadIdx.x % 16, ty = threadIdx.x / 16, head = blockIdx.y, kv_head = head / s.group;
  if (blockIdx.x == 0 && blockIdx.y == 0) check_starts(starts, sequences, tokens, check);
  Tile tile;
  if (!find_tile(starts, sequences, tokens, kRows, int(gridDim.x - 1 - blockIdx.x), tile)) return;  // the longest rows first

  const float* sequence = qkv + tile.start * s.row;
  float slope = s.slope(head);
  auto load = [&](float* to, int64_t column, int first) {
    SequenceRows<float> rows{sequence + first * s.row + column, s.row, tile.length - first};
    load_tile<float, kWide, kThreads>(to, kKeys, s.d, packed, qkv, rows);
    ptx::copy_async_commit();
  };
  load(q, s.query(head), tile.first);

  float4 o[4][columns] = {}, whole[4][columns] = {};
  Folded row[4], all[4];
  int last = min(tile.first + kRows, tile.length) - 1, block = s.first_visible(tile.first) / kKeys;
  for (; block * kKeys <= last; ++block) {
    int key = block * kKeys, position = tile.first + ty * 4;  // of the thread's first row
    __syncthreads();
    load(kv, s.key(kv_head), key);
    ptx::copy_async_wait<0>();
    __syncthreads();

    float score[4][4] = {};
    for (int c = 0; c < s.d; c += 4) {
      float4 a[4], b[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = four(q + (ty * 4 + i) * stride + c), b[i] = four(kv + (tx + 16 * i) * stride + c);
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          float& x = score[i][j];
          x = fmaf(a[i].w, b[j].w, fmaf(a[i].z, b[j].z, fmaf(a[i].y, b[j].y, fmaf(a[i].x, b[j].x, x))));
        }
    }
    with_kind(s, [&]<Attention::Kind kind>(KindIs<kind>) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) score[i][j] = s.score<kind>(score[i][j], slope, key + tx + 16 * j - position - i);
    });
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float largest = kNothing, sum = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float& x = score[i][j];
        if (!s.visible(key + tx + 16 * j, position + i)) x = kNothing;
        largest = fmaxf(largest, x);
      }
      for (int with = 8; with > 0; with /= 2) largest = fmaxf(largest, __shfl_xor_sync(kFull, largest, with));
      float shrink = rise(row[i], largest * s.factor);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float x = ptx::exp2(fmaf(score[i][j], s.factor, -shift_of(row[i].top)));
        sum += x;
        p[(ty * 4 + i) * kScores + tx + 16 * j] = x;
      }
      for (int with = 8; with > 0; with /= 2) sum += __shfl_xor_sync(kFull, sum, with);
      row[i].sum = fmaf(row[i].sum, shrink, sum);
#pragma unroll
      for (int c = 0; c < columns; ++c) o[i][c] = scaled(o[i][c], shrink);
    }
    if constexpr (drops) {
#pragma unroll 1  // random numbers of one probability at a time, to leave registers to the sums
      for (int i = 0; i < 4; ++i)
#pragma unroll 1
        for (int j = tx; j < kKeys; j += 16) p[(ty * 4 + i) * kScores + j] *= keep.at(tile.start, head, position + i, key + j);
    }
    __syncthreads();
    load(kv, s.value(kv_head), key);
    ptx::copy_async_wait<0>();
    __syncthreads();

    for (int j = 0; j < kKeys; j += 4) {
      float4 x[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] = four(p + (ty * 4 + i) * kScores + j);
#pragma unroll
      for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (key + j + k > position + i) continue;  // a later value that is not finite must not meet the 0
          float by = k == 0 ? x[i].x : k == 1 ? x[i].y : k == 2 ? x[i].z : x[i].w;
#pragma unroll
          for (int c = 0; c < columns; ++c) add(o[i][c], by, four(kv + (j + k) * stride + c * 64 + tx * 4));
        }
    }
    if (block % kSpanBlocks != kSpanBlocks - 1 && key + kKeys <= last) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      Joint by = join(all[i], row[i]);
      row[i] = Folded{};
#pragma unroll
      for (int c = 0; c < columns; ++c) whole[i][c] = joined(whole[i][c], o[i][c], by), o[i][c] = make_float4(0, 0, 0, 0);
    }
  }

#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (tile.first + ty * 4 + i >= tile.length) return;
    int64_t token = tile.start + tile.first + ty * 4 + i;
#pragma unroll
    for (int c = 0; c < columns; ++c) {
      const float v[4] = {whole[i][c].x, whole[i][c].y, whole[i][c].z, whole[i][c].w};
      for (int k = 0; k < 4; ++k)
        if (int at = c * 64 + tx * 4 + k; at < s.d) out[(token * s.heads + head) * s.d + at] = finished(v[k], all[i]);
    }
    if (lse && tx == 0) lse[token * s.heads + head] = lse_of(all[i]);
  }
}

}  // namespace

void attention_forward_fp32(Exec& ex, const AttentionForward& a) {
  Attention s(a.shape);
  int64_t tokens = a.qkv.dim(0), sequences = a.starts.dim(0) - 1;
  with_head_size(s.d, [&]<int size>(std::integral_constant<int, size>) {
    constexpr int wide = size == 96 ? 128 : size;
    with_bool(bool(a.dropout), [&]<bool drops>(std::bool_constant<drops>) {
      launch(ex, {"attention_forward", {tiles_for(tokens, sequences, kRows), unsigned(s.heads)}, {kThreads}, kShared<wide>},
             forward_kernel<wide, drops>, a.qkv.f32(), a.starts.i32(), int(sequences), tokens, a.out.f32(), a.lse.f32(), s,
             Keep(a.dropout), packs(a.qkv.f32(), s.d), starts_check(ex.gpu->fault, "attention_forward"));
    });
  });
}

}  // namespace threefold::cuda
