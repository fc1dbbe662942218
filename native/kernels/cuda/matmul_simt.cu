// matmul of fp32 operands: 128 x 128 tiles, 8 x 8 sums a thread, two buffers.
#include "kernels/cuda/device/operand.h"
#include "kernels/cuda/device/rasterize.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul.h"

namespace threefold::cuda {
namespace {

constexpr int kTile = 128, kStep = 16, kThreads = 256, kPitch = kTile + 4;
static_assert(kChunk % kStep == 0);

struct Shared {
  float a[2][kStep][kPitch], b[2][kStep][kPitch];
};
static_assert(sizeof(Shared) >= kTile / 2 * kPitch * sizeof(float));  // half a tile of sums passes through it

// A thread's 8 elements of the kTile x kStep piece at (outer0, k0), neighbours in memory; past the edges they are 0.
template <bool k_contiguous>
__device__ __forceinline__ void fetch(const Operand<float>& x, int64_t outer0, int64_t k0, float (&v)[8]) {
  int t = threadIdx.x;
  int64_t outer = outer0 + (k_contiguous ? t % kTile : t % 16 * 8), k = k0 + (k_contiguous ? t / kTile * 8 : t / 16);
  int64_t left = k_contiguous ? x.k - k : x.outer - outer;
  if (outer >= x.outer || k >= x.k) left = 0;
  const float* from = x.data + (k_contiguous ? outer * x.k + k : k * x.outer + outer);
  if (x.wide && left >= 8) {
#pragma unroll
    for (int i = 0; i < 8; i += Pack<float>::size) {
      Pack<float> p = load_pack(from + i);
#pragma unroll
      for (int j = 0; j < Pack<float>::size; ++j) v[i + j] = p.v[j];
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = i < left ? from[i] : 0;
}

template <bool k_contiguous>
__device__ __forceinline__ void put(float (&to)[kStep][kPitch], const float (&v)[8]) {
  int t = threadIdx.x;
#pragma unroll
  for (int i = 0; i < 8; ++i)
    (k_contiguous ? to[t / kTile * 8 + i][t % kTile] : to[t / 16][t % 16 * 8 + i]) = v[i];
}

// Thread (y, x) sums rows 4y to 4y + 3 and 64 on, and columns 4x to 4x + 3 and 64 on.
__device__ __forceinline__ void multiply(const float (&a)[kStep][kPitch], const float (&b)[kStep][kPitch], float (&sums)[8][8]) {
  int y = threadIdx.x / 16 * 4, x = threadIdx.x % 16 * 4;
#pragma unroll 4
  for (int k = 0; k < kStep; ++k) {
    Four<float> p[2], q[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      p[h] = *reinterpret_cast<const Four<float>*>(&a[k][h * 64 + y]);
      q[h] = *reinterpret_cast<const Four<float>*>(&b[k][h * 64 + x]);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j) sums[i][j] = fmaf(p[i / 4].v[i % 4], q[j / 4].v[j % 4], sums[i][j]);
  }
}

template <bool trans_a, bool trans_b>
__global__ void __launch_bounds__(kThreads) matmul_simt_kernel(Operand<float> a, Operand<float> b, Epilogue e) {
  Shared& s = shared_struct<Shared>();
  auto [i0, j0] = tile_origin<kTile, kTile>(blockIdx.x, e.m, e.n);
  int y = threadIdx.x / 16 * 4, x = threadIdx.x % 16 * 4;
  bool needed = i0 + y < e.m && j0 + x < e.n;  // else every sum of this thread lies outside

  float totals[8][8] = {};
  float next_a[8], next_b[8];
  int steps = int((a.k + kStep - 1) / kStep);
  auto fetch_step = [&](int step) {
    fetch<!trans_a>(a, i0, int64_t(step) * kStep, next_a);
    fetch<trans_b>(b, j0, int64_t(step) * kStep, next_b);
  };
  auto put_step = [&](int step) {
    put<!trans_a>(s.a[step % 2], next_a);
    put<trans_b>(s.b[step % 2], next_b);
  };
  if (steps > 0) {
    fetch_step(0);
    put_step(0);
  }
  __syncthreads();
  for (int step = 0; step < steps;) {
    float sums[8][8] = {};
    int end = step + kChunk / kStep < steps ? step + kChunk / kStep : steps;
    for (; step < end; ++step) {
      bool more = step + 1 < steps;
      if (more) fetch_step(step + 1);
      if (needed) multiply(s.a[step % 2], s.b[step % 2], sums);
      if (more) put_step(step + 1);
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j) totals[i][j] += sums[i][j];
  }

  float* tile = shared_array<float>();
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 8; j += 4) {
        const float* from = &totals[h * 4 + i][j];
        *reinterpret_cast<Four<float>*>(tile + (y + i) * kPitch + j / 4 * 64 + x) = {from[0], from[1], from[2], from[3]};
      }
    __syncthreads();
    finish_tile<kTile / 2, kTile, kPitch, kThreads>(e, tile, i0 + h * 64, j0, threadIdx.x);
    __syncthreads();
  }
}

}  // namespace

void matmul_simt(Exec& ex, const Matmul& o, const MatmulSizes& s) {
  Epilogue e = epilogue_of(o, s);
  Launch l{"matmul_simt", {blocks_for(s.m, kTile) * blocks_for(s.n, kTile)}, {kThreads}, sizeof(Shared)};
  auto* kernel = o.trans_a ? (o.trans_b ? matmul_simt_kernel<true, true> : matmul_simt_kernel<true, false>)
                           : (o.trans_b ? matmul_simt_kernel<false, true> : matmul_simt_kernel<false, false>);
  launch(ex, l, kernel, operand_of<float>(o.a, !o.trans_a), operand_of<float>(o.b, o.trans_b), e);
}

}  // namespace threefold::cuda
