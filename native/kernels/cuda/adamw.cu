// The global gradient norm with its finite check, and AdamW.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/four.h"
#include "kernels/cuda/device/reduce.h"
#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/device/stretch.h"
#include "kernels/cuda/device/words.h"
#include "kernels/cuda/dispatch.h"

namespace threefold::cuda {
namespace {

// --- the norm --------------------------------------------------------------------------------------------------------

constexpr int kThreads = 256, kJoinThreads = 1024;
constexpr int64_t kPiece = 65536;  // elements summed together: fixed, so that nothing else changes the sum

// Gradients of one launch, as many as kernel parameters have room for.
struct Table {
  static constexpr int size = 64;
  const float* data[size];  // [n] each
  int64_t n[size];
  unsigned end[size];       // pieces of this gradient and those before it
  int count = 0;
};

// sums[piece]: of one piece's squares. The square of a float never overflows a double, so the sum is finite exactly when
// every element is.
__global__ void __launch_bounds__(kThreads) squares_kernel(const __grid_constant__ Table a, double* sums) {
  int which = 0;
  while (blockIdx.x >= a.end[which]) ++which;
  int64_t begin = (blockIdx.x - (which ? a.end[which - 1] : 0)) * kPiece;
  const float* x = a.data[which] + begin;
  int64_t n = min(kPiece, a.n[which] - begin);
  bool wide = reinterpret_cast<uintptr_t>(x) % 16 == 0;
  constexpr int kAhead = 4;  // words on their way
  double sum[4] = {};
  for (int64_t at = threadIdx.x * 4; at < n; at += kAhead * kThreads * 4) {
    Words<float> v[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      int64_t here = at + j * kThreads * 4;
      v[j] = load_words(x + here, n - here, wide && n - here >= 4);
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] = fma(double(v[j].get(i)), double(v[j].get(i)), sum[i]);
  }
  double total = block_sum(sum[0] + sum[1] + (sum[2] + sum[3]), shared_array<double>());
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

// A thread adds its share of the pieces in order.
__global__ void __launch_bounds__(kJoinThreads)
control_kernel(const double* sums /* [pieces] */, int64_t pieces, float clip, float scale, float* control /* [3] */) {
  int64_t share = (pieces + kJoinThreads - 1) / kJoinThreads, begin = threadIdx.x * share, end = min(pieces, begin + share);
  double sum = 0;
  for (int64_t p = begin; p < end; ++p) sum += sums[p];
  sum = block_sum(sum, shared_array<double>());
  if (threadIdx.x > 0) return;
  double norm = sqrt(sum) * fabs(double(scale));
  bool finite = norm < INFINITY;  // which NaN is not
  double factor = clip > 0 ? fmin(1.0, double(clip) / (norm + 1e-6)) : 1.0;
  control[0] = float(norm);
  control[1] = finite ? float(double(scale) * factor) : 0.0f;
  control[2] = finite ? 1.0f : 0.0f;
}

// --- the step --------------------------------------------------------------------------------------------------------

template <typename T>
struct Step {
  T* param;           // [n]
  float* master;      // [n]; may be param
  const float* grad;  // [n]
  float *m, *v;       // [n] each
  const float* control;
  int64_t n;
  float decay, beta2, rest1, rest2, eps, step_size, v_scale;  // rest: 1 - beta
};

// torch.optim.AdamW's order of operations.
template <typename T>
__device__ __forceinline__ void step_of(const Step<T>& a, float scale, float grad, float& p, float& m, float& v) {
  float g = grad * scale;
  m = fmaf(a.rest1, g - m, m);
  v = fmaf(a.rest2 * g, g, a.beta2 * v);
  p = p * a.decay - a.step_size * (m / (sqrtf(v) * a.v_scale + a.eps));
}

using Quads = Stretch<4, 1>;

template <typename T>
__global__ void __launch_bounds__(Quads::threads) adamw_kernel(Step<T> a, bool wide) {
  if (a.control[2] == 0) return;
  const float scale = a.control[1];
  if (!wide || !Quads::inside(blockIdx.x, a.n))
    return Quads::one_by_one(blockIdx.x, a.n, [&](int64_t i) {
      float p = a.master[i], m = a.m[i], v = a.v[i];
      step_of(a, scale, a.grad[i], p, m, v);
      a.master[i] = p, a.m[i] = m, a.v[i] = v;
      a.param[i] = from_float<T>(p);
    });
  int64_t at = Quads::at(blockIdx.x, 0);
  Words<float> g = load_words(a.grad + at), p = load_words(a.master + at);
  Words<float> m = load_words(a.m + at), v = load_words(a.v + at);
  float ps[4], ms[4], vs[4];
  Four<T> rounded;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    ps[i] = p.get(i), ms[i] = m.get(i), vs[i] = v.get(i);
    step_of(a, scale, g.get(i), ps[i], ms[i], vs[i]);
    rounded.v[i] = from_float<T>(ps[i]);
  }
  p.set(ps), m.set(ms), v.set(vs);
  store_words(a.master + at, p), store_words(a.m + at, m), store_words(a.v + at, v);
  if (static_cast<const void*>(a.param) != a.master) store_four(a.param + at, 4, true, rounded);
}

}  // namespace

void gradient_control(Exec& ex, const GradientControl& o) {
  auto pieces_of = [](const View& g) { return (g.numel() + kPiece - 1) / kPiece; };
  int64_t pieces = 0, done = 0;
  for (const View& g : o.grads) pieces += pieces_of(g);
  Scratch<double> sums(ex, pieces);
  Table table;
  unsigned end = 0;
  auto flush = [&] {
    Launch l{"gradient_control", {end}, {kThreads}, 32 * sizeof(double)};
    if (end > 0) launch(ex, l, squares_kernel, table, sums.data() + done);
    done += end, end = 0, table.count = 0;
  };
  for (const View& g : o.grads) {
    if (g.numel() == 0) continue;
    int i = table.count++;
    table.data[i] = g.f32(), table.n[i] = g.numel(), table.end[i] = end += unsigned(pieces_of(g));
    if (table.count == Table::size) flush();
  }
  flush();
  Launch join{"gradient_control", {1}, {kJoinThreads}, 32 * sizeof(double)};
  launch(ex, join, control_kernel, sums.data(), pieces, o.clip, o.scale, o.control.f32());
}

void adamw(Exec& ex, const AdamW& o) {
  int64_t n = o.param.numel();
  double beta1 = o.beta1, beta2 = o.beta2;
  with_type(o.param.dtype, [&]<typename T>(T) {
    Step<T> a{.param = o.param.as<T>(), .master = o.master.f32(), .grad = o.grad.f32(), .m = o.m.f32(), .v = o.v.f32(),
              .control = o.control.f32(), .n = n, .decay = float(1 - double(o.lr) * o.weight_decay), .beta2 = o.beta2,
              .rest1 = 1 - o.beta1, .rest2 = 1 - o.beta2, .eps = o.eps,
              .step_size = float(o.lr / (1 - std::pow(beta1, double(o.step)))),
              .v_scale = float(1 / std::sqrt(1 - std::pow(beta2, double(o.step))))};
    launch(ex, Quads::over("adamw", n), adamw_kernel<T>, a, aligned(a.master, a.grad, a.m, a.v) && fours(a.param, 4));
  });
}

}  // namespace threefold::cuda
