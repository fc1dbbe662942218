// Element-wise activations and the gated form act(gate) * up. Without a gate the rows lie end to end and are taken as one;
// with one, x is [T, 2F] = [gate | up] and every row has stretches of its own.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/activation.h"
#include "kernels/cuda/device/stretch.h"
#include "kernels/cuda/device/words.h"
#include "kernels/cuda/dispatch.h"

namespace threefold::cuda {
namespace {

template <typename T>
using Flat = Stretch<16 / sizeof(T), 2>;
template <typename T>
using Gated = Stretch<16 / sizeof(T), 1>;

// dy act'(x); where relu is closed, no gradient comes through, finite or not.
template <Act act>
__device__ __forceinline__ float slope_times(float x, float dy) {
  if constexpr (act == Act::relu) return x > 0 ? dy : 0.0f;
  return dy * act_slope(act, x);
}

template <typename T, Act act>
__global__ void act_kernel(const T* x /* [n] */, T* out /* [n] */, int64_t n, bool wide) {
  using S = Flat<T>;
  auto value = [](float v) { return act_value(act, v); };
  if (!wide || !S::inside(blockIdx.x, n))
    return S::one_by_one(blockIdx.x, n, [=](int64_t i) { out[i] = from_float<T>(value(to_float(x[i]))); });
  Words<T> in[S::each];
#pragma unroll
  for (int j = 0; j < S::each; ++j) in[j] = load_words(x + S::at(blockIdx.x, j));
#pragma unroll
  for (int j = 0; j < S::each; ++j) {
    float y[Words<T>::size];
#pragma unroll
    for (int i = 0; i < Words<T>::size; ++i) y[i] = value(in[j].get(i));
    in[j].set(y);
    store_words(out + S::at(blockIdx.x, j), in[j]);
  }
}

template <typename T, Act act>
__global__ void act_gated_kernel(const T* x /* [T, 2F] */, T* out /* [T, F] */, int f, unsigned per_row, bool wide) {
  using S = Gated<T>;
  int64_t row = blockIdx.x / per_row, stretch = blockIdx.x % per_row;
  const T *gate = x + row * 2 * f, *up = gate + f;
  out += row * f;
  auto value = [](float g, float u) { return act_value(act, g) * u; };
  if (!wide)
    return S::one_by_one(stretch, f, [=](int64_t i) { out[i] = from_float<T>(value(to_float(gate[i]), to_float(up[i]))); });
  int64_t at = S::at(stretch, 0);
  if (at >= f) return;
  Words<T> g = load_words(gate + at), u = load_words(up + at);
  float y[Words<T>::size];
#pragma unroll
  for (int i = 0; i < Words<T>::size; ++i) y[i] = value(g.get(i), u.get(i));
  g.set(y);
  store_words(out + at, g);
}

template <typename T, Act act>
__global__ void dact_kernel(const T* x /* [n] */, const T* dout /* [n] */, T* dx /* [n] */, int64_t n, bool wide) {
  using S = Gated<T>;  // two loads each
  auto value = [](float v, float dy) { return slope_times<act>(v, dy); };
  if (!wide || !S::inside(blockIdx.x, n))
    return S::one_by_one(blockIdx.x, n, [=](int64_t i) { dx[i] = from_float<T>(value(to_float(x[i]), to_float(dout[i]))); });
  int64_t at = S::at(blockIdx.x, 0);
  Words<T> v = load_words(x + at), dy = load_words(dout + at);
  float d[Words<T>::size];
#pragma unroll
  for (int i = 0; i < Words<T>::size; ++i) d[i] = value(v.get(i), dy.get(i));
  v.set(d);
  store_words(dx + at, v);
}

// dgate = dout * up * act'(gate), dup = dout * act(gate).
template <typename T, Act act>
__global__ void dact_gated_kernel(const T* x /* [T, 2F] */, const T* dout /* [T, F] */, T* dx /* [T, 2F] */, int f,
                                  unsigned per_row, bool wide) {
  using S = Gated<T>;
  int64_t row = blockIdx.x / per_row, stretch = blockIdx.x % per_row;
  const T *gate = x + row * 2 * f, *up = gate + f;
  T *dgate = dx + row * 2 * f, *dup = dgate + f;
  dout += row * f;
  auto value = [](float g, float u, float dy, float& dg, float& du) {
    dg = slope_times<act>(g, dy * u), du = dy * act_value(act, g);
  };
  if (!wide)
    return S::one_by_one(stretch, f, [=](int64_t i) {
      float dg, du;
      value(to_float(gate[i]), to_float(up[i]), to_float(dout[i]), dg, du);
      dgate[i] = from_float<T>(dg), dup[i] = from_float<T>(du);
    });
  int64_t at = S::at(stretch, 0);
  if (at >= f) return;
  Words<T> g = load_words(gate + at), u = load_words(up + at), dy = load_words(dout + at);
  float dg[Words<T>::size], du[Words<T>::size];
#pragma unroll
  for (int i = 0; i < Words<T>::size; ++i) value(g.get(i), u.get(i), dy.get(i), dg[i], du[i]);
  g.set(dg), u.set(du);
  store_words(dgate + at, g);
  store_words(dup + at, u);
}

// Calls f with the element type and the activation as constants.
template <typename F>
void with_act(DType type, Act act, F&& f) {
  with_type(type, [&]<typename T>(T t) {
    switch (act) {
      case Act::none: return f(t, std::integral_constant<Act, Act::none>{});
      case Act::relu: return f(t, std::integral_constant<Act, Act::relu>{});
      case Act::gelu_tanh: return f(t, std::integral_constant<Act, Act::gelu_tanh>{});
      case Act::gelu_erf: return f(t, std::integral_constant<Act, Act::gelu_erf>{});
      case Act::silu: return f(t, std::integral_constant<Act, Act::silu>{});
    }
  });
}

// Stretches of one row, and a block for each of every row.
template <typename T>
unsigned stretches(int64_t f) { return blocks_for(f, Gated<T>::elements); }
template <typename T>
Launch over_rows(const char* name, int64_t rows, int64_t f) {
  return {name, {unsigned(rows * stretches<T>(f))}, {Gated<T>::threads}};
}

}  // namespace

void activation_forward(Exec& ex, const ActivationForward& o) {
  int64_t rows = o.out.dim(0), f = o.out.dim(1), n = rows * f;
  if (n == 0) return;
  with_act(o.x.dtype, o.act, [&]<typename T, Act act>(T, std::integral_constant<Act, act>) {
    const T* x = o.x.as<T>();
    T* out = o.out.as<T>();
    if (o.gated)
      launch(ex, over_rows<T>("activation_forward", rows, f), act_gated_kernel<T, act>, x, out, f, stretches<T>(f),
             aligned(x, out) && f % Words<T>::size == 0);
    else
      launch(ex, Flat<T>::over("activation_forward", n), act_kernel<T, act>, x, out, n, aligned(x, out));
  });
}

void activation_backward(Exec& ex, const ActivationBackward& o) {
  int64_t rows = o.dout.dim(0), f = o.dout.dim(1), n = rows * f;
  if (n == 0) return;
  with_act(o.x.dtype, o.act, [&]<typename T, Act act>(T, std::integral_constant<Act, act>) {
    const T *x = o.x.as<T>(), *dout = o.dout.as<T>();
    T* dx = o.dx.as<T>();
    bool wide = aligned(x, dout, dx);
    if (o.gated)
      launch(ex, over_rows<T>("activation_backward", rows, f), dact_gated_kernel<T, act>, x, dout, dx, f, stretches<T>(f),
             wide && f % Words<T>::size == 0);
    else
      launch(ex, Gated<T>::over("activation_backward", n), dact_kernel<T, act>, x, dout, dx, n, wide);
  });
}

}  // namespace threefold::cuda
