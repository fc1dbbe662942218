// The vector primitives of one instruction set. The op files (matmul.cc, attention.cc, ...) are compiled once and
// call these on rows and tiles; isa_portable.cc, isa_avx2.cc and isa_avx512.cc instantiate isa_body.inl with their own
// vector type and choose their own target inside the file.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "kernels/kernels.h"

namespace threefold::cpu {

struct Isa {
  const char* name;  // "portable", "avx2", "avx512"

  // --- tiles -------------------------------------------------------------------------------------------------
  // c[m, n] (+)= sum_k a[m, k] b[n, k]; K contiguous on both sides. Each c is one FMA chain per vector lane over k
  // ascending (the last partial vector masked), lanes joined by a fixed tree; independent of m, n and position.
  void (*dot_f32)(const float* a, int64_t lda, int64_t m, const float* b, int64_t ldb, int64_t n, int64_t k,
                  float* c, int64_t ldc, bool add);
  // The same with b in bf16 or fp16 (widened exactly on load): bit-equal to widening first.
  void (*dot_bf16)(const float* a, int64_t lda, int64_t m, const bf16* b, int64_t ldb, int64_t n, int64_t k,
                   float* c, int64_t ldc, bool add);
  void (*dot_f16)(const float* a, int64_t lda, int64_t m, const f16* b, int64_t ldb, int64_t n, int64_t k,
                  float* c, int64_t ldc, bool add);
  // c[m, n] = sum_k a(m, k) b[k, n], a(m, k) = a[m * a_row + k * a_col]; one FMA chain per c over k ascending, that
  // starts from c itself when `resume` (so sums may be continued piece by piece), from 0 otherwise.
  void (*outer)(const float* a, int64_t a_row, int64_t a_col, int64_t m, const float* b, int64_t ldb, int64_t n,
                int64_t k, float* c, int64_t ldc, bool resume);

  // --- rows: n elements, any n; sums run one chain per lane with a fixed tree at the end ------------------------
  void (*widen_bf16)(const bf16* x, float* out, int64_t n);
  void (*narrow_bf16)(const float* x, bf16* out, int64_t n);
  void (*widen_f16)(const f16* x, float* out, int64_t n);
  void (*narrow_f16)(const float* x, f16* out, int64_t n);
  float (*sum)(const float* x, int64_t n);
  float (*dot)(const float* x, const float* y, int64_t n);
  float (*sum_squared_diff)(const float* x, float mean, int64_t n);   // sum (x - mean)^2
  float (*max)(const float* x, int64_t n);                            // -inf when n = 0
  void (*axpy)(float a, const float* x, float* y, int64_t n);         // y += a x, one FMA each
  void (*scale)(float a, float* x, int64_t n);                        // x *= a
  void (*add)(const float* x, const float* y, float* out, int64_t n);
  void (*mul)(const float* x, const float* y, float* out, int64_t n);
  // x[i] = exp(x[i] - shift), returns their sum. -inf gives 0. Within 2 ulp of exp.
  float (*exp_sum)(float* x, float shift, int64_t n);
  // x[i] = cap tanh(x[i] / cap)
  void (*softcap)(float cap, float* x, int64_t n);
  // out[i] = act(x[i]); out may be x. dact: dx[i] = dy[i] * act'(x[i]); dx may be dy.
  void (*act)(Act act, const float* x, float* out, int64_t n);
  void (*dact)(Act act, const float* x, const float* dy, float* dx, int64_t n);
  // out[i] = (x[i] - mean) * rstd * weight[i] (+ bias[i] unless null)
  void (*normalize)(const float* x, float mean, float rstd, const float* weight, const float* bias, float* out, int64_t n);
  // One AdamW step on n elements, see kernels.h. step_size = lr / (1 - beta1^t), v_scale = 1 / sqrt(1 - beta2^t).
  void (*adamw)(float* param, const float* grad, float* m, float* v, int64_t n, float grad_scale, float decay_factor,
                float beta1, float beta2, float eps, float step_size, float v_scale);
};

// The set in use: the best the CPU has, or THREEFOLD_ISA=portable|avx2|avx512. Asking for one the CPU lacks is an error.
const Isa& isa();
// Forces one by name (tests, benchmarks).
void select_isa(const char* name);
// Names of the sets this CPU can run, best last.
std::vector<const char*> available_isas();

}  // namespace threefold::cpu
