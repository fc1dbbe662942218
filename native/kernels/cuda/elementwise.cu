// Fill, cast and add, one thread for each pack of elements.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device/element.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"

namespace threefold::cuda {
namespace {

constexpr int kThreads = 256, kEach = 4;  // elements of one thread

template <typename T>
__global__ void fill_kernel(T* out, T value, int64_t n) {
  int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * kEach;
  for (int j = 0; j < kEach && i + j < n; ++j) out[i + j] = value;
}

template <typename In, typename Out>
__global__ void cast_kernel(const In* in, Out* out, int64_t n) {
  int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * kEach;
  for (int j = 0; j < kEach && i + j < n; ++j) out[i + j] = from_float<Out>(to_float(in[i + j]));
}

__global__ void copy_kernel(const unsigned char* in, unsigned char* out, int64_t bytes) {
  int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * 16;
  if (i + 16 <= bytes && (reinterpret_cast<uintptr_t>(in) | reinterpret_cast<uintptr_t>(out)) % 16 == 0) {
    *reinterpret_cast<uint4*>(out + i) = *reinterpret_cast<const uint4*>(in + i);
    return;
  }
  for (int j = 0; j < 16 && i + j < bytes; ++j) out[i + j] = in[i + j];
}

template <typename T>
__global__ void add_kernel(const T* a, const T* b, T* out, int64_t n) {
  int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * kEach;
  for (int j = 0; j < kEach && i + j < n; ++j) out[i + j] = from_float<T>(to_float(a[i + j]) + to_float(b[i + j]));
}

Launch shape_of(const char* name, int64_t n) { return {name, {blocks_for(n, kThreads * kEach)}, {kThreads}}; }

}  // namespace

void fill(Exec& ex, const Fill& o) {
  int64_t n = o.out.numel();
  if (o.out.dtype == DType::f32)
    launch(ex, shape_of("fill", n), fill_kernel<float>, o.out.f32(), o.value, n);
  else
    launch(ex, shape_of("fill", n), fill_kernel<int32_t>, o.out.i32(), int32_t(o.value), n);
}

void cast(Exec& ex, const Cast& o) {
  int64_t n = o.in.numel();
  if (o.in.dtype == o.out.dtype) {
    int64_t bytes = n * size_of(o.in.dtype);
    return launch(ex, {"cast", {blocks_for(bytes, kThreads * 16)}, {kThreads}}, copy_kernel, o.in.as<unsigned char>(),
                  o.out.as<unsigned char>(), bytes);
  }
  with_type(o.in.dtype, [&]<typename In>(In) {
    with_type(o.out.dtype, [&]<typename Out>(Out) {
      launch(ex, shape_of("cast", n), cast_kernel<In, Out>, o.in.as<In>(), o.out.as<Out>(), n);
    });
  });
}

void add(Exec& ex, const Add& o) {
  int64_t n = o.a.numel();
  with_type(o.a.dtype, [&]<typename T>(T) {
    launch(ex, shape_of("add", n), add_kernel<T>, o.a.as<T>(), o.b.as<T>(), o.out.as<T>(), n);
  });
}

}  // namespace threefold::cuda
