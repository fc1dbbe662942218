// The primitives of isa.h, written once over a vector type V. Included by isa_<name>.cc inside its own namespace and
// target region, so no header with inline functions may be included from here. IN_TARGET repeats the target on lambdas,
// which do not inherit it.

constexpr int L = V::lanes;

// --- tiles -------------------------------------------------------------------------------------------------------

// Accumulators are written as arrays of constant size and fully unrolled loops, which the compiler keeps in registers.
template <int MR, int NR, typename TB>
void dot_tile(const float* a, int64_t lda, const TB* b, int64_t ldb, int64_t k, float* c, int64_t ldc, bool add) {
  V acc[MR * NR];
#pragma GCC unroll 32
  for (int i = 0; i < MR * NR; ++i) acc[i] = V::zero();
  int64_t p = 0;
  for (; p + L <= k; p += L) {
    V av[MR];
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) av[m] = V::load(a + m * lda + p);
#pragma GCC unroll 8
    for (int n = 0; n < NR; ++n) {
      V bv = V::load(b + n * ldb + p);
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) acc[m * NR + n] = V::fma(av[m], bv, acc[m * NR + n]);
    }
  }
  if (int rest = int(k - p)) {
    V av[MR];
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) av[m] = V::load(a + m * lda + p, rest);
#pragma GCC unroll 8
    for (int n = 0; n < NR; ++n) {
      V bv = V::load(b + n * ldb + p, rest);
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) acc[m * NR + n] = V::fma(av[m], bv, acc[m * NR + n]);
    }
  }
  constexpr int kSums = (MR * NR + 3) / 4 * 4;
  float sums[kSums];
#pragma GCC unroll 8
  for (int i = 0; i < kSums; i += 4) {
    V four[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) four[j] = i + j < MR * NR ? acc[i + j] : V::zero();
    V::sum4(four, sums + i);
  }
  for (int m = 0; m < MR; ++m)
    for (int n = 0; n < NR; ++n) c[m * ldc + n] = add ? c[m * ldc + n] + sums[m * NR + n] : sums[m * NR + n];
}

template <typename TB>
using DotTile = void (*)(const float*, int64_t, const TB*, int64_t, int64_t, float*, int64_t, bool);

// The tile for mr rows and nr columns, mr in 1..DOT_MR, nr in 1..DOT_NR.
template <typename TB, int MR = DOT_MR, int NR = DOT_NR>
DotTile<TB> pick_dot(int mr, int nr) {
  if (mr == MR && nr == NR) return dot_tile<MR, NR, TB>;
  if constexpr (NR > 1) {
    if (nr < NR) return pick_dot<TB, MR, NR - 1>(mr, nr);
  }
  if constexpr (MR > 1) {
    if (mr < MR) return pick_dot<TB, MR - 1, NR>(mr, nr);
  }
  return dot_tile<MR, NR, TB>;
}

template <typename TB>
void dot_block(const float* a, int64_t lda, int64_t m, const TB* b, int64_t ldb, int64_t n, int64_t k, float* c,
               int64_t ldc, bool add) {
  for (int64_t j = 0; j < n; j += DOT_NR) {
    int nr = int(n - j < DOT_NR ? n - j : DOT_NR);
    DotTile<TB> full = pick_dot<TB>(DOT_MR, nr);
    int64_t i = 0;
    for (; i + DOT_MR <= m; i += DOT_MR) full(a + i * lda, lda, b + j * ldb, ldb, k, c + i * ldc + j, ldc, add);
    if (i < m) pick_dot<TB>(int(m - i), nr)(a + i * lda, lda, b + j * ldb, ldb, k, c + i * ldc + j, ldc, add);
  }
}

template <int MR, int NV, bool Tail>
void outer_tile(const float* a, int64_t a_row, int64_t a_col, const float* b, int64_t ldb, int64_t k, float* c,
                int64_t ldc, bool resume, int last) {
  auto load = [last](const float* p, int v) IN_TARGET { return Tail && v == NV - 1 ? V::load(p + v * L, last) : V::load(p + v * L); };
  V acc[MR * NV];
#pragma GCC unroll 32
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[m * NV + v] = resume ? load(c + m * ldc, v) : V::zero();
  for (int64_t p = 0; p < k; ++p) {
    V bv[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) bv[v] = load(b + p * ldb, v);
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      V av = V::all(a[m * a_row + p * a_col]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) acc[m * NV + v] = V::fma(av, bv[v], acc[m * NV + v]);
    }
  }
