// RMSNorm of each query and key head (Dehghani et al. 2023).
#include <algorithm>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/head.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"

namespace threefold::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPiece = 16;    // tokens whose weight gradients are summed together before they join the total, in order

struct Heads {
  int heads, keys, d;  // N, G, D
  int lanes;           // of one head
  int64_t row;         // elements of a row of qkv
  float eps, weight_offset;
  bool packed;         // every head begins at a multiple of 16 bytes
};

__device__ __forceinline__ float reciprocal_rms(const float (&x)[kEach], const Heads& s) {
  return 1 / sqrtf(head_dot(x, x, s.lanes) / float(s.d) + s.eps);
}

// qkv, out [T, row]; weights [D]. One block per token.
template <typename T>
__global__ void __launch_bounds__(kThreads) head_norm_kernel(const T* qkv, const T* q_weight, const T* k_weight, T* out, Heads s) {
  const T* from = qkv + blockIdx.x * s.row;
  T* to = out + blockIdx.x * s.row;
  int first = threadIdx.x % s.lanes * kEach, at_once = blockDim.x / s.lanes;
  float weight[2][kEach];
  load_head(q_weight, first, s.d, s.packed, weight[0]);
  load_head(k_weight, first, s.d, s.packed, weight[1]);
  for (int begin = 0; begin < s.heads + s.keys; begin += at_once) {  // every lane takes part in the sums
    int head = begin + threadIdx.x / s.lanes;
    bool inside = head < s.heads + s.keys;
    float x[kEach] = {};
    if (inside) load_head(from + head * s.d, first, s.d, s.packed, x);
    float rstd = reciprocal_rms(x, s);
#pragma unroll
    for (int i = 0; i < kEach; ++i) x[i] = x[i] * rstd * ((head < s.heads ? weight[0][i] : weight[1][i]) + s.weight_offset);
    if (inside) store_head(to + head * s.d, first, s.d, s.packed, x);
  }
  if (from == to) return;
  int begin = (s.heads + s.keys) * s.d, values = s.keys * s.d, step = s.packed ? Pack<T>::size : 1;
  for (int i = threadIdx.x * step; i < values; i += blockDim.x * step) {
    if (s.packed)
      store_pack(to + begin + i, load_pack(from + begin + i));
    else
      to[begin + i] = from[begin + i];
  }
}

// With g = dy (weight + offset) and xhat = x rstd: dx = rstd (g - xhat mean(g xhat)), in dy's place. One block per piece of
// tokens; sums [pieces, 2, D] receives the piece's dy xhat of the query heads, then of the key heads.
template <typename T>
__global__ void __launch_bounds__(kThreads) head_norm_backward_kernel(const T* qkv, const T* q_weight, const T* k_weight, T* dqkv,
                                                                      float* sums, int64_t tokens, Heads s) {
  int first = threadIdx.x % s.lanes * kEach, at_once = kThreads / s.lanes, total = s.heads + s.keys;
  int64_t token = int64_t(blockIdx.x) * kPiece;
  int count = int(tokens - token < kPiece ? tokens - token : kPiece) * total;
  float weight[2][kEach], sum[2][kEach] = {};
  load_head(q_weight, first, s.d, s.packed, weight[0]);
  load_head(k_weight, first, s.d, s.packed, weight[1]);
  for (int begin = 0; begin < count; begin += at_once) {
    int i = begin + threadIdx.x / s.lanes, head = i % total;
    bool inside = i < count, key = head >= s.heads;
    int64_t at = (token + i / total) * s.row + head * s.d;
    float x[kEach] = {}, g[kEach] = {};
    if (inside) load_head(qkv + at, first, s.d, s.packed, x), load_head(dqkv + at, first, s.d, s.packed, g);
    float rstd = reciprocal_rms(x, s);
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      x[j] *= rstd;
      float product = g[j] * x[j];
      sum[0][j] += key ? 0 : product;
      sum[1][j] += key ? product : 0;
      g[j] *= (key ? weight[1][j] : weight[0][j]) + s.weight_offset;
    }
    float mean = head_dot(g, x, s.lanes) / float(s.d);
#pragma unroll
    for (int j = 0; j < kEach; ++j) g[j] = fmaf(-mean, x[j], g[j]) * rstd;
    if (inside) store_head(dqkv + at, first, s.d, s.packed, g);
  }
  float* shared = shared_array<float>();  // [2, at_once, lanes * 8]
  int width = s.lanes * kEach;
