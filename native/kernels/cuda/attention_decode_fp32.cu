// Decode in fp32: a block of the grid owns up to 8 query heads that share a key/value head of one sequence. The sums of
// attention_fp32.cu in their order, with a thread to a key, then 16 threads to a row, then a thread to a column.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device/pages.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/device/tile.h"

namespace threefold::cuda {
namespace {

constexpr int kThreads = 128, kRows = kDecodeRows<float>;

template <int kWide>
struct Shared {
  float q[kRows * kStride<float, kWide>];
  float keys[kKeys * kStride<float, kWide>], values[kKeys * kStride<float, kWide>];
  float scores[kRows][kKeys];
  float shrink[kRows];
  Joint by[kRows];
  float sum[kRows];
  int64_t at[kKeys];  // of the block's keys in the cache
};

// qkv [B, row], keys and values [pages, page_size, G, D], out [B, N D], partials [B, N, spans, 2 + D].
template <int kWide>
__global__ void __launch_bounds__(kThreads, 1) decode_kernel(const float* qkv, const float* keys, const float* values, float* out,
                                                          float* partials, Attention s, Pages pages, int spans, bool packed) {
  constexpr int stride = kStride<float, kWide>;
  constexpr int across = kWide < kThreads ? kWide : kThreads, columns = kWide / across, down = kThreads / across;
  auto& m = shared_struct<Shared<kWide>>();
  int chunks = (s.group + kRows - 1) / kRows, kv_head = blockIdx.y / chunks, chunk = blockIdx.y % chunks, sequence = blockIdx.z;
  int head = kv_head * s.group + chunk * kRows, rows = min(int(kRows), s.group - chunk * kRows);
  int length = pages.length(sequence);
  if (length == 0) return;

  SequenceRows<float> queries{qkv + sequence * s.row + s.query(head), s.d, rows};
  load_tile<float, kWide, kThreads>(m.q, kRows, s.d, packed, qkv, queries);
  int folding = threadIdx.x / 16, lane = threadIdx.x % 16;  // the row whose softmax this thread takes part in, and where
  float slope = folding < rows ? s.slope(head + folding) : 0;
  float o[kRows / down][columns] = {}, whole[kRows / down][columns] = {};
  Folded row, all;
  SpanWalk walk(s.first_visible(length - 1) / kKeys, (length - 1) / kKeys, gridDim.x, blockIdx.x);
  for (; !walk.done(); walk.step()) {
    int key = walk.block * kKeys, valid = min(kKeys, length - key);
    if (threadIdx.x < kKeys) m.at[threadIdx.x] = int(threadIdx.x) < valid ? pages.at(sequence, key + threadIdx.x) : -1;
    __syncthreads();
    auto source = [&](const float* cache) {
      return [=, &m](int r) { return m.at[r] < 0 ? nullptr : cache + m.at[r] + kv_head * s.d; };
    };
    load_tile<float, kWide, kThreads>(m.keys, kKeys, s.d, packed, keys, source(keys));
    load_tile<float, kWide, kThreads>(m.values, kKeys, s.d, packed, values, source(values));
    ptx::copy_async_commit();
    ptx::copy_async_wait<0>();
    __syncthreads();

    int own = threadIdx.x % kKeys, half = threadIdx.x / kKeys * (kRows / 2);
    float score[kRows / 2] = {};
    for (int c = 0; c < s.d; c += 4) {
      float4 b = *reinterpret_cast<const float4*>(m.keys + own * stride + c);
#pragma unroll
      for (int i = 0; i < kRows / 2; ++i) {
        float4 a = *reinterpret_cast<const float4*>(m.q + (half + i) * stride + c);
        score[i] = fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, score[i]))));
      }
    }
#pragma unroll
    for (int i = 0; i < kRows / 2; ++i) m.scores[half + i][own] = score[i];
    __syncthreads();

    float x[4], largest = kNothing, sum = 0;
    with_kind(s, [&]<Attention::Kind kind>(KindIs<kind>) {
#pragma unroll
      for (int j = 0; j < 4; ++j) x[j] = s.score<kind>(m.scores[folding][lane + 16 * j], slope, key + lane + 16 * j - (length - 1));
    });
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (!s.visible(key + lane + 16 * j, length - 1)) x[j] = kNothing;
      largest = fmaxf(largest, x[j]);
    }
    for (int with = 8; with > 0; with /= 2) largest = fmaxf(largest, __shfl_xor_sync(kFull, largest, with));
    float shrink = rise(row, largest * s.factor);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float p = ptx::exp2(fmaf(x[j], s.factor, -shift_of(row.top)));
      m.scores[folding][lane + 16 * j] = p;
      sum += p;
    }
    for (int with = 8; with > 0; with /= 2) sum += __shfl_xor_sync(kFull, sum, with);
    row.sum = fmaf(row.sum, shrink, sum);
    Folded span = row;
    if (walk.ends_span()) {
      Joint by = join(all, row);
      if (lane == 0) m.by[folding] = by, m.sum[folding] = all.sum;
      row = Folded{};
    }
    if (lane == 0) m.shrink[folding] = shrink;
    __syncthreads();

    int column = threadIdx.x % across, first = threadIdx.x / across;
#pragma unroll
    for (int i = 0; i < kRows / down; ++i) {
      int r = first + i * down;
      if (r >= rows) continue;
#pragma unroll
      for (int c = 0; c < columns; ++c) o[i][c] *= m.shrink[r];
      for (int j = 0; j < valid; ++j)
#pragma unroll
        for (int c = 0; c < columns; ++c) o[i][c] = fmaf(m.scores[r][j], m.values[j * stride + column + c * across], o[i][c]);
    }
    if (!walk.ends_span()) continue;
    int64_t at = int64_t(sequence) * s.heads + head;
    int number = walk.block / kSpanBlocks;
    if (partials && lane == 0 && folding < rows) {
      float* to = partial_of(partials, at + folding, spans, number, s.d);
      to[0] = span.top, to[1] = span.sum;
    }
#pragma unroll
    for (int i = 0; i < kRows / down; ++i)
#pragma unroll
      for (int c = 0; c < columns; ++c) {
        int r = first + i * down, d = column + c * across;
        if (r >= rows) continue;
        if (partials && d < s.d) partial_of(partials, at + r, spans, number, s.d)[2 + d] = o[i][c];
        whole[i][c] = joined(whole[i][c], o[i][c], m.by[r]);
        o[i][c] = 0;
        if (!partials && walk.block == walk.last && d < s.d) out[(at + r) * s.d + d] = finished(whole[i][c], {0, m.sum[r]});
      }
  }
}

}  // namespace

void attention_decode_fp32(Exec& ex, const AttentionDecode& a, Cut cut, float* partials) {
  Attention s(a.shape);
  unsigned chunks = unsigned(s.kv_heads * ((s.group + kRows - 1) / kRows));
  with_head_size(s.d, [&]<int size>(std::integral_constant<int, size>) {
    constexpr int wide = size == 96 ? 128 : size;
    launch(ex, {"attention_decode", {unsigned(cut.splits), chunks, unsigned(a.qkv.dim(0))}, {kThreads}, sizeof(Shared<wide>)},
           decode_kernel<wide>, a.qkv.f32(), a.keys.f32(), a.values.f32(), a.out.f32(), partials, s, Pages(ex.gpu->fault, a), cut.spans,
           packs(a.qkv.f32(), s.d) && packs(a.keys.f32(), s.d) && packs(a.values.f32(), s.d));
  });
}

}  // namespace threefold::cuda