#pragma GCC unroll 32
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      float* p = c + m * ldc + v * L;
      if (Tail && v == NV - 1)
        acc[m * NV + v].store(p, last);
      else
        acc[m * NV + v].store(p);
    }
}

using OuterTile = void (*)(const float*, int64_t, int64_t, const float*, int64_t, int64_t, float*, int64_t, bool, int);

template <int MR = OUTER_MR, int NV = OUTER_NV>
OuterTile pick_outer(int mr, int nv, bool tail) {
  if (mr == MR && nv == NV) return tail ? outer_tile<MR, NV, true> : outer_tile<MR, NV, false>;
  if constexpr (NV > 1) {
    if (nv < NV) return pick_outer<MR, NV - 1>(mr, nv, tail);
  }
  if constexpr (MR > 1) {
    if (mr < MR) return pick_outer<MR - 1, NV>(mr, nv, tail);
  }
  return tail ? outer_tile<MR, NV, true> : outer_tile<MR, NV, false>;
}

void outer_block(const float* a, int64_t a_row, int64_t a_col, int64_t m, const float* b, int64_t ldb, int64_t n,
                 int64_t k, float* c, int64_t ldc, bool resume) {
  constexpr int64_t kWide = OUTER_NV * L;
  for (int64_t j = 0; j < n; j += kWide) {
    int64_t wide = n - j < kWide ? n - j : kWide;
    int nv = int((wide + L - 1) / L), last = int(wide - (nv - 1) * L);
    OuterTile full = pick_outer(OUTER_MR, nv, last < L);
    int64_t i = 0;
    for (; i + OUTER_MR <= m; i += OUTER_MR)
      full(a + i * a_row, a_row, a_col, b + j, ldb, k, c + i * ldc + j, ldc, resume, last);
    if (i < m)
      pick_outer(int(m - i), nv, last < L)(a + i * a_row, a_row, a_col, b + j, ldb, k, c + i * ldc + j, ldc, resume, last);
  }
}

// --- element-wise functions ----------------------------------------------------------------------------------------

// exp by range reduction to [-ln2/2, ln2/2] and a degree-6 polynomial (Cephes expf). 0 below -87.3, NaN stays NaN.
V exp_of(V x) {
  const V low = V::all(-87.3f), high = V::all(88.3f);
  V y = V::min(high, V::max(low, x));  // this operand order lets NaN through
  V n = V::round(y * V::all(1.44269504088896341f));
  V r = V::fma(n, V::all(-0.693359375f), y);
  r = V::fma(n, V::all(2.12194440e-4f), r);
  V p = V::all(1.9875691500e-4f);
  p = V::fma(p, r, V::all(1.3981999507e-3f));
  p = V::fma(p, r, V::all(8.3334519073e-3f));
  p = V::fma(p, r, V::all(4.1665795894e-2f));
  p = V::fma(p, r, V::all(1.6666665459e-1f));
  p = V::fma(p, r, V::all(5.0000001201e-1f));
  V e = (V::fma(p, r * r, r) + V::all(1.0f)) * V::power_of_two(n);
  return V::where_less(x, low, V::zero(), e);
}
V sigmoid_of(V x) { return V::all(1.0f) / (V::all(1.0f) + exp_of(V::zero() - x)); }
V tanh_of(V x) { return V::all(1.0f) - V::all(2.0f) / (exp_of(x + x) + V::all(1.0f)); }
// Abramowitz and Stegun 7.1.26, absolute error 1.5e-7.
V erf_of(V x) {
  V z = V::abs(x), t = V::all(1.0f) / V::fma(z, V::all(0.3275911f), V::all(1.0f));
  V p = V::all(1.061405429f);
  p = V::fma(p, t, V::all(-1.453152027f));
  p = V::fma(p, t, V::all(1.421413741f));
  p = V::fma(p, t, V::all(-0.284496736f));
  p = V::fma(p, t, V::all(0.254829592f));
  return V::copy_sign(V::all(1.0f) - p * t * exp_of(V::zero() - z * z), x);
}

