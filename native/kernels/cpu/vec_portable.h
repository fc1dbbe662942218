// Four fp32 lanes by the compilers' vector extensions: one register of SSE2 or NEON. Products are not fused.
// Included inside an ISA's namespace; see vec_avx512.h.

struct All {};
struct Some { int64_t n; };

struct Vec {
  using V = F4;
  using I = int32_t __attribute__((vector_size(16)));
  static constexpr int lanes = 4;
  static constexpr int dot_rows = 2, outer_rows = 4, outer_vectors = 2;  // register tiles: 8 accumulators of 16

  static V zero() { return V{}; }
  static V set(float x) { return V{x, x, x, x}; }
  static V load(const float* p, All) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static V load(const float* p, Some s) { return V{p[0], s.n > 1 ? p[1] : 0, s.n > 2 ? p[2] : 0, 0}; }
  template <typename Half>
  static V load(const Half* p, All) { return V{to_float(p[0]), to_float(p[1]), to_float(p[2]), to_float(p[3])}; }
  template <typename Half>
  static V load(const Half* p, Some s) {
    return V{to_float(p[0]), s.n > 1 ? to_float(p[1]) : 0, s.n > 2 ? to_float(p[2]) : 0, 0};
  }
  static void store(float* p, V x, All) { std::memcpy(p, &x, sizeof x); }
  static void store(float* p, V x, Some s) {
    for (int64_t i = 0; i < s.n; ++i) p[i] = x[i];
  }
  static void store(bf16* p, V x, All) {
    for (int i = 0; i < 4; ++i) p[i] = to_bf16(x[i]);
  }
  static void store(bf16* p, V x, Some s) {
    for (int64_t i = 0; i < s.n; ++i) p[i] = to_bf16(x[i]);
  }
  static void store(f16* p, V x, All) {
    for (int i = 0; i < 4; ++i) p[i] = to_f16(x[i]);
  }
  static void store(f16* p, V x, Some s) {
    for (int64_t i = 0; i < s.n; ++i) p[i] = to_f16(x[i]);
  }
  static V choose(V x, V, All) { return x; }
  static V choose(V x, V other, Some s) {
    int32_t n = int32_t(s.n);
    return blend(I{0, 1, 2, 3} < I{n, n, n, n}, x, other);
  }

  static V fma(V a, V b, V c) { return a * b + c; }
  static V add(V a, V b) { return a + b; }
  static V sub(V a, V b) { return a - b; }
  static V mul(V a, V b) { return a * b; }
  static V div(V a, V b) { return a / b; }
  static V sqrt(V a) {
    return V{__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3])};
  }
  static V min(V a, V b) { return blend(a < b, a, b); }
  static V max(V a, V b) { return blend(a > b, a, b); }
  static V abs(V a) { return V(I(a) & 0x7fffffff); }
  static V round(V a) {  // ties to even, |a| < 2^22
    const V magic = set(12582912.0f);
    return (a + magic) - magic;
  }
  static V less(V a, V b, V x, V y) { return blend(a < b, x, y); }
  static V ldexp(V a, V n) {  // in two steps: 2^128 alone is not a float
    I e = I(n + set(12582912.0f)) - I(set(12582912.0f)), half = e >> 1;
    return a * V((half + 127) << 23) * V((e - half + 127) << 23);
  }

  // (0 + 2) + (1 + 3)
  static F4 sum4(V a, V b, V c, V d) {
    V ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
    V cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
    return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  }
  static float reduce_max(V a) {
    float x = a[0] > a[1] ? a[0] : a[1], y = a[2] > a[3] ? a[2] : a[3];
    return x > y ? x : y;
  }

 private:
  static V blend(I mask, V x, V y) { return V((mask & I(x)) | (~mask & I(y))); }
};
