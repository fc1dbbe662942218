// Eight lanes of AVX2 with FMA. Included inside a region that targets avx2,fma.
#pragma once

#include <immintrin.h>

#include "core/dtype.h"

namespace threefold::cpu {

struct VecAvx2 {
  static constexpr int lanes = 8;
  __m256 v;

  static __m256i mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static VecAvx2 zero() { return {_mm256_setzero_ps()}; }
  static VecAvx2 all(float x) { return {_mm256_set1_ps(x)}; }
  static VecAvx2 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static VecAvx2 load(const float* p, int n) { return {_mm256_maskload_ps(p, mask(n))}; }
  static VecAvx2 load(const bf16* p) {
    __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16))};
  }
  static VecAvx2 load(const bf16* p, int n) {
    bf16 full[8] = {};
    for (int i = 0; i < n; ++i) full[i] = p[i];
    return load(full);
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store(float* p, int n) const { _mm256_maskstore_ps(p, mask(n), v); }
  __m128i narrowed() const {
    __m256i u = _mm256_castps_si256(v);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(64)), nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
  }
  void store(bf16* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrowed()); }
  void store(bf16* p, int n) const {
    bf16 full[8];
    store(full);
    for (int i = 0; i < n; ++i) p[i] = full[i];
  }
  VecAvx2 operator+(VecAvx2 b) const { return {_mm256_add_ps(v, b.v)}; }
  VecAvx2 operator-(VecAvx2 b) const { return {_mm256_sub_ps(v, b.v)}; }
  VecAvx2 operator*(VecAvx2 b) const { return {_mm256_mul_ps(v, b.v)}; }
  VecAvx2 operator/(VecAvx2 b) const { return {_mm256_div_ps(v, b.v)}; }
  static VecAvx2 fma(VecAvx2 a, VecAvx2 b, VecAvx2 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  static VecAvx2 max(VecAvx2 a, VecAvx2 b) { return {_mm256_max_ps(a.v, b.v)}; }
  static VecAvx2 min(VecAvx2 a, VecAvx2 b) { return {_mm256_min_ps(a.v, b.v)}; }
  static VecAvx2 sqrt(VecAvx2 a) { return {_mm256_sqrt_ps(a.v)}; }
  static VecAvx2 abs(VecAvx2 a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
  static VecAvx2 where_positive(VecAvx2 x, VecAvx2 a, VecAvx2 b) { return where_less(zero(), x, a, b); }
  static VecAvx2 where_less(VecAvx2 x, VecAvx2 y, VecAvx2 a, VecAvx2 b) {
    return {_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(x.v, y.v, _CMP_LT_OQ))};
  }
  static VecAvx2 copy_sign(VecAvx2 magnitude, VecAvx2 sign) {
    __m256 bit = _mm256_set1_ps(-0.0f);
    return {_mm256_or_ps(_mm256_andnot_ps(bit, magnitude.v), _mm256_and_ps(bit, sign.v))};
  }
  static VecAvx2 power_of_two(VecAvx2 k) {
    __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(k.v), _mm256_set1_epi32(127));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(e, 23))};
  }
  static VecAvx2 round(VecAvx2 x) { return {_mm256_round_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }

  // The tree of every sum: within each 128-bit half (0+2)+(1+3), then low half + high half.
  static void sum4(const VecAvx2* a, float* out) {
    __m256 t0 = _mm256_add_ps(_mm256_unpacklo_ps(a[0].v, a[1].v), _mm256_unpackhi_ps(a[0].v, a[1].v));
    __m256 t1 = _mm256_add_ps(_mm256_unpacklo_ps(a[2].v, a[3].v), _mm256_unpackhi_ps(a[2].v, a[3].v));
    __m256 t = _mm256_add_ps(_mm256_shuffle_ps(t0, t1, 0x44), _mm256_shuffle_ps(t0, t1, 0xee));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1)));
  }
  static float sum(VecAvx2 a) {
    VecAvx2 four[4] = {a, zero(), zero(), zero()};
    float out[4];
    sum4(four, out);
    return out[0];
  }
  static float maximum(VecAvx2 a) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
  }
};

}  // namespace threefold::cpu
