#include "kernels/op_cases.h"

using namespace threefold;
using namespace threefold::test;
using namespace threefold::test::op_cases;

namespace {

constexpr float kLr = 1e-2f, kBeta1 = 0.9f, kBeta2 = 0.95f, kEps = 1e-8f, kDecay = 0.1f;

// torch.nn.utils.clip_grad_norm_ of scaled gradients.
double norm_of(const std::vector<Values>& grads, double scale) {
  double sum = 0;
  for (const Values& g : grads) sum += inner(g, g);
  return std::sqrt(sum) * scale;
}

Buffer control_of(Exec& ex, const std::vector<Buffer>& grads, float clip, float scale) {
  Buffer control(DType::f32, {3});
  std::vector<View> views;
  for (const Buffer& g : grads) views.push_back(g.view);
  ops.gradient_control(ex, {.grads = views, .clip = clip, .scale = scale, .control = control.view});
  return control;
}

// Parameters, moments and master copy of one stretch, and torch.optim.AdamW in float64 beside them.
struct Stretch {
  Buffer param, master, m, v;
  bool shared;  // master is param itself
  Stretch(DType d, const Values& start)
      : param(d, {int64_t(start.size())}, start), master(DType::f32, {int64_t(start.size())}, start),
        m(DType::f32, param.view.shape, Values(start.size())), v(DType::f32, param.view.shape, Values(start.size())),
        shared(d == DType::f32) {}
  void step(Exec& ex, const Buffer& grad, const Buffer& control, int64_t t) {
    ops.adamw(ex, {.param = param.view, .master = shared ? param.view : master.view, .grad = grad.view, .m = m.view,
                    .v = v.view, .control = control.view, .lr = kLr, .beta1 = kBeta1, .beta2 = kBeta2, .eps = kEps,
                    .weight_decay = kDecay, .step = t});
  }
};
struct Reference {
  Values p, m, v;
  explicit Reference(const Values& start) : p(start), m(start.size()), v(start.size()) {}
  void step(const Values& grad, double factor, int t) {
    double b1 = kBeta1, b2 = kBeta2, bias1 = 1 - std::pow(b1, t), bias2 = std::sqrt(1 - std::pow(b2, t));
    for (size_t i = 0; i < p.size(); ++i) {
      double g = grad[i] * factor;
      p[i] *= 1 - double(kLr) * double(kDecay);
      m[i] = b1 * m[i] + (1 - b1) * g;
      v[i] = b2 * v[i] + (1 - b2) * g * g;
      p[i] -= double(kLr) / bias1 * m[i] / (std::sqrt(v[i]) / bias2 + double(kEps));
    }
  }
};

}  // namespace

TEST(gradient_control_matches_float64) {
  for_each_device([](DType) {
    for (float clip : {0.0f, 0.5f, 1e6f})
      for (float scale : {1.0f, 0.25f}) {
        std::vector<Values> g = {random_values(1, 7), random_values(2, 70001), random_values(3, 0), random_values(4, 1)};
        std::vector<Buffer> grads;
        for (const Values& x : g) grads.push_back(Buffer(DType::f32, {int64_t(x.size())}, x));
        auto got = run([&](Exec& ex) { return std::vector<Buffer>{control_of(ex, grads, clip, scale)}; });
        double norm = norm_of(g, scale), factor = scale * (clip > 0 ? std::min(1.0, double(clip) / (norm + 1e-6)) : 1);
        check_close("control", got[0], {norm, factor, 1}, 1e-6, 0);
        if (clip == 0.5f) CHECK(failure_count([&] { check_close("control", got[0], {norm, scale, 1}, 1e-6, 0); }) > 0);
      }
    Buffer none = control_of(machine(1).ex, {}, 1, 1);
    check_close("control", none, {0, 1, 1}, 0, 1e-30);
  });
}

