// Dropout of rows: a thread takes four columns, which share one block of Philox.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/dropout.h"
#include "kernels/cuda/device/four.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"

namespace threefold::cuda {
namespace {

constexpr int kThreads = 256;

// x, residual (or nullptr) and out [T, H]; positions [T].
template <typename T>
__global__ void dropout_kernel(const T* x, const T* residual, T* out, const int32_t* positions, Keep keep, int64_t tokens, int64_t h, bool wide) {
  int64_t groups = (h + 3) / 4, at = int64_t(blockIdx.x) * kThreads + threadIdx.x, t = at / groups, column = at % groups * 4;
  if (t >= tokens) return;
  int count = int(min(int64_t(4), h - column));
  PhiloxBlock words = keep.words(t, 0, positions[t], int(column / 4));
  Four<T> v = load_four(x + t * h + column, count, wide), r{};
  if (residual) r = load_four(residual + t * h + column, count, wide);
#pragma unroll
  for (int i = 0; i < 4; ++i) v.v[i] = from_float<T>(to_float(v.v[i]) * keep.factor(words[i]) + (residual ? to_float(r.v[i]) : 0));
  store_four(out + t * h + column, count, wide, v);
}

}  // namespace

void dropout(Exec& ex, const Dropout& o) {
  int64_t tokens = o.x.dim(0), h = o.x.dim(1);
  with_type(o.x.dtype, [&]<typename T>(T) {
    const T *x = o.x.as<T>(), *residual = o.residual.as<T>();
    T* out = o.out.as<T>();
    launch(ex, {"dropout", {blocks_for(tokens * ((h + 3) / 4), kThreads)}, {kThreads}}, dropout_kernel<T>, x, residual, out, o.positions.i32(),
           Keep(o.mask), tokens, h, fours(x, h) && fours(residual, h) && fours(out, h));
  });
}

}  // namespace threefold::cuda
