// The primitives of isa.h, written once over Vec. Included by isa_<name>.cc inside its own namespace and target region,
// so nothing may be included from here. IN_TARGET repeats the target on lambdas, which GCC does not let inherit it.
namespace {

using V = Vec::V;
constexpr int L = Vec::lanes;

// f(i, All) for every whole vector of n elements, then f(i, Some) for the rest.
template <typename F>
inline void each(int64_t n, F f) {
  int64_t i = 0;
  for (; i + L <= n; i += L) f(i, All{});
  if (i < n) f(i, Some{n - i});
}

#include "kernels/cpu/isa_tiles.inl"
#include "kernels/cpu/isa_functions.inl"

// --- rows ------------------------------------------------------------------------------------------------------------

template <typename T>
void widen(const T* x, float* out, int64_t n) {
  each(n, [=](int64_t i, auto lanes) IN_TARGET { Vec::store(out + i, Vec::load(x + i, lanes), lanes); });
}
template <typename T>
void narrow(const float* x, T* out, int64_t n) {
  each(n, [=](int64_t i, auto lanes) IN_TARGET { Vec::store(out + i, Vec::load(x + i, lanes), lanes); });
}

inline float sum_of(V x) { return Vec::sum4(x, Vec::zero(), Vec::zero(), Vec::zero())[0]; }

float sum(const float* x, int64_t n) {
  V s = Vec::zero();
  each(n, [&](int64_t i, auto lanes) IN_TARGET { s = Vec::add(s, Vec::load(x + i, lanes)); });
  return sum_of(s);
}
float dot(const float* x, const float* y, int64_t n) {  // bit-equal to a 1 x 1 dot_f32
  V s = Vec::zero();
  each(n, [&](int64_t i, auto lanes) IN_TARGET { s = Vec::fma(Vec::load(x + i, lanes), Vec::load(y + i, lanes), s); });
  return sum_of(s);
}
float sum_squared_diff(const float* x, float mean, int64_t n) {
  V s = Vec::zero(), m = Vec::set(mean);
  each(n, [&](int64_t i, auto lanes) IN_TARGET {
    V d = Vec::choose(Vec::sub(Vec::load(x + i, lanes), m), Vec::zero(), lanes);
    s = Vec::fma(d, d, s);
  });
  return sum_of(s);
}
float max(const float* x, int64_t n) {
  const V lowest = Vec::set(-__builtin_inff());
  V top = lowest;
  each(n, [&](int64_t i, auto lanes) IN_TARGET {
    top = Vec::max(top, Vec::choose(Vec::load(x + i, lanes), lowest, lanes));
  });
  return Vec::reduce_max(top);
}
void axpy(float a, const float* x, float* y, int64_t n) {
  const V av = Vec::set(a);
  each(n, [=](int64_t i, auto lanes) IN_TARGET {
    Vec::store(y + i, Vec::fma(av, Vec::load(x + i, lanes), Vec::load(y + i, lanes)), lanes);
  });
}
void scale(float a, float* x, int64_t n) {
  const V av = Vec::set(a);
  each(n, [=](int64_t i, auto lanes) IN_TARGET { Vec::store(x + i, Vec::mul(av, Vec::load(x + i, lanes)), lanes); });
}
void add(const float* x, const float* y, float* out, int64_t n) {
  each(n, [=](int64_t i, auto lanes) IN_TARGET {
    Vec::store(out + i, Vec::add(Vec::load(x + i, lanes), Vec::load(y + i, lanes)), lanes);
  });
}
void mul(const float* x, const float* y, float* out, int64_t n) {
  each(n, [=](int64_t i, auto lanes) IN_TARGET {
    Vec::store(out + i, Vec::mul(Vec::load(x + i, lanes), Vec::load(y + i, lanes)), lanes);
  });
}
float exp_sum(float* x, float shift, int64_t n) {
  V s = Vec::zero();
  const V by = Vec::set(shift);
  each(n, [&](int64_t i, auto lanes) IN_TARGET {
    V e = exp_of(Vec::sub(Vec::load(x + i, lanes), by));
    Vec::store(x + i, e, lanes);
    s = Vec::add(s, Vec::choose(e, Vec::zero(), lanes));
  });
  return sum_of(s);
}

void softcap(float cap, float* x, int64_t n) {
  const V c = Vec::set(cap), inverse = Vec::set(1 / cap);
  each(n, [=](int64_t i, auto lanes) IN_TARGET {
    Vec::store(x + i, Vec::mul(c, tanh_of(Vec::mul(Vec::load(x + i, lanes), inverse))), lanes);
  });
}

template <Act A>
void act_row(const float* x, float* out, int64_t n) {
  each(n, [=](int64_t i, auto lanes) IN_TARGET { Vec::store(out + i, act_of<A>(Vec::load(x + i, lanes)), lanes); });
}
template <Act A>
void dact_row(const float* x, const float* dy, float* dx, int64_t n) {
  each(n, [=](int64_t i, auto lanes) IN_TARGET {
    Vec::store(dx + i, dact_of<A>(Vec::load(x + i, lanes), Vec::load(dy + i, lanes)), lanes);
  });
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
  const V m = Vec::set(mean), r = Vec::set(rstd);
  each(n, [=](int64_t i, auto lanes) IN_TARGET {
    V y = Vec::mul(Vec::mul(Vec::sub(Vec::load(x + i, lanes), m), r), Vec::load(weight + i, lanes));
    Vec::store(out + i, bias ? Vec::add(y, Vec::load(bias + i, lanes)) : y, lanes);
  });
}

// torch.optim.AdamW (single tensor): decay, m by lerp, v by mul and addcmul, then addcdiv.
void adamw(float* param, const float* grad, float* m, float* v, int64_t n, float grad_scale, float decay_factor,
           float beta1, float beta2, float eps, float step_size, float v_scale) {
  const V scale = Vec::set(grad_scale), decay = Vec::set(decay_factor), rest1 = Vec::set(1 - beta1),
          b2 = Vec::set(beta2), rest2 = Vec::set(1 - beta2), e = Vec::set(eps), size = Vec::set(step_size),
          vs = Vec::set(v_scale);
  each(n, [=](int64_t i, auto lanes) IN_TARGET {
    V g = Vec::mul(Vec::load(grad + i, lanes), scale), m0 = Vec::load(m + i, lanes);
    V m1 = Vec::fma(rest1, Vec::sub(g, m0), m0);
    V v1 = Vec::fma(Vec::mul(rest2, g), g, Vec::mul(b2, Vec::load(v + i, lanes)));
    V denominator = Vec::add(Vec::mul(Vec::sqrt(v1), vs), e);
    V p = Vec::mul(Vec::load(param + i, lanes), decay);
    Vec::store(m + i, m1, lanes);
    Vec::store(v + i, v1, lanes);
    Vec::store(param + i, Vec::sub(p, Vec::mul(size, Vec::div(m1, denominator))), lanes);
  });
}

constexpr Isa table(const char* name) {
  return {.name = name, .dot_f32 = dot_block<float>, .dot_bf16 = dot_block<bf16>, .dot_f16 = dot_block<f16>, .outer = outer_block,
          .widen_bf16 = widen<bf16>, .narrow_bf16 = narrow<bf16>, .widen_f16 = widen<f16>, .narrow_f16 = narrow<f16>, .sum = sum, .dot = dot,
          .sum_squared_diff = sum_squared_diff, .max = max, .axpy = axpy, .scale = scale, .add = add, .mul = mul,
          .exp_sum = exp_sum, .softcap = softcap, .act = act, .dact = dact, .normalize = normalize, .adamw = adamw};
}

}  // namespace
