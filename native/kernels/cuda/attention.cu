// The attention ops: which kernels they choose, and the small kernels around them.
#include <algorithm>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/device/head.h"
#include "kernels/cuda/device/pages.h"

namespace threefold::cuda {
namespace {

// Joins the spans of each row in order: partials [B, N, spans, 2 + D] to out [B, N D]. One block per row.
template <typename T>
__global__ void combine_kernel(const float* partials, const int32_t* lengths, T* out, Attention s, int spans) {
  int64_t row = blockIdx.x;
  int length = lengths[row / s.heads];
  if (length < 1 || (length - 1) / kKeys / kSpanBlocks >= spans) return;  // decode has raised the fault
  int first = s.first_visible(length - 1) / kKeys / kSpanBlocks, last = (length - 1) / kKeys / kSpanBlocks;
  for (int d = threadIdx.x; d < s.d; d += blockDim.x) {
    Folded all;
    float o = 0;
#pragma unroll 4
    for (int span = first; span <= last; ++span) {
      const float* from = partials + (row * spans + span) * (s.d + 2);
      Joint by = join(all, {from[0], from[1]});
      o = joined(o, from[2 + d], by);
    }
    out[row * s.d + d] = from_float<T>(finished(o, all));
  }
}

constexpr int kThreads = 256;

// stats [N, T, 2] of each row: lse in log 2 units, and dout . out. lse [T, N], out and dout [T, N D].
template <typename T>
__global__ void __launch_bounds__(kThreads) stats_kernel(const float* lse, const T* out, const T* dout, float2* stats, int64_t tokens,
                                                         int heads, int d, int lanes, bool packed) {
  int64_t row = int64_t(blockIdx.x) * (kThreads / lanes) + threadIdx.x / lanes;
  int first = threadIdx.x % lanes * kEach;
  float a[kEach] = {}, b[kEach] = {};
  if (row < tokens * heads) load_head(out + row * d, first, d, packed, a), load_head(dout + row * d, first, d, packed, b);
  float sum = head_dot(a, b, lanes);
  if (first == 0 && row < tokens * heads) stats[row % heads * tokens + row / heads] = make_float2(lse[row] * kLog2e, sum);
}

}  // namespace

void attention_forward(Exec& ex, const AttentionForward& a) {
  with_type(a.qkv.dtype, [&]<typename T>(T) {
    if constexpr (sizeof(T) == 4)
      attention_forward_fp32(ex, a);
    else
      attention_forward_mma<T>(ex, a);
  });
}

// Where the rows alone leave multiprocessors idle, several blocks share a row, a span at a time; where they do not, one
// block joins a row's spans as it goes. The bits are the same.
void attention_decode(Exec& ex, const AttentionDecode& a) {
  constexpr int64_t kBlocksEach = 4;  // of the grid for a multiprocessor, to hide the time a page takes to arrive
  Attention s(a.shape);
  int64_t batch = a.qkv.dim(0);
  if (batch == 0) return;
  with_type(a.qkv.dtype, [&]<typename T>(T) {
    int64_t longest = a.block_table.dim(1) * a.keys.dim(1), per_span = kSpanBlocks * kKeys;
    int64_t spans = std::max<int64_t>(1, (longest + per_span - 1) / per_span);
    int64_t blocks = batch * s.kv_heads * ((s.group + kDecodeRows<T> - 1) / kDecodeRows<T>), wanted = ex.gpu->multiprocessors * kBlocksEach;
    Cut cut{int(spans), int(std::clamp<int64_t>((wanted + blocks - 1) / blocks, 1, spans))};
    Scratch<float> partials(ex, cut.splits > 1 ? batch * s.heads * spans * (s.d + 2) : 0);
    float* parts = cut.splits > 1 ? partials.data() : nullptr;
    if constexpr (sizeof(T) == 4)
      attention_decode_fp32(ex, a, cut, parts);
    else
      attention_decode_mma<T>(ex, a, cut, parts);
    if (parts)
      launch(ex, {"attention_combine", {unsigned(batch * s.heads)}, {unsigned((s.d + 31) / 32 * 32)}}, combine_kernel<T>, parts,
             a.lengths.i32(), a.out.as<T>(), s, cut.spans);
  });
}

void attention_backward(Exec& ex, const AttentionBackward& a) {
  int64_t tokens = a.qkv.dim(0), rows = tokens * a.shape.heads;
  int d = int(a.shape.head_dim), lanes = lanes_of_head(d);
  Scratch<float2> stats(ex, rows);
  with_type(a.qkv.dtype, [&]<typename T>(T) {
    const T *out = a.out.as<T>(), *dout = a.dout.as<T>();
    launch(ex, {"attention_stats", {blocks_for(rows, kThreads / lanes)}, {kThreads}}, stats_kernel<T>, a.lse.f32(), out, dout, stats.data(),
           tokens, int(a.shape.heads), d, lanes, packs(out, d) && packs(dout, d));
    if constexpr (sizeof(T) == 4)
      attention_backward_fp32(ex, a, stats.data());
    else {
      BackwardInputs<T> in{a.qkv.as<T>(), dout, stats.data(), a.starts.i32(), int(a.starts.dim(0) - 1), tokens, packs(a.qkv.as<T>(), d) && packs(dout, d)};
      attention_backward_keys(ex, a, in);
      attention_backward_queries(ex, a, in);
    }
  });
}

}  // namespace threefold::cuda
