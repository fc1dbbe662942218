// Fill, cast, add and moving averages.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kGrain = 16384, kStretch = 1024;

// n values at element `offset` of v, any floating dtype, into fp32 and back.
void widen(const View& v, int64_t offset, float* out, int64_t n) {
  if (v.dtype == DType::f16)
    std::transform(v.as<f16>() + offset, v.as<f16>() + offset + n, out, [](f16 x) { return to_float(x); });
  else if (const float* x = load(v, offset, n, out); x != out)
    std::memcpy(out, x, n * sizeof(float));
}
void narrow(const float* x, const View& v, int64_t offset, int64_t n) {
  if (v.dtype == DType::f16)
    std::transform(x, x + n, v.as<f16>() + offset, to_f16);
  else
    store(v, offset, x, n);
}

}  // namespace

void fill(Exec& ex, const Fill& o) {
  ex.pool.parallel_blocks(o.out.numel(), kGrain, [&](int64_t begin, int64_t end) {
    if (o.out.dtype == DType::f32)
      std::fill(o.out.f32() + begin, o.out.f32() + end, o.value);
    else
      std::fill(o.out.i32() + begin, o.out.i32() + end, int32_t(o.value));
  });
}

void cast(Exec& ex, const Cast& o) {
  bool copy = o.in.dtype == o.out.dtype;
  int64_t size = size_of(o.in.dtype);
  ex.pool.parallel_blocks(o.in.numel(), kGrain, [&](int64_t begin, int64_t end) {
    if (copy) {
      std::memcpy(o.out.as<char>() + begin * size, o.in.as<char>() + begin * size, (end - begin) * size);
      return;
    }
    float row[kStretch];
    for (int64_t i = begin; i < end; i += kStretch) {
      int64_t n = std::min(kStretch, end - i);
      widen(o.in, i, row, n);
      narrow(row, o.out, i, n);
    }
  });
}

void add(Exec& ex, const Add& o) {
  ex.pool.parallel_blocks(o.a.numel(), kGrain, [&](int64_t begin, int64_t end) {
    float a[kStretch], b[kStretch];
    for (int64_t i = begin; i < end; i += kStretch) {
      int64_t n = std::min(kStretch, end - i);
      float* out = target(o.out, i, a);
      isa().add(load(o.a, i, n, a), load(o.b, i, n, b), out, n);
      store(o.out, i, out, n);
    }
  });
}

void ema(Exec& ex, const Ema& o) {
  float* average = o.average.f32();
  const float* value = o.value.f32();
  float weight = 1 - o.decay;
  ex.pool.parallel_blocks(o.average.numel(), kGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) average[i] -= (average[i] - value[i]) * weight;
  });
}

}  // namespace threefold::cpu
