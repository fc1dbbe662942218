#include "kernels/op_cases.h"

using namespace threefold;
using namespace threefold::test;
using namespace threefold::test::op_cases;

namespace {

constexpr Act kActs[] = {Act::none, Act::relu, Act::gelu_tanh, Act::gelu_erf, Act::silu};
constexpr int64_t kShapes[][2] = {{1, 1}, {3, 7}, {2, 1025}, {5, 33}, {40, 1024}, {3, 2064}};

double act(Act a, double x) {
  switch (a) {
    case Act::none: return x;
    case Act::relu: return x > 0 ? x : 0;
    case Act::gelu_tanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Act::gelu_erf: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Act::silu: return x / (1 + std::exp(-x));
  }
  return NAN;
}
double slope(Act a, double x) { return (act(a, x + 1e-5) - act(a, x - 1e-5)) / 2e-5; }

// From -8 to 8, and never 0, where the slope of relu is a choice.
Values inputs(int64_t n) {
  Values x = random_values(11, n, 8);
  for (double& v : x)
    if (std::abs(v) < 0.01) v = 0.5;
  return x;
}

}  // namespace

TEST(activation_forward_matches_float64) {
  for_each_device([](DType d) {
    for (Act a : kActs)
      for (auto [t, f] : kShapes)
        for (bool gated : {false, true}) {
          Values x = inputs(t * f * (gated ? 2 : 1)), want(t * f);
          for (int64_t i = 0; i < t * f; ++i) {
            int64_t at = gated ? i / f * 2 * f + i % f : i;
            want[i] = act(a, x[at]) * (gated ? x[at + f] : 1);
          }
          Buffer in(d, {t, gated ? 2 * f : f}, x);
          auto got = run([&](Exec& ex) {
            Buffer out(d, {t, f});
            ops.activation_forward(ex, {.act = a, .gated = gated, .x = in.view, .out = out.view});
            return std::vector<Buffer>{out};
          });
          check_close("activation", got[0], want, relative_of(d), 1e-5);
        }
  });
}

TEST(activation_backward_matches_finite_differences) {
  for_each_device([](DType d) {
    for (Act a : kActs)
      for (auto [t, f] : kShapes)
        for (bool gated : {false, true}) {
          int64_t width = gated ? 2 * f : f;
          Values x = inputs(t * width), dy = random_values(12, t * f), want(t * width);
          for (int64_t i = 0; i < t * f; ++i) {
            int64_t at = i / f * width + i % f;
            want[at] = dy[i] * slope(a, x[at]) * (gated ? x[at + f] : 1);
            if (gated) want[at + f] = dy[i] * act(a, x[at]);
          }
          Buffer in(d, {t, width}, x), dout(d, {t, f}, dy);
          auto got = run([&](Exec& ex) {
            Buffer dx(d, {t, width});
            ops.activation_backward(ex, {.act = a, .gated = gated, .x = in.view, .dout = dout.view, .dx = dx.view});
            return std::vector<Buffer>{dx};
          });
          check_close("dx", got[0], want, relative_of(d), 1e-5);
          if (gated) continue;
          ops.activation_backward(machine(2).ex, {.act = a, .x = in.view, .dout = dout.view, .dx = dout.view});
          CHECK(same_bits(dout, got[0]));  // dx may be dout
        }
  });
}

TEST(activation_relu_backward_takes_the_output_as_well) {
  for_each_device([](DType d) {
    Buffer x(d, {3, 7}, random_values(13, 21)), y(d, {3, 7}), dout(d, {3, 7}, random_values(14, 21));
    Buffer a(d, {3, 7}), b(d, {3, 7});
    x.set(0, -1), dout.set(0, INFINITY);  // a gradient that overflowed does not come through
    Exec& ex = machine(1).ex;
    ops.activation_forward(ex, {.act = Act::relu, .x = x.view, .out = y.view});
    ops.activation_backward(ex, {.act = Act::relu, .x = x.view, .dout = dout.view, .dx = a.view});
    ops.activation_backward(ex, {.act = Act::relu, .x = y.view, .dout = dout.view, .dx = b.view});
    CHECK(same_bits(a, b));
    CHECK_EQ(a.get(0), 0);
  });
}

TEST(activation_check_tells_the_gelus_apart) {
  Values x = inputs(100), want(100);
  for (int i = 0; i < 100; ++i) want[i] = act(Act::gelu_erf, x[i]);
  Buffer in(DType::f32, {4, 25}, x), out(DType::f32, {4, 25});
  ops.activation_forward(machine(1).ex, {.act = Act::gelu_tanh, .x = in.view, .out = out.view});
  CHECK(failure_count([&] { check_close("activation", out, want, 2e-6, 1e-5); }) > 0);
}

TEST(activation_refuses_wrong_operands) {
  Buffer x(DType::f32, {3, 5}), out(DType::f32, {3, 4});
  Exec& ex = machine(1).ex;
  CHECK(has(message_of([&] { ops.activation_forward(ex, {.gated = true, .x = x.view, .out = out.view}); }), "[T, 2F]"));
  CHECK(has(message_of([&] { ops.activation_forward(ex, {.x = x.view, .out = out.view}); }), "out"));
  CHECK(has(message_of([&] { ops.activation_backward(ex, {.x = x.view, .dout = x.view, .dx = out.view}); }), "dx"));
}
