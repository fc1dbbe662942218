// fill, cast, add.
#include <algorithm>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kGrain = 16384;  // elements

float get(const View& v, int64_t i) {
  switch (v.dtype) {
    case DType::f32: return v.f32()[i];
    case DType::bf16: return to_float(v.as<bf16>()[i]);
    case DType::f16: return to_float(v.as<f16>()[i]);
    case DType::i32: return float(v.i32()[i]);
  }
  return 0;
}

void put(const View& v, int64_t i, float x) {
  switch (v.dtype) {
    case DType::f32: v.f32()[i] = x; break;
    case DType::bf16: v.as<bf16>()[i] = to_bf16(x); break;
    case DType::f16: v.as<f16>()[i] = to_f16(x); break;
    case DType::i32: v.i32()[i] = int32_t(x); break;
  }
}

}  // namespace

void fill(Exec& ex, const Fill& o) {
  ex.pool.parallel_blocks(o.out.numel(), kGrain, [&](int64_t begin, int64_t end) {
    if (o.out.dtype == DType::f32) {
      std::fill(o.out.f32() + begin, o.out.f32() + end, o.value);
      return;
    }
    for (int64_t i = begin; i < end; ++i) put(o.out, i, o.value);
  });
}

void cast(Exec& ex, const Cast& o) {
  expect("cast", "out", o.out, o.out.dtype, o.in.shape);
  ex.pool.parallel_blocks(o.in.numel(), kGrain, [&](int64_t begin, int64_t end) {
    if (o.in.dtype == o.out.dtype) {
      int64_t size = size_of(o.in.dtype);
      std::memcpy(o.out.as<char>() + begin * size, o.in.as<char>() + begin * size, (end - begin) * size);
    } else if (o.in.dtype == DType::bf16 && o.out.dtype == DType::f32) {
      isa().widen_bf16(o.in.as<bf16>() + begin, o.out.f32() + begin, end - begin);
    } else if (o.in.dtype == DType::f32 && o.out.dtype == DType::bf16) {
      isa().narrow_bf16(o.in.f32() + begin, o.out.as<bf16>() + begin, end - begin);
    } else {
      for (int64_t i = begin; i < end; ++i) put(o.out, i, get(o.in, i));
    }
  });
}

void add(Exec& ex, const Add& o) {
  for (const View* v : {&o.b, &o.out}) expect("add", "b and out", *v, o.a.dtype, o.a.shape);
  ex.pool.parallel_blocks(o.a.numel(), kGrain, [&](int64_t begin, int64_t end) {
    int64_t n = end - begin;
    Scratch<float> rows(ex, 3 * n);
    float* y = target(o.out, begin, rows.data() + 2 * n);
    isa().add(load(o.a, begin, n, rows.data()), load(o.b, begin, n, rows.data() + n), y, n);
    store(o.out, begin, y, n);
  });
}

}  // namespace threefold::cpu
