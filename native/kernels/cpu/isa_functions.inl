// exp and the activations over one vector. Part of isa_body.inl.

// exp by reduction to [-ln2/2, ln2/2] and a degree-7 polynomial (Cephes expf). 0 below -87.3 (no subnormals), inf above
// 88.72, NaN stays NaN: min and max return their second operand when either is NaN.
inline V exp_of(V x) {
  const V low = Vec::set(-87.3365f), high = Vec::set(88.7228f);
  V y = Vec::min(high, Vec::max(low, x));
  V n = Vec::round(Vec::mul(y, Vec::set(1.44269504f)));
  V r = Vec::fma(n, Vec::set(-0.693359375f), y);
  r = Vec::fma(n, Vec::set(2.12194440e-4f), r);
  V p = Vec::fma(Vec::set(1.9875691500e-4f), r, Vec::set(1.3981999507e-3f));
  p = Vec::fma(p, r, Vec::set(8.3334519073e-3f));
  p = Vec::fma(p, r, Vec::set(4.1665795894e-2f));
  p = Vec::fma(p, r, Vec::set(1.6666665459e-1f));
  p = Vec::fma(p, r, Vec::set(5.0000001201e-1f));
  p = Vec::add(Vec::fma(p, Vec::mul(r, r), r), Vec::set(1));
  V e = Vec::ldexp(p, n);
  e = Vec::less(high, x, Vec::set(__builtin_inff()), e);
  return Vec::less(x, low, Vec::zero(), e);
}

inline V sigmoid_of(V x) { return Vec::div(Vec::set(1), Vec::add(Vec::set(1), exp_of(Vec::sub(Vec::zero(), x)))); }

// tanh (Cephes tanhf): a polynomial near 0, where 1 - 2 / (exp(2x) + 1) would cancel. Within 2 ulp.
inline V tanh_of(V x) {
  V z = Vec::mul(x, x);
  V near = Vec::fma(Vec::set(-5.70498872745e-3f), z, Vec::set(2.06390887954e-2f));
  near = Vec::fma(near, z, Vec::set(-5.37397155531e-2f));
  near = Vec::fma(near, z, Vec::set(1.33314422036e-1f));
  near = Vec::fma(near, z, Vec::set(-3.33332819422e-1f));
  near = Vec::fma(Vec::mul(near, z), x, x);
  V t = Vec::min(Vec::set(20), Vec::abs(x));
  V far = Vec::sub(Vec::set(1), Vec::div(Vec::set(2), Vec::add(exp_of(Vec::add(t, t)), Vec::set(1))));
  far = Vec::less(x, Vec::zero(), Vec::sub(Vec::zero(), far), far);
  return Vec::less(Vec::set(0.625f), Vec::abs(x), far, near);
}

// 1 + erf(x), without cancellation below 0 (the two polynomials of N. Juffa's erff, error about 1 ulp).
inline V one_plus_erf(V x) {
  V t = Vec::min(Vec::set(12), Vec::abs(x)), s = Vec::mul(t, t);
  V far = Vec::fma(Vec::set(-1.72853470e-5f), t, Vec::set(3.83197126e-4f));
  V u = Vec::fma(Vec::set(-3.88396438e-3f), t, Vec::set(2.42546219e-2f));
  far = Vec::fma(far, s, u);
  far = Vec::fma(far, t, Vec::set(-1.06777877e-1f));
  far = Vec::fma(far, t, Vec::set(-6.34846687e-1f));
  far = Vec::fma(far, t, Vec::set(-1.28717512e-1f));
  far = exp_of(Vec::sub(Vec::mul(far, t), t));  // 1 - erf(t)
  far = Vec::less(x, Vec::zero(), far, Vec::sub(Vec::set(2), far));
  V near = Vec::fma(Vec::set(-5.96761703e-4f), s, Vec::set(4.99119423e-3f));
  near = Vec::fma(near, s, Vec::set(-2.67681349e-2f));
  near = Vec::fma(near, s, Vec::set(1.12819925e-1f));
  near = Vec::fma(near, s, Vec::set(-3.76125336e-1f));
  near = Vec::fma(near, s, Vec::set(1.28379166e-1f));
  near = Vec::add(Vec::set(1), Vec::fma(near, x, x));
  return Vec::less(Vec::set(0.927734375f), t, far, near);
}

// The argument of gelu_tanh's sigmoid, 2 sqrt(2/pi) (x + 0.044715 x^3): 0.5 (1 + tanh(u)) = sigmoid(2u).
constexpr float kGelu1 = 1.5957691216f, kGelu3 = 0.0713548162726f;
inline V gelu_argument(V x) { return Vec::mul(x, Vec::fma(Vec::set(kGelu3), Vec::mul(x, x), Vec::set(kGelu1))); }

template <Act A>
inline V act_of(V x) {
  if constexpr (A == Act::relu) return Vec::max(Vec::zero(), x);
  if constexpr (A == Act::silu) return Vec::mul(x, sigmoid_of(x));
  if constexpr (A == Act::gelu_tanh) return Vec::mul(x, sigmoid_of(gelu_argument(x)));
  if constexpr (A == Act::gelu_erf)
    return Vec::mul(Vec::mul(Vec::set(0.5f), x), one_plus_erf(Vec::mul(x, Vec::set(0.70710678f))));
  return x;
}

// dy act'(x). 1 - sigmoid(z) is taken as exp(-z) sigmoid(z): no cancellation. Beyond the clamps every derivative has
// reached its limit, and exp(-z) is finite there.
template <Act A>
inline V dact_of(V x, V dy) {
  const V one = Vec::set(1);
  if constexpr (A == Act::none) return dy;
  if constexpr (A == Act::relu) return Vec::less(Vec::zero(), x, dy, Vec::zero());
  const V edge = Vec::set(A == Act::gelu_tanh ? 10 : 60);
  x = Vec::min(edge, Vec::max(Vec::sub(Vec::zero(), edge), x));
  if constexpr (A == Act::silu || A == Act::gelu_tanh) {
    V z = A == Act::silu ? x : gelu_argument(x);
    V slope = A == Act::silu ? one : Vec::fma(Vec::set(3 * kGelu3), Vec::mul(x, x), Vec::set(kGelu1));
    V e = exp_of(Vec::sub(Vec::zero(), z)), s = Vec::div(one, Vec::add(one, e));
    return Vec::mul(dy, Vec::fma(Vec::mul(Vec::mul(x, slope), Vec::mul(e, s)), s, s));
  }
  V density = Vec::mul(Vec::set(0.39894228f), exp_of(Vec::mul(Vec::mul(Vec::set(-0.5f), x), x)));
  V cdf = Vec::mul(Vec::set(0.5f), one_plus_erf(Vec::mul(x, Vec::set(0.70710678f))));
  return Vec::mul(dy, Vec::fma(x, density, cdf));
}
