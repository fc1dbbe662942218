// Fill, cast, add and moving averages.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kGrain = 16384, kStretch = 1024;

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
      store(o.out, i, load(o.in, i, n, row), n);
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