// More gradients than one launch takes, more pieces than threads that join them; some empty, at any address.
TEST(gradient_control_takes_many_gradients) {
  constexpr int64_t kMany = 1250;
  for_each_device([] {
    std::vector<Buffer> grads;
    std::vector<View> views;
    std::vector<Values> values;
    for (int64_t i = 0; i < kMany; ++i) {
      int64_t n = i % 7 == 3 ? 0 : i % 40 == 5 ? 3000 : i % 50;
      values.push_back(random_values(uint64_t(i), n));
      Values shifted(i % 3, 100);  // what lies before the gradient is not its own
      shifted.insert(shifted.end(), values.back().begin(), values.back().end());
      grads.push_back(Buffer(DType::f32, {i % 3 + n}, shifted));
    }
    for (int64_t i = 0; i < kMany; ++i) views.push_back(grads[i].view.at(i % 3, {int64_t(values[i].size())}));
    Buffer control(DType::f32, {3});
    ops.gradient_control(machine(2).ex, {.grads = views, .clip = 1, .control = control.view});
    double norm = norm_of(values, 1);
    check_close("control", control, {norm, 1 / (norm + 1e-6), 1}, 1e-6, 0);
  });
}

TEST(gradient_control_sees_one_bad_element_anywhere) {
  for_each_device([] {
    for (double bad : {NAN, INFINITY, -INFINITY})
      for (int64_t at : {0, 8, 65535, 65536, 70000}) {
        std::vector<Buffer> grads = {Buffer(DType::f32, {9}, random_values(1, 9)),
                                     Buffer(DType::f32, {70001}, random_values(2, 70001))};
        grads[1].set(at, bad);
        Buffer control = control_of(machine(2).ex, grads, 1, 1);
        CHECK_EQ(control.get(2), 0);
        CHECK_EQ(control.get(1), 0);
        CHECK(!std::isfinite(control.get(0)));
      }
    // Large but finite: the squares overflow fp32, the check must not.
    std::vector<Buffer> large = {Buffer(DType::f32, {3}, {3e30, -1e30, 2e25})};
    Buffer control = control_of(machine(1).ex, large, 1, 1);
    CHECK_EQ(control.get(2), 1);
    CHECK_NEAR(control.get(0) / std::sqrt(10e60), 1, 1e-6);
  });
}

TEST(adamw_ten_steps_match_torch_formula) {
  for_each_device([](DType d) {
    for (int64_t n : {1, 7, 32, 33, 100, 20000})
      for (float clip : {0.0f, 1.0f}) {
        Values start = random_values(1, n);
        Reference want(start);
        auto got = run([&](Exec& ex) {
          Stretch s(d, start);
          for (int t = 1; t <= 10; ++t) {
            Buffer grad(DType::f32, {n}, random_values(10 + t, n));
            std::vector<Buffer> grads = {grad};
            s.step(ex, grad, control_of(ex, grads, clip, 0.5f), t);
          }
          return std::vector<Buffer>{s.param, s.shared ? s.param : s.master, s.m, s.v};
        });
        for (int t = 1; t <= 10; ++t) {
          Values g = random_values(10 + t, n);
          double norm = norm_of({g}, 0.5);
          want.step(g, 0.5 * (clip > 0 ? std::min(1.0, double(clip) / (norm + 1e-6)) : 1), t);
        }
        check_close("master", got[1], want.p, 2e-6, 2e-6);
        check_close("m", got[2], want.m, 2e-6, 1e-6);
        check_close("v", got[3], want.v, 5e-6, 1e-9);
        Buffer rounded(d, {n});  // param is master, rounded
        for (int64_t i = 0; i < n; ++i) rounded.set(i, got[1].get(i));
        CHECK(same_bits(got[0], rounded));
        CHECK(failure_count([&] { check_close("master", got[1], start, 2e-6, 2e-6); }) > 0);
      }
  });
}

