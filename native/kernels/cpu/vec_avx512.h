// Sixteen lanes of AVX-512. Included inside a region that targets avx512f,bw,dq,vl.
#pragma once

#include <immintrin.h>

#include "core/dtype.h"

namespace threefold::cpu {

struct VecAvx512 {
  static constexpr int lanes = 16;
  __m512 v;

  static __mmask16 mask(int n) { return __mmask16((1u << n) - 1); }
  static VecAvx512 zero() { return {_mm512_setzero_ps()}; }
  static VecAvx512 all(float x) { return {_mm512_set1_ps(x)}; }
  static VecAvx512 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static VecAvx512 load(const float* p, int n) { return {_mm512_maskz_loadu_ps(mask(n), p)}; }
  static VecAvx512 widened(__m256i h) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))};
  }
  static VecAvx512 load(const bf16* p) { return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static VecAvx512 load(const bf16* p, int n) { return widened(_mm256_maskz_loadu_epi16(mask(n), p)); }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(float* p, int n) const { _mm512_mask_storeu_ps(p, mask(n), v); }
  __m256i narrowed() const {
    __m512i u = _mm512_castps_si512(v), high = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(r, nan, high, _mm512_set1_epi32(64)));
  }
  void store(bf16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrowed()); }
  void store(bf16* p, int n) const { _mm256_mask_storeu_epi16(p, mask(n), narrowed()); }
  VecAvx512 operator+(VecAvx512 b) const { return {_mm512_add_ps(v, b.v)}; }
  VecAvx512 operator-(VecAvx512 b) const { return {_mm512_sub_ps(v, b.v)}; }
  VecAvx512 operator*(VecAvx512 b) const { return {_mm512_mul_ps(v, b.v)}; }
  VecAvx512 operator/(VecAvx512 b) const { return {_mm512_div_ps(v, b.v)}; }
  static VecAvx512 fma(VecAvx512 a, VecAvx512 b, VecAvx512 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static VecAvx512 max(VecAvx512 a, VecAvx512 b) { return {_mm512_max_ps(a.v, b.v)}; }
  static VecAvx512 min(VecAvx512 a, VecAvx512 b) { return {_mm512_min_ps(a.v, b.v)}; }
  static VecAvx512 sqrt(VecAvx512 a) { return {_mm512_sqrt_ps(a.v)}; }
  static VecAvx512 abs(VecAvx512 a) { return {_mm512_abs_ps(a.v)}; }
  static VecAvx512 where_positive(VecAvx512 x, VecAvx512 a, VecAvx512 b) { return where_less(zero(), x, a, b); }
  static VecAvx512 where_less(VecAvx512 x, VecAvx512 y, VecAvx512 a, VecAvx512 b) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, y.v, _CMP_LT_OQ), b.v, a.v)};
  }
  static VecAvx512 copy_sign(VecAvx512 magnitude, VecAvx512 sign) {
    __m512 bit = _mm512_set1_ps(-0.0f);
    return {_mm512_or_ps(_mm512_andnot_ps(bit, magnitude.v), _mm512_and_ps(bit, sign.v))};
  }
  static VecAvx512 power_of_two(VecAvx512 k) {
    __m512i e = _mm512_add_epi32(_mm512_cvtps_epi32(k.v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(e, 23))};
  }
  static VecAvx512 round(VecAvx512 x) {
    return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }

  // The tree of every sum: within each 128-bit quarter (0+2)+(1+3), then quarters (0+2)+(1+3).
  static void sum4(const VecAvx512* a, float* out) {
    __m512 t0 = _mm512_add_ps(_mm512_unpacklo_ps(a[0].v, a[1].v), _mm512_unpackhi_ps(a[0].v, a[1].v));
    __m512 t1 = _mm512_add_ps(_mm512_unpacklo_ps(a[2].v, a[3].v), _mm512_unpackhi_ps(a[2].v, a[3].v));
    __m512 t = _mm512_add_ps(_mm512_shuffle_ps(t0, t1, 0x44), _mm512_shuffle_ps(t0, t1, 0xee));
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(t), _mm512_extractf32x8_ps(t, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)));
  }
  static float sum(VecAvx512 a) {
    VecAvx512 four[4] = {a, zero(), zero(), zero()};
    float out[4];
    sum4(four, out);
    return out[0];
  }
  static float maximum(VecAvx512 a) { return _mm512_reduce_max_ps(a.v); }
};

}  // namespace threefold::cpu