constexpr float kSqrtHalf = 0.70710678118654752f, kSqrt2OverPi = 0.79788456080286536f, kInvSqrt2Pi = 0.39894228040143268f;

template <Act A>
V act_of(V x) {
  V one = V::all(1.0f), half = V::all(0.5f);
  if constexpr (A == Act::relu) return V::where_positive(x, x, x - x);  // x - x: zero, or NaN when x is not a number
  if constexpr (A == Act::silu) return x * sigmoid_of(x);
  if constexpr (A == Act::gelu_erf) return half * x * (one + erf_of(x * V::all(kSqrtHalf)));
  if constexpr (A == Act::gelu_tanh) {
    V u = V::all(kSqrt2OverPi) * V::fma(V::all(0.044715f) * x * x, x, x);
    return half * x * (one + tanh_of(u));
  }
  return x;
}
template <Act A>
V dact_of(V x) {
  V one = V::all(1.0f), half = V::all(0.5f);
  if constexpr (A == Act::relu) return V::where_positive(x, one, V::zero());
  if constexpr (A == Act::silu) {
    V s = sigmoid_of(x);
    return s * V::fma(x, one - s, one);
  }
  if constexpr (A == Act::gelu_erf)
    return V::fma(x * V::all(kInvSqrt2Pi), exp_of(V::all(-0.5f) * x * x), half * (one + erf_of(x * V::all(kSqrtHalf))));
  if constexpr (A == Act::gelu_tanh) {
    V x2 = x * x, u = V::all(kSqrt2OverPi) * V::fma(V::all(0.044715f) * x2, x, x), t = tanh_of(u);
    V du = V::all(kSqrt2OverPi) * V::fma(V::all(3 * 0.044715f), x2, one);
    return V::fma(half * x * (one - t * t), du, half * (one + t));
  }
  return one;
}

// Applies f to n elements, the last partial vector masked.
template <typename F>
void each(int64_t n, F f) {
  int64_t i = 0;
  for (; i + L <= n; i += L) f(i, L);
  if (i < n) f(i, int(n - i));
}
template <typename T>
V get(const T* p, int n) {
  return n == L ? V::load(p) : V::load(p, n);
}
template <typename T>
void put(V x, T* p, int n) {
  if (n == L)
    x.store(p);
  else
    x.store(p, n);
}

// --- rows ------------------------------------------------------------------------------------------------------------

void widen_bf16(const bf16* x, float* out, int64_t n) {
  each(n, [=](int64_t i, int w) IN_TARGET { put(get(x + i, w), out + i, w); });
}
void narrow_bf16(const float* x, bf16* out, int64_t n) {
  each(n, [=](int64_t i, int w) IN_TARGET { put(get(x + i, w), out + i, w); });
}
float sum(const float* x, int64_t n) {
  V s = V::zero();
  each(n, [&](int64_t i, int w) IN_TARGET { s = s + get(x + i, w); });
  return V::sum(s);
}
float dot(const float* x, const float* y, int64_t n) {
  V s = V::zero();
  each(n, [&](int64_t i, int w) IN_TARGET { s = V::fma(get(x + i, w), get(y + i, w), s); });
  return V::sum(s);
}
float sum_squared_diff(const float* x, float mean, int64_t n) {
  V s = V::zero(), m = V::all(mean);
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    V d = V::load(x + i) - m;
    s = V::fma(d, d, s);
  }
  if (i < n) {  // masked lanes must not count as -mean
    float rest[L];
    for (int j = 0; j < L; ++j) rest[j] = i + j < n ? x[i + j] : mean;
    V d = V::load(rest) - m;
    s = V::fma(d, d, s);
  }
  return V::sum(s);
}
float max_of(const float* x, int64_t n) {
  float top = -__builtin_inff();
  V m = V::all(top);
  int64_t i = 0;
  for (; i + L <= n; i += L) m = V::max(m, V::load(x + i));
  top = V::maximum(m);
  for (; i < n; ++i) top = x[i] > top ? x[i] : top;
  return top;
}
void axpy(float a, const float* x, float* y, int64_t n) {
  V av = V::all(a);
  each(n, [=](int64_t i, int w) IN_TARGET { put(V::fma(av, get(x + i, w), get(y + i, w)), y + i, w); });
}
void scale(float a, float* x, int64_t n) {
  V av = V::all(a);
  each(n, [=](int64_t i, int w) IN_TARGET { put(av * get(x + i, w), x + i, w); });
}
void add(const float* x, const float* y, float* out, int64_t n) {
  each(n, [=](int64_t i, int w) IN_TARGET { put(get(x + i, w) + get(y + i, w), out + i, w); });
}
void mul(const float* x, const float* y, float* out, int64_t n) {
  each(n, [=](int64_t i, int w) IN_TARGET { put(get(x + i, w) * get(y + i, w), out + i, w); });
}
float exp_sum(float* x, float shift, int64_t n) {
  V s = V::zero(), by = V::all(shift);
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    V e = exp_of(V::load(x + i) - by);
    e.store(x + i);
    s = s + e;
  }
  if (int rest = int(n - i)) {
    exp_of(V::load(x + i, rest) - by).store(x + i, rest);
    s = s + V::load(x + i, rest);  // masked lanes add nothing
  }
  return V::sum(s);
}