TEST(adamw_skips_when_gradients_are_not_finite) {
  for_each_device([](DType d) {
    int64_t n = 100;
    Buffer grad(DType::f32, {n}, random_values(3, n)), good(grad);
    Stretch s(d, random_values(1, n));
    s.step(machine(1).ex, good, control_of(machine(1).ex, {good}, 1, 1), 1);
    Stretch before = s;
    grad.set(99, NAN);
    s.step(machine(1).ex, grad, control_of(machine(1).ex, {grad}, 1, 1), 2);
    CHECK(same_bits(s.param, before.param) && same_bits(s.master, before.master) && same_bits(s.m, before.m) && same_bits(s.v, before.v));
    s.step(machine(1).ex, good, control_of(machine(1).ex, {good}, 1, 1), 2);
    CHECK(!same_bits(s.param, before.param) && !same_bits(s.m, before.m) && !same_bits(s.v, before.v));
  });
}

// Given the same control, every device takes the same step to the bit, wherever the arrays lie; what lies around them stays.
TEST(adamw_has_the_same_bits_everywhere) {
  const int64_t n = 3000;
  Buffer control(DType::f32, {3}, {2, 0.375, 1});
  std::vector<Buffer> first;
  for (int64_t shift : {0, 1})
    for_each_device([&] {
      if (test_device()->name == "cpu portable") return;  // it has no fused multiply-add
      for (bool shared : {true, false}) {
        std::vector<Buffer> all = {Buffer(shared ? DType::f32 : DType::bf16, {n + 4})};
        for (uint64_t seed : {1, 2, 3, 4}) {
          all.push_back(Buffer(DType::f32, {n + 4}));
          Values x = random_values(seed, n);
          for (int64_t i = 0; i < n; ++i) all.back().set(shift + i, seed == 4 ? x[i] * x[i] : x[i]);
        }
        auto at = [&](int i) { return all[i].view.at(shift, {n}); };
        ops.adamw(machine(2).ex, {.param = at(shared ? 1 : 0), .master = at(1), .grad = at(2), .m = at(3), .v = at(4),
                                   .control = control.view, .lr = kLr, .beta1 = kBeta1, .beta2 = kBeta2, .eps = kEps, .weight_decay = kDecay, .step = 3});
        if (first.empty()) for (const Buffer& b : all) first.push_back(b);
        for (int i : {1, 3, 4}) {
          CHECK(all[i].same(shift, first[i], 0, n));
          for (int64_t j : {shift - 1, shift + n})
            if (j >= 0) CHECK(std::isnan(all[i].get(j)));
        }
        for (int64_t i = shift; i < shift + n && !shared; ++i)
          CHECK_EQ(all[0].get(i), to_float(to_bf16(float(all[1].get(i)))));
      }
    });
}

TEST(adamw_refuses_wrong_operands) {
  Exec& ex = machine(1).ex;
  Buffer a(DType::f32, {3}), b(DType::f32, {4}), i(DType::i32, {3}), control(DType::f32, {3}, {1, 1, 1});
  AdamW ok{.param = a.view, .master = a.view, .grad = a.view, .m = a.view, .v = a.view, .control = control.view};
  auto message = [&](auto change) {
    AdamW args = ok;
    change(args);
    return message_of([&] { ops.adamw(ex, args); });
  };
  CHECK(has(message([&](AdamW& o) { o.param = i.view; }), "param"));
  CHECK(has(message([&](AdamW& o) { o.master = b.view; }), "master"));
  CHECK(has(message([&](AdamW& o) { o.grad = b.view; }), "grad"));
  CHECK(has(message([&](AdamW& o) { o.m = b.view; }), "m of"));
  CHECK(has(message([&](AdamW& o) { o.v = b.view; }), "v of"));
  CHECK(has(message([&](AdamW& o) { o.step = 0; }), "step"));
  CHECK(has(message_of([&] { ops.gradient_control(ex, {.grads = {i.view}, .control = control.view}); }), "gradients"));
  CHECK(has(message_of([&] { ops.gradient_control(ex, {.grads = {a.view}, .control = b.view}); }), "control"));
}
