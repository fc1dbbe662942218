// Eight fp32 lanes in one AVX2 register. Included inside an ISA's namespace, after its target pragma; see vec_avx512.h.

struct All {};
struct Some { int64_t n; };

struct Vec {
  using V = __m256;
  static constexpr int lanes = 8;
  static constexpr int dot_rows = 3, outer_rows = 4, outer_vectors = 3;  // register tiles: 12 accumulators of 16

  static __m256i mask(Some s) {
    alignas(64) static constexpr int32_t ones_then_zeros[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(ones_then_zeros + 8 - s.n));
  }

  static V zero() { return _mm256_setzero_ps(); }
  static V set(float x) { return _mm256_set1_ps(x); }
  static V load(const float* p, All) { return _mm256_loadu_ps(p); }
  static V load(const float* p, Some s) { return _mm256_maskload_ps(p, mask(s)); }
  static V load(const bf16* p, All) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static V load(const bf16* p, Some s) {
    alignas(16) uint16_t t[8] = {};
    for (int64_t i = 0; i < s.n; ++i) t[i] = p[i].bits;
    return widen(_mm_load_si128(reinterpret_cast<const __m128i*>(t)));
  }
  static V load(const f16* p, All) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static V load(const f16* p, Some s) {
    alignas(16) uint16_t t[8] = {};
    for (int64_t i = 0; i < s.n; ++i) t[i] = p[i].bits;
    return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(t)));
  }
  static void store(float* p, V x, All) { _mm256_storeu_ps(p, x); }
  static void store(float* p, V x, Some s) { _mm256_maskstore_ps(p, mask(s), x); }
  static void store(bf16* p, V x, All) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(x)); }
  static void store(bf16* p, V x, Some s) {
    alignas(16) uint16_t t[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(t), narrow(x));
    for (int64_t i = 0; i < s.n; ++i) p[i].bits = t[i];
  }
  static void store(f16* p, V x, All) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), halves(x)); }
  static void store(f16* p, V x, Some s) {
    alignas(16) uint16_t t[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(t), halves(x));
    for (int64_t i = 0; i < s.n; ++i) p[i].bits = t[i];
  }
  static V choose(V x, V, All) { return x; }
  static V choose(V x, V other, Some s) { return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(mask(s))); }

  static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  static V sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static V div(V a, V b) { return _mm256_div_ps(a, b); }
  static V sqrt(V a) { return _mm256_sqrt_ps(a); }
  static V min(V a, V b) { return _mm256_min_ps(a, b); }
  static V max(V a, V b) { return _mm256_max_ps(a, b); }
  static V abs(V a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static V round(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static V less(V a, V b, V x, V y) { return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
  static V ldexp(V a, V n) {  // in two steps: 2^128 alone is not a float
    __m256i e = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(e, 1);
    return _mm256_mul_ps(_mm256_mul_ps(a, power(half)), power(_mm256_sub_epi32(e, half)));
  }

  // In each 128-bit group g, (0 + 2) + (1 + 3); then g0 + g1.
  static F4 sum4(V a, V b, V c, V d) {
    V ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    V cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    V all = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    return F4(_mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }
  static float reduce_max(V a) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
  }

 private:
  static V power(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
  static V widen(__m128i x) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16)); }
  static __m128i halves(V x) { return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static __m128i narrow(V x) {
    __m256i u = _mm256_castps_si256(x), high = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd), 16);
    __m256i nan = _mm256_or_si256(high, _mm256_set1_epi32(64));
    __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    __m256i r = _mm256_blendv_epi8(rounded, nan, is_nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
  }
};