template <Act A>
void act_row(const float* x, float* out, int64_t n) {
  each(n, [=](int64_t i, int w) IN_TARGET { put(act_of<A>(get(x + i, w)), out + i, w); });
}
template <Act A>
void dact_row(const float* x, const float* dy, float* dx, int64_t n) {
  each(n, [=](int64_t i, int w) IN_TARGET { put(get(dy + i, w) * dact_of<A>(get(x + i, w)), dx + i, w); });
}
void act(Act a, const float* x, float* out, int64_t n) {
  switch (a) {
    case Act::none: return act_row<Act::none>(x, out, n);
    case Act::relu: return act_row<Act::relu>(x, out, n);
    case Act::gelu_tanh: return act_row<Act::gelu_tanh>(x, out, n);
    case Act::gelu_erf: return act_row<Act::gelu_erf>(x, out, n);
    case Act::silu: return act_row<Act::silu>(x, out, n);
  }
}
void dact(Act a, const float* x, const float* dy, float* dx, int64_t n) {
  switch (a) {
    case Act::none: return dact_row<Act::none>(x, dy, dx, n);
    case Act::relu: return dact_row<Act::relu>(x, dy, dx, n);
    case Act::gelu_tanh: return dact_row<Act::gelu_tanh>(x, dy, dx, n);
    case Act::gelu_erf: return dact_row<Act::gelu_erf>(x, dy, dx, n);
    case Act::silu: return dact_row<Act::silu>(x, dy, dx, n);
  }
}
void normalize(const float* x, float mean, float rstd, const float* weight, const float* bias, float* out, int64_t n) {
  V m = V::all(mean), r = V::all(rstd);
  each(n, [=](int64_t i, int w) IN_TARGET {
    V y = (get(x + i, w) - m) * r * get(weight + i, w);
    put(bias ? y + get(bias + i, w) : y, out + i, w);
  });
}
void adamw(float* param, const float* grad, float* m, float* v, int64_t n, float grad_scale, float decay_factor,
           float beta1, float beta2, float eps, float step_size, float v_scale) {
  V gs = V::all(grad_scale), df = V::all(decay_factor), b1 = V::all(beta1), c1 = V::all(1 - beta1), b2 = V::all(beta2),
    c2 = V::all(1 - beta2), e = V::all(eps), ss = V::all(step_size), vs = V::all(v_scale);
  each(n, [=](int64_t i, int w) IN_TARGET {
    V g = get(grad + i, w) * gs, p = get(param + i, w) * df;
    V mi = V::fma(g, c1, get(m + i, w) * b1), vi = V::fma(g * g, c2, get(v + i, w) * b2);
    put(mi, m + i, w);
    put(vi, v + i, w);
    put(p - ss * mi / V::fma(V::sqrt(vi), vs, e), param + i, w);
  });
}

constexpr Isa table(const char* name) {
  return {.name = name, .dot_f32 = dot_block<float>, .dot_bf16 = dot_block<bf16>, .outer = outer_block,
          .widen_bf16 = widen_bf16, .narrow_bf16 = narrow_bf16, .sum = sum, .dot = dot,
          .sum_squared_diff = sum_squared_diff, .max = max_of, .axpy = axpy, .scale = scale, .add = add, .mul = mul,
          .exp_sum = exp_sum, .act = act, .dact = dact, .normalize = normalize, .adamw = adamw};
}