#pragma unroll
  for (int w = 0; w < 2; ++w)
#pragma unroll
    for (int j = 0; j < kEach; ++j) shared[(w * at_once + threadIdx.x / s.lanes) * width + first + j] = sum[w][j];
  __syncthreads();
  for (int i = threadIdx.x; i < 2 * s.d; i += kThreads) {
    const float* column = shared + i / s.d * at_once * width + i % s.d;
    float joined = 0;
    for (int j = 0; j < at_once; ++j) joined += column[j * width];
    sums[int64_t(blockIdx.x) * 2 * s.d + i] = joined;
  }
}

// dq_weight, dk_weight [D] += sums [pieces, 2, D]: 32 strips of every 32nd piece, then the strips, each in order. Block
// (32, 32): columns across, strips down.
__global__ void head_norm_weight_kernel(const float* sums, float* dq_weight, float* dk_weight, int64_t pieces, int d) {
  float* shared = shared_array<float>();  // [32, 32]
  int column = blockIdx.x * 32 + threadIdx.x;
  float sum = 0;
  if (column < 2 * d)
    for (int64_t i = threadIdx.y; i < pieces; i += 32) sum += sums[i * 2 * d + column];
  shared[threadIdx.y * 32 + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= 2 * d) return;
  float* out = column < d ? dq_weight : dk_weight;
  if (!out) return;
  sum = 0;
  for (int i = 0; i < 32; ++i) sum += shared[i * 32 + threadIdx.x];
  out[column % d] += sum;
}

template <typename T>
Heads heads_of(const AttentionShape& s, float eps, float weight_offset, std::initializer_list<View> in_packs) {
  Heads h{int(s.heads), int(s.kv_heads), int(s.head_dim), lanes_of_head(s.head_dim), s.row(), eps, weight_offset, true};
  for (const View& v : in_packs) h.packed = h.packed && packs(v.as<T>(), s.head_dim);
  return h;
}

}  // namespace

void head_norm_forward(Exec& ex, const HeadNormForward& o) {
  int64_t tokens = o.qkv.dim(0);
  if (tokens == 0) return;
  with_type(o.qkv.dtype, [&]<typename T>(T) {
    Heads h = heads_of<T>(o.shape, o.eps, o.weight_offset, {o.qkv, o.q_weight, o.k_weight, o.out});
    unsigned threads = unsigned(std::clamp((h.heads + h.keys) * h.lanes / 32 * 32, 32, kThreads));
    launch(ex, {"head_norm_forward", {unsigned(tokens)}, {threads}}, head_norm_kernel<T>, o.qkv.as<T>(), o.q_weight.as<T>(),
           o.k_weight.as<T>(), o.out.as<T>(), h);
  });
}

void head_norm_backward(Exec& ex, const HeadNormBackward& o) {
  int64_t tokens = o.qkv.dim(0), pieces = (tokens + kPiece - 1) / kPiece;
  if (tokens == 0) return;
  int d = int(o.shape.head_dim);
  Scratch<float> sums(ex, pieces * 2 * d);
  with_type(o.qkv.dtype, [&]<typename T>(T) {
    Heads h = heads_of<T>(o.shape, o.eps, o.weight_offset, {o.qkv, o.q_weight, o.k_weight, o.dqkv});
    launch(ex, {"head_norm_backward", {unsigned(pieces)}, {kThreads}, 2 * kThreads * kEach * int64_t(sizeof(float))},
           head_norm_backward_kernel<T>, o.qkv.as<T>(), o.q_weight.as<T>(), o.k_weight.as<T>(), o.dqkv.as<T>(), sums.data(), tokens, h);
  });
  launch(ex, {"head_norm_weights", {blocks_for(2 * d, 32)}, {32, 32}, 32 * 32 * int64_t(sizeof(float))}, head_norm_weight_kernel,
         sums.data(), o.dq_weight.f32(), o.dk_weight.f32(), pieces, d);
}

}  // namespace threefold::cuda
