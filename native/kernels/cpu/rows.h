// Reading and writing rows of any storage dtype as fp32: kernels compute in fp32 and touch storage through these.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/cpu/isa.h"

namespace threefold::cpu {

// Rows of one work item when rows are cheap: about 16384 elements, so small work stays on one thread.
inline int64_t row_grain(int64_t hidden) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(hidden, 1)); }

// n fp32 values at element `offset` of v: a direct pointer when v is fp32, otherwise widened into `scratch`.
inline const float* load(const View& v, int64_t offset, int64_t n, float* scratch) {
  if (v.dtype == DType::f32) return v.f32() + offset;
  if (v.dtype == DType::bf16)
    isa().widen_bf16(v.as<bf16>() + offset, scratch, n);
  else
    isa().widen_f16(v.as<f16>() + offset, scratch, n);
  return scratch;
}

// Where to compute n values that `store` will put at element `offset` of v: in place when v is fp32.
inline float* target(const View& v, int64_t offset, float* scratch) {
  return v.dtype == DType::f32 ? v.f32() + offset : scratch;
}

inline void store(const View& v, int64_t offset, const float* x, int64_t n) {
  if (v.dtype == DType::bf16)
    isa().narrow_bf16(x, v.as<bf16>() + offset, n);
  else if (v.dtype == DType::f16)
    isa().narrow_f16(x, v.as<f16>() + offset, n);
  else if (x != v.f32() + offset)
    std::memcpy(v.f32() + offset, x, n * sizeof(float));
}

// Isa::dot_* by the storage of b, whose rows begin at element `offset`.
inline void dot_rows(const float* a, int64_t lda, int64_t m, const View& b, int64_t offset, int64_t ldb, int64_t n, int64_t k,
                     float* c, int64_t ldc, bool add) {
  const Isa& v = isa();
  if (b.dtype == DType::f32) return v.dot_f32(a, lda, m, b.f32() + offset, ldb, n, k, c, ldc, add);
  if (b.dtype == DType::bf16) return v.dot_bf16(a, lda, m, b.as<bf16>() + offset, ldb, n, k, c, ldc, add);
  v.dot_f16(a, lda, m, b.as<f16>() + offset, ldb, n, k, c, ldc, add);
}

}  // namespace threefold::cpu
