// Fill, cast, add and moving averages.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/four.h"
#include "kernels/cuda/device/stretch.h"
#include "kernels/cuda/device/words.h"
#include "kernels/cuda/dispatch.h"

namespace threefold::cuda {
namespace {

template <typename T>
using Flat = Stretch<16 / sizeof(T), 4>;
template <typename T>
using Sum = Stretch<16 / sizeof(T), 2>;
using Mixed = Stretch<4, 4>;  // of two types

// 32-bit elements, as their bits.
__global__ void fill_kernel(uint32_t* out /* [n] */, uint32_t value, int64_t n, bool wide) {
  using S = Flat<uint32_t>;
  if (!wide || !S::inside(blockIdx.x, n)) return S::one_by_one(blockIdx.x, n, [=](int64_t i) { out[i] = value; });
#pragma unroll
  for (int j = 0; j < S::each; ++j) ptx::store_16(out + S::at(blockIdx.x, j), make_uint4(value, value, value, value));
}

template <typename T>
__global__ void copy_kernel(const T* in /* [n] */, T* out /* [n] */, int64_t n, bool wide) {
  using S = Flat<T>;
  if (!wide || !S::inside(blockIdx.x, n)) return S::one_by_one(blockIdx.x, n, [=](int64_t i) { out[i] = in[i]; });
  uint4 x[S::each];
#pragma unroll
  for (int j = 0; j < S::each; ++j) x[j] = ptx::load_16(in + S::at(blockIdx.x, j));
#pragma unroll
  for (int j = 0; j < S::each; ++j) ptx::store_16(out + S::at(blockIdx.x, j), x[j]);
}

template <typename In, typename Out>
__global__ void cast_kernel(const In* in /* [n] */, Out* out /* [n] */, int64_t n, bool wide) {
  if (!wide || !Mixed::inside(blockIdx.x, n))
    return Mixed::one_by_one(blockIdx.x, n, [=](int64_t i) { out[i] = from_float<Out>(to_float(in[i])); });
  Four<In> x[Mixed::each];
#pragma unroll
  for (int j = 0; j < Mixed::each; ++j) x[j] = load_four(in + Mixed::at(blockIdx.x, j), 4, true);
#pragma unroll
  for (int j = 0; j < Mixed::each; ++j) {
    Four<Out> y;
#pragma unroll
    for (int i = 0; i < 4; ++i) y.v[i] = from_float<Out>(to_float(x[j].v[i]));
    store_four(out + Mixed::at(blockIdx.x, j), 4, true, y);
  }
}

template <typename T>
__global__ void add_kernel(const T* a /* [n] */, const T* b /* [n] */, T* out /* [n] */, int64_t n, bool wide) {
  using S = Sum<T>;
  if (!wide || !S::inside(blockIdx.x, n))
    return S::one_by_one(blockIdx.x, n, [=](int64_t i) { out[i] = from_float<T>(to_float(a[i]) + to_float(b[i])); });
  Words<T> x[S::each], y[S::each];
#pragma unroll
  for (int j = 0; j < S::each; ++j) x[j] = load_words(a + S::at(blockIdx.x, j)), y[j] = load_words(b + S::at(blockIdx.x, j));
#pragma unroll
  for (int j = 0; j < S::each; ++j) {
    float sum[Words<T>::size];
#pragma unroll
    for (int i = 0; i < Words<T>::size; ++i) sum[i] = x[j].get(i) + y[j].get(i);
    x[j].set(sum);
    store_words(out + S::at(blockIdx.x, j), x[j]);
  }
}

__global__ void ema_kernel(float* average /* [n] */, const float* value /* [n] */, float weight, int64_t n, bool wide) {
  auto moved = [=](float a, float v) { return a - (a - v) * weight; };
  if (!wide || !Mixed::inside(blockIdx.x, n))
    return Mixed::one_by_one(blockIdx.x, n, [=](int64_t i) { average[i] = moved(average[i], value[i]); });
  Four<float> x[Mixed::each], y[Mixed::each];
#pragma unroll
  for (int j = 0; j < Mixed::each; ++j) {
    x[j] = load_four(average + Mixed::at(blockIdx.x, j), 4, true);
    y[j] = load_four(value + Mixed::at(blockIdx.x, j), 4, true);
  }
#pragma unroll
  for (int j = 0; j < Mixed::each; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) x[j].v[i] = moved(x[j].v[i], y[j].v[i]);
    store_four(average + Mixed::at(blockIdx.x, j), 4, true, x[j]);
  }
}

template <typename T>
void copy(Exec& ex, const T* in, T* out, int64_t n) {
  launch(ex, Flat<T>::over("cast", n), copy_kernel<T>, in, out, n, aligned(in, out));
}

}  // namespace

void fill(Exec& ex, const Fill& o) {
  int64_t n = o.out.numel();
  uint32_t bits = o.out.dtype == DType::f32 ? std::bit_cast<uint32_t>(o.value) : uint32_t(int32_t(o.value));
  uint32_t* out = o.out.as<uint32_t>();
  launch(ex, Flat<uint32_t>::over("fill", n), fill_kernel, out, bits, n, aligned(out));
}

void cast(Exec& ex, const Cast& o) {
  int64_t n = o.in.numel();
  if (o.in.dtype == o.out.dtype)  // whatever the elements are
    return size_of(o.in.dtype) == 4 ? copy(ex, o.in.i32(), o.out.i32(), n)
                                    : copy(ex, o.in.as<uint16_t>(), o.out.as<uint16_t>(), n);
  with_type(o.in.dtype, [&]<typename In>(In) {
    with_type(o.out.dtype, [&]<typename Out>(Out) {
      const In* in = o.in.as<In>();
      Out* out = o.out.as<Out>();
      launch(ex, Mixed::over("cast", n), cast_kernel<In, Out>, in, out, n, fours(in, 4) && fours(out, 4));
    });
  });
}

void add(Exec& ex, const Add& o) {
  int64_t n = o.a.numel();
  with_type(o.a.dtype, [&]<typename T>(T) {
    const T *a = o.a.as<T>(), *b = o.b.as<T>();
    T* out = o.out.as<T>();
    launch(ex, Sum<T>::over("add", n), add_kernel<T>, a, b, out, n, aligned(a, b, out));
  });
}

void ema(Exec& ex, const Ema& o) {
  int64_t n = o.average.numel();
  float* average = o.average.f32();
  const float* value = o.value.f32();
  launch(ex, Mixed::over("ema", n), ema_kernel, average, value, 1 - o.decay, n, fours(average, 4) && fours(value, 4));
}

}  // namespace threefold::cuda
