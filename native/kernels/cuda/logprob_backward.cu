// Gradients of log-probs and entropy: logits are computed once more, strip by strip, and turned into their gradient.
// That gradient is kept in the storage type of the model, as every other one between layers, so that the two products
// with it run on tensor cores; their sums are fp32.
#include <algorithm>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/softmax_state.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/logprob.h"

namespace threefold::cuda {
namespace {

constexpr int kThreads = 256, kEach = 8;  // columns of one thread

struct RowGradients {
  const int32_t* targets;           // [n]
  const float *lse, *dlogprobs;     // [n]
  const float *entropy, *dentropy;  // [n], or nullptr
};

// Columns [c, c + kEach) of a row of n, in storage.
template <typename T>
__device__ __forceinline__ void store_columns(T* row, int c, int n, const float (&x)[kEach]) {
  constexpr int size = Pack<T>::size;
  if (c + kEach <= n && reinterpret_cast<uintptr_t>(row) % 16 == 0) {
#pragma unroll
    for (int i = 0; i < kEach; i += size) {
      Pack<T> pack;
#pragma unroll
      for (int j = 0; j < size; ++j) pack.v[j] = from_float<T>(x[i + j]);
      store_pack(row + c + i, pack);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (c + i < n) row[c + i] = from_float<T>(x[i]);
  }
}

// logits [n, width], before their cap, into dlogits [n, width], which may be the same memory. With
// z = logit * inv_temperature and p = exp(z - lse):
//   d logprob / dz = onehot(target) - p,  d entropy / dz = -p (log p + entropy).
template <typename T>
__global__ void __launch_bounds__(kThreads)
logit_gradient_kernel(const float* logits, int width, Softcap cap, float inv_temperature, int64_t v0, RowGradients rows,
                      T* dlogits) {
  int c = (blockIdx.x * kThreads + threadIdx.x) * kEach;
  int64_t row = blockIdx.y;
  if (c >= width) return;
  const float* from = logits + row * width;
  float lse = rows.lse[row], dlogprob = rows.dlogprobs[row];
  float dentropy = rows.dentropy ? rows.dentropy[row] : 0, entropy = rows.dentropy ? rows.entropy[row] : 0;
  int64_t target = rows.targets[row] - v0 - c;
  float x[kEach];
  bool aligned = aligned16(from);
#pragma unroll
  for (int i = 0; i < kEach; i += 4) load4(from, c + i, width, aligned, x, i);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    float logit = cap(x[i]), log_p = logit * inv_temperature - lse;
    // where p is 0 the product must be 0 too, not 0 * -inf
    float d = expf(log_p) * (-inv_temperature * (dlogprob + dentropy * (fmaxf(log_p, -1000.0f) + entropy)));
    if (target == i) d += inv_temperature * dlogprob;
    if (cap.cap > 0) d *= 1 - (logit * cap.inverse) * (logit * cap.inverse);
    x[i] = d;
  }
  store_columns(dlogits + row * width, c, width, x);
}

// dhidden[rows[i]] = sums[i]. sums [n, h], rows [n], dhidden [t, h]
template <typename T>
__global__ void __launch_bounds__(kThreads)
scatter_kernel(const float* sums, const int32_t* rows, int h, int64_t t, T* dhidden) {
  int c = (blockIdx.x * kThreads + threadIdx.x) * kEach;
  int64_t row = rows[blockIdx.y];
  if (c >= h || row < 0 || row >= t) return;
  const float* from = sums + int64_t(blockIdx.y) * h;
  float x[kEach];
  bool aligned = aligned16(from);
#pragma unroll
  for (int i = 0; i < kEach; i += 4) load4(from, c + i, h, aligned, x, i);
  store_columns(dhidden + row * h, c, h, x);
}

}  // namespace

void logprob_backward(Exec& ex, const LogprobBackward& o) {
  int64_t r = o.rows.dim(0), t = o.hidden.dim(0), h = o.hidden.dim(1), v = o.weight.dim(0);
  DType type = o.hidden.dtype;
  if (o.dhidden) clear(ex, o.dhidden.data, t * h * size_of(type));
  if (r == 0) return;
  check_chosen(ex, "logprob_backward", o.hidden, o.weight, o.rows, o.targets);

  Cuts cuts(r, v);
  Scratch<char> gathered(ex, cuts.rows * h * size_of(type));
  Scratch<float> memory(ex, cuts.rows * cuts.strip), sums(ex, o.dhidden ? cuts.rows * h : 0);
  Scratch<char> narrow(ex, type == DType::f32 ? 0 : cuts.rows * cuts.strip * size_of(type));
  for (int64_t r0 = 0; r0 < r; r0 += cuts.rows) {
    int64_t n = std::min(cuts.rows, r - r0);
    View hidden{gathered.data(), type, {n, h}}, dhidden{sums.data(), DType::f32, {n, h}}, rows = o.rows.rows(r0, r0 + n);
    gather_rows(ex, {.x = o.hidden, .rows = rows, .out = hidden});
    if (o.dhidden) clear(ex, sums.data(), n * h * int64_t(sizeof(float)));
    RowGradients given = {o.targets.i32() + r0, o.lse.f32() + r0, o.dlogprobs.f32() + r0,
                          o.dentropy ? o.entropy.f32() + r0 : nullptr, o.dentropy ? o.dentropy.f32() + r0 : nullptr};
    for (int64_t v0 = 0, end; v0 < v; v0 = end) {
      end = std::min(v, v0 + cuts.strip);
      if (end - v0 > kEach) end -= (end - v0) % kEach;  // the last few apart, so that rows of the others are 16-byte aligned
      View weight = o.weight.rows(v0, end), logits{memory.data(), DType::f32, {n, end - v0}};
      View dlogits{type == DType::f32 ? static_cast<void*>(memory.data()) : narrow.data(), type, logits.shape};
      matmul(ex, {.a = hidden, .b = weight, .out = logits, .bias = o.bias ? o.bias.rows(v0, end) : View{}});
      with_type(type, [&]<typename T>(T) {
        launch(ex, {"logit_gradient", {blocks_for(end - v0, kThreads * kEach), unsigned(n)}, {kThreads}},
               logit_gradient_kernel<T>, logits.f32(), int(end - v0), Softcap(o.softcap), o.inv_temperature, v0, given,
               dlogits.as<T>());
      });
      if (o.dhidden) matmul(ex, {.a = dlogits, .b = weight, .out = dhidden, .trans_b = false, .accumulate = true});
      if (o.dweight)
        matmul(ex, {.a = dlogits, .b = hidden, .out = o.dweight.rows(v0, end), .trans_a = true, .trans_b = false,
                    .accumulate = true});
      if (o.dbias) column_sum(ex, {.x = dlogits, .out = o.dbias.rows(v0, end)});
    }
    if (o.dhidden)
      with_type(type, [&]<typename T>(T) {
        launch(ex, {"logprob_scatter", {blocks_for(h, kThreads * kEach), unsigned(n)}, {kThreads}}, scatter_kernel<T>,
               sums.data(), rows.i32(), int(h), t, o.dhidden.as<T>());
      });
  }
}

}  // namespace threefold::cuda
