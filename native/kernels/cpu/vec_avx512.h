// Sixteen fp32 lanes in one AVX-512 register. Included inside an ISA's namespace, after its target pragma.
// The same names exist in vec_avx2.h and vec_portable.h; isa_body.inl is written over them.

struct All {};                // every lane
struct Some { int64_t n; };   // the first n lanes, 0 < n < lanes; the others read as 0 and are not written

struct Vec {
  using V = __m512;
  static constexpr int lanes = 16;
  static constexpr int dot_rows = 6, outer_rows = 8, outer_vectors = 3;  // register tiles: 24 accumulators of 32

  static __mmask16 mask(Some s) { return __mmask16((1u << s.n) - 1); }

  static V zero() { return _mm512_setzero_ps(); }
  static V set(float x) { return _mm512_set1_ps(x); }
  static V load(const float* p, All) { return _mm512_loadu_ps(p); }
  static V load(const float* p, Some s) { return _mm512_maskz_loadu_ps(mask(s), p); }
  static V load(const bf16* p, All) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static V load(const bf16* p, Some s) { return widen(_mm256_maskz_loadu_epi16(mask(s), p)); }
  static V load(const f16* p, All) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static V load(const f16* p, Some s) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask(s), p)); }
  static void store(float* p, V x, All) { _mm512_storeu_ps(p, x); }
  static void store(float* p, V x, Some s) { _mm512_mask_storeu_ps(p, mask(s), x); }
  static void store(bf16* p, V x, All) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(x)); }
  static void store(bf16* p, V x, Some s) { _mm256_mask_storeu_epi16(p, mask(s), narrow(x)); }
  static void store(f16* p, V x, All) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), halves(x)); }
  static void store(f16* p, V x, Some s) { _mm256_mask_storeu_epi16(p, mask(s), halves(x)); }
  // x in the chosen lanes, `other` elsewhere.
  static V choose(V x, V, All) { return x; }
  static V choose(V x, V other, Some s) { return _mm512_mask_blend_ps(mask(s), other, x); }

  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V div(V a, V b) { return _mm512_div_ps(a, b); }
  static V sqrt(V a) { return _mm512_sqrt_ps(a); }
  static V min(V a, V b) { return _mm512_min_ps(a, b); }  // b when either is NaN
  static V max(V a, V b) { return _mm512_max_ps(a, b); }  // b when either is NaN
  static V abs(V a) { return _mm512_abs_ps(a); }
  static V round(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // a < b ? x : y
  static V less(V a, V b, V x, V y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
  }
  // a 2^n, n integral
  static V ldexp(V a, V n) { return _mm512_scalef_ps(a, n); }

  // The sums of four vectors: in each 128-bit group g, (0 + 2) + (1 + 3); then (g0 + g2) + (g1 + g3).
  static F4 sum4(V a, V b, V c, V d) {
    V ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    V cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    V lo = _mm512_shuffle_ps(ab, cd, 0x44), hi = _mm512_shuffle_ps(ab, cd, 0xee);
    V all = _mm512_add_ps(lo, hi);
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return F4(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }
  static float reduce_max(V a) { return _mm512_reduce_max_ps(a); }

 private:
  static V widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
  static __m256i halves(V x) { return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static __m256i narrow(V x) {
    __m512i u = _mm512_castps_si512(x), high = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd), 16);
    __m512i nan = _mm512_or_si512(high, _mm512_set1_epi32(64));
    return _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), rounded, nan));
  }
};
