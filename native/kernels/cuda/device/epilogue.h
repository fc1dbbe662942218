// What a matmul does with its sums: out = act(sums + bias) + residual, from a tile in shared memory, so that global
// memory is read and written in whole rows whatever the layout of the sums in registers was.
#pragma once

#include "kernels/cuda/device/activation.h"
#include "kernels/cuda/device/four.h"

namespace threefold::cuda {

struct Epilogue {
  void* out;             // any [M, N]
  const void* bias;      // any [N]; nullptr = none
  const void* residual;  // as out [M, N]; nullptr = none; out itself where sums are added to it
  int64_t m, n;
  DType out_type, bias_type;
  Act act;
  bool wide;             // rows of out and residual can be moved four elements at a time
};

template <typename T>
__device__ __forceinline__ void add_bias(const Epilogue& e, int64_t j, float (&v)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (j + i < e.n) v[i] += to_float(static_cast<const T*>(e.bias)[j + i]);
}

__device__ __forceinline__ void activate(const Epilogue& e, int64_t j, float (&v)[4]) {
  if (e.bias) switch (e.bias_type) {
      case DType::f32: add_bias<float>(e, j, v); break;
      case DType::bf16: add_bias<bf16>(e, j, v); break;
      case DType::f16: add_bias<f16>(e, j, v); break;
      case DType::i32: break;
    }
  auto all = [&](Act act) {  // the choice outside of the loop: four in flight
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = act_value(act, v[i]);
  };
  switch (e.act) {
    case Act::none: return;
    case Act::relu: return all(Act::relu);
    case Act::gelu_tanh: return all(Act::gelu_tanh);
    case Act::gelu_erf: return all(Act::gelu_erf);
    case Act::silu: return all(Act::silu);
  }
}

// Four columns of one row each turn: thread t of kThreads takes every kThreads-th, the same in both passes below.
template <int kCols, int kThreads>
struct TilePlace {
  int row, column;
  __device__ TilePlace(int turn, int t)
      : row((turn * kThreads + t) / (kCols / 4)), column((turn * kThreads + t) % (kCols / 4) * 4) {}
};

template <int kRows, int kCols, int kPitch, int kThreads>
__device__ __forceinline__ void activate_tile(const Epilogue& e, float* tile, int64_t j0, int t) {
#pragma unroll 1
  for (int turn = 0; turn < kRows * kCols / 4 / kThreads; ++turn) {
    TilePlace<kCols, kThreads> p(turn, t);
    auto* x = reinterpret_cast<Four<float>*>(tile + p.row * kPitch + p.column);
    Four<float> v = *x;
    activate(e, j0 + p.column, v.v);
    *x = v;
  }
}

template <typename T, int kRows, int kCols, int kPitch, int kThreads>
__device__ __forceinline__ void store_tile(const Epilogue& e, const float* tile, int64_t i0, int64_t j0, int t) {
  constexpr int kTurns = kRows * kCols / 4 / kThreads, kAhead = kTurns % 4 ? 1 : 4;  // loads in flight
  T* out = static_cast<T*>(e.out);
  const T* residual = static_cast<const T*>(e.residual);
#pragma unroll 1
  for (int turn = 0; turn < kTurns; turn += kAhead) {
    Four<T> old[kAhead] = {};
    int count[kAhead];
    int64_t at[kAhead];
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      TilePlace<kCols, kThreads> p(turn + u, t);
      int64_t i = i0 + p.row, j = j0 + p.column;
      count[u] = i < e.m && j < e.n ? int(e.n - j < 4 ? e.n - j : 4) : 0;
      at[u] = i * e.n + j;
      if (residual) old[u] = load_four(residual + at[u], count[u], e.wide);
    }
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      TilePlace<kCols, kThreads> p(turn + u, t);
      Four<float> v = *reinterpret_cast<const Four<float>*>(tile + p.row * kPitch + p.column);
      Four<T> x;
#pragma unroll
      for (int i = 0; i < 4; ++i) x.v[i] = from_float<T>(residual ? v.v[i] + to_float(old[u].v[i]) : v.v[i]);
      store_four(out + at[u], count[u], e.wide, x);
    }
  }
}

// Finishes the sums tile[kRows, kCols] (shared memory, rows kPitch apart) of out[i0.., j0..]: called by kThreads threads
// numbered t, after the barrier that follows the last write to the tile. Rows and columns past M and N are left out.
template <int kRows, int kCols, int kPitch, int kThreads>
__device__ __forceinline__ void finish_tile(const Epilogue& e, float* tile, int64_t i0, int64_t j0, int t) {
  static_assert(kRows * kCols % (4 * kThreads) == 0 && kPitch % 4 == 0);
  if (e.bias || e.act != Act::none) activate_tile<kRows, kCols, kPitch, kThreads>(e, tile, j0, t);
  switch (e.out_type) {
    case DType::f32: return store_tile<float, kRows, kCols, kPitch, kThreads>(e, tile, i0, j0, t);
    case DType::bf16: return store_tile<bf16, kRows, kCols, kPitch, kThreads>(e, tile, i0, j0, t);
    case DType::f16: return store_tile<f16, kRows, kCols, kPitch, kThreads>(e, tile, i0, j0, t);
    case DType::i32: return;
  }
}

}  // namespace threefold::cuda
