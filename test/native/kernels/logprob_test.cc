#include "kernels/op_cases.h"

using namespace threefold;
using namespace threefold::test;
using namespace threefold::test::op_cases;

namespace {

struct Sizes {
  int64_t t, h, v, r;
  float inv_temperature;
  bool bias = false;
  float softcap = 0;
};
constexpr Sizes kCases[] = {{1, 1, 5, 1, 1},        {6, 7, 97, 4, 0.7f},   {5, 32, 1024, 5, 1},
                           {4, 33, 1025, 3, 1.3f}, {3, 100, 2500, 2, 1}, {2, 7, 1, 2, 1},
                           {6, 7, 97, 4, 0.7f, true}, {4, 33, 1025, 3, 1.3f, true, 2}, {5, 7, 1030, 5, 1, false, 5}};

struct Inputs {
  Values hidden, weight, rows, targets, dlogprobs, dentropy, dweight, bias, dbias;
  explicit Inputs(const Sizes& c)
      : hidden(random_values(1, c.t * c.h)), weight(random_values(2, c.v * c.h)), rows(random_rows(3, c.t, c.r)),
        targets(random_ids(4, c.r, c.v)), dlogprobs(random_values(5, c.r)), dentropy(random_values(6, c.r)),
        dweight(random_values(7, c.v * c.h)), bias(random_values(8, c.bias ? c.v : 0)), dbias(random_values(9, c.bias ? c.v : 0)) {}
};

struct Reference {
  Values logprobs, lse, entropy;
};
// A logit and its slope against what comes before the cap.
std::pair<double, double> logit_of(const Sizes& c, const double* hidden, const double* weight, double bias) {
  double x = bias;
  for (int64_t i = 0; i < c.h; ++i) x += hidden[i] * weight[i];
  if (c.softcap == 0) return {x, 1};
  double t = std::tanh(x / c.softcap);
  return {c.softcap * t, 1 - t * t};
}
Reference reference(const Sizes& c, const Values& hidden, const Values& weight, const Values& bias, const Values& rows,
                    const Values& targets) {
  Reference out;
  for (int64_t r = 0; r < c.r; ++r) {
    Values z(c.v);
    double max = -INFINITY, sum = 0, entropy = 0;
    for (int64_t v = 0; v < c.v; ++v) {
      z[v] = logit_of(c, &hidden[int64_t(rows[r]) * c.h], &weight[v * c.h], c.bias ? bias[v] : 0).first;
      max = std::max(max, z[v] *= double(c.inv_temperature));
    }
    for (double x : z) sum += std::exp(x - max);
    double lse = max + std::log(sum);
    for (double x : z) entropy -= std::exp(x - lse) * (x - lse);
    out.logprobs.push_back(z[int64_t(targets[r])] - lse);
    out.lse.push_back(lse);
    out.entropy.push_back(entropy);
  }
  return out;
}

// Inputs in storage, and a run of forward: logprobs, lse, entropy.
struct Stored {
  Buffer hidden, weight, bias;
  float softcap;
  Buffer rows, targets;
  View bias_view() const { return bias.view.numel() ? bias.view : View{}; }
  Stored(DType d, const Sizes& c, const Inputs& in)
      : hidden(d, {c.t, c.h}, in.hidden), weight(d, {c.v, c.h}, in.weight), bias(d, {c.bias ? c.v : 0}, in.bias),
        softcap(c.softcap), rows(DType::i32, {c.r}, in.rows),
        targets(DType::i32, {c.r}, in.targets) {}
};
std::vector<Buffer> forward(Exec& ex, const Stored& s, float inv_temperature, bool entropy = true) {
  Shape r = s.rows.view.shape;
  Buffer logprobs(DType::f32, r), lse(DType::f32, r), ent(DType::f32, r);
  ops.logprob_forward(ex, {.hidden = s.hidden.view, .weight = s.weight.view, .bias = s.bias_view(), .softcap = s.softcap, .rows = s.rows.view, .targets = s.targets.view,
                            .inv_temperature = inv_temperature, .logprobs = logprobs.view, .lse = lse.view,
                            .entropy = entropy ? ent.view : View{}});
  return {logprobs, lse, ent};
}
// On the CPU for several numbers of threads (run); blocks of a device do not know how many there are.
template <typename F>
std::vector<Buffer> run_here(F f) {
  return test_device()->on_cpu() ? run(f) : f(machine(2).ex);
}
// dhidden, dweight, dbias
std::vector<Buffer> backward(Exec& ex, const Stored& s, const Inputs& in, float inv_temperature, bool entropy) {
  Shape r = s.rows.view.shape;
  std::vector<Buffer> f = forward(ex, s, inv_temperature);
  Buffer dlogprobs(DType::f32, r, in.dlogprobs), dentropy(DType::f32, r, in.dentropy);
  Buffer dhidden(s.hidden.view.dtype, s.hidden.view.shape), dweight(DType::f32, s.weight.view.shape, in.dweight);
  Buffer dbias(DType::f32, s.bias.view.shape, in.dbias);
  LogprobBackward args{.hidden = s.hidden.view, .weight = s.weight.view, .bias = s.bias_view(), .softcap = s.softcap, .rows = s.rows.view, .targets = s.targets.view,
                       .inv_temperature = inv_temperature, .lse = f[1].view, .dlogprobs = dlogprobs.view,
                       .dhidden = dhidden.view, .dweight = dweight.view,
                       .dbias = s.bias.view.numel() ? dbias.view : View{}};
  if (entropy) args.entropy = f[2].view, args.dentropy = dentropy.view;
  ops.logprob_backward(ex, args);
  return {dhidden, dweight, dbias};
}

// Float64 gradients in closed form, for the sizes finite differences are too slow for; `sizes` are the same sums of
// magnitudes.
struct Gradients {
  Values hidden, weight, bias;
};
Gradients closed_form(const Sizes& c, const Inputs& in, bool entropy, Gradients* sizes = nullptr) {
  Reference f = reference(c, in.hidden, in.weight, in.bias, in.rows, in.targets);
  Values dhidden(c.t * c.h), dweight(c.v * c.h), dbias(c.bias ? c.v : 0);
  if (sizes) *sizes = {dhidden, dweight, dbias};
  for (int64_t r = 0; r < c.r; ++r) {
    int64_t row = int64_t(in.rows[r]) * c.h;
    for (int64_t v = 0; v < c.v; ++v) {
      auto [z, slope] = logit_of(c, &in.hidden[row], &in.weight[v * c.h], c.bias ? in.bias[v] : 0);
      double log_p = z * double(c.inv_temperature) - f.lse[r], p = std::exp(log_p);
      double d = in.dlogprobs[r] * ((v == int64_t(in.targets[r])) - p);
      if (entropy) d -= in.dentropy[r] * p * (log_p + f.entropy[r]);
      d *= double(c.inv_temperature) * slope;
      if (c.bias) dbias[v] += d;
      if (sizes && c.bias) sizes->bias[v] += std::abs(d);
      for (int64_t i = 0; i < c.h; ++i) {
        dhidden[row + i] += d * in.weight[v * c.h + i];
        dweight[v * c.h + i] += d * in.hidden[row + i];
        if (!sizes) continue;
        double size = std::max(std::abs(d), 0x1p-14);  // below it fp16 has steps of 2^-24
        sizes->hidden[row + i] += std::abs(size * in.weight[v * c.h + i]);
        sizes->weight[v * c.h + i] += std::abs(size * in.hidden[row + i]);
      }
    }
  }
  return {dhidden, dweight, dbias};
}

// check_close; where a device keeps the gradient of each logit in the model's own 16 bits, half a unit of them of all that
// is summed (`sizes`) comes on top.
void check_gradient(const char* what, DType d, const Buffer& got, const Values& want, const Values& sizes, double relative,
                    double absolute) {
  double rounding = d == DType::f32 || test_device()->on_cpu() ? 0 : d == DType::bf16 ? 0x1p-8 : 0x1p-11;
  if (rounding == 0) return check_close(what, got, want, relative, absolute);
  for (size_t i = 0; i < want.size(); ++i)
    CHECK_NEAR(got.get(int64_t(i)), want[i], relative * std::abs(want[i]) + absolute + rounding * sizes[i]);
}

}  // namespace

TEST(logprob_forward_matches_float64) {
  std::vector<Reference> want;
  for (const Sizes& c : kCases) {
    Inputs in(c);
    want.push_back(reference(c, in.hidden, in.weight, in.bias, in.rows, in.targets));
  }
  for_each_device([&](DType d) {
    for (size_t i = 0; i < std::size(kCases); ++i) {
      const Sizes& c = kCases[i];
      Stored s(d, c, Inputs(c));
      auto got = run_here([&](Exec& ex) { return forward(ex, s, c.inv_temperature); });
      check_close("logprobs", got[0], want[i].logprobs, 1e-6, 3e-6);
      check_close("lse", got[1], want[i].lse, 1e-6, 3e-6);
      check_close("entropy", got[2], want[i].entropy, 1e-6, 5e-6);
      CHECK(same_bits(got[0], forward(machine(1).ex, s, c.inv_temperature, false)[0]));  // entropy changes nothing
      if (c.v > 1) CHECK(failure_count([&] { check_close("logprobs", got[0], want[i].lse, 1e-6, 3e-6); }) > 0);
    }
  });
}

TEST(logprob_closed_form_gradient_agrees_with_finite_differences) {
  for (bool entropy : {false, true})
    for (const Sizes& c : {Sizes{6, 7, 97, 4, 0.7f}, Sizes{6, 7, 97, 4, 0.7f, true, 2}}) {
      Inputs in(c);
      auto loss = [&](const Values& hidden, const Values& weight, const Values& bias) {
        Reference f = reference(c, hidden, weight, bias, in.rows, in.targets);
        return inner(f.logprobs, in.dlogprobs) + (entropy ? inner(f.entropy, in.dentropy) : 0);
      };
      Gradients exact = closed_form(c, in, entropy);
      auto agree = [](const Values& a, const Values& b) {
        for (size_t i = 0; i < a.size(); ++i) CHECK_NEAR(a[i], b[i], 1e-7);
      };
      agree(exact.hidden, gradient(in.hidden, [&](const Values& x) { return loss(x, in.weight, in.bias); }));
      agree(exact.weight, gradient(in.weight, [&](const Values& w) { return loss(in.hidden, w, in.bias); }));
      agree(exact.bias, gradient(in.bias, [&](const Values& b) { return loss(in.hidden, in.weight, b); }));
    }
}

TEST(logprob_backward_matches_float64) {
  for (bool entropy : {false, true})
    for (const Sizes& c : kCases) {
      Inputs in(c);
      Gradients sizes, exact = closed_form(c, in, entropy, &sizes);
      Values total = plus(exact.weight, in.dweight), total_bias = plus(exact.bias, in.dbias);
      for_each_device([&](DType d) {
        Stored s(d, c, in);
        auto got = run_here([&](Exec& ex) { return backward(ex, s, in, c.inv_temperature, entropy); });
        check_gradient("dhidden", d, got[0], exact.hidden, sizes.hidden, relative_of(d), 3e-6);
        check_gradient("dweight", d, got[1], total, sizes.weight, 2e-6, 3e-6);
        check_gradient("dbias", d, got[2], total_bias, sizes.bias, 2e-6, 3e-6);
        if (c.v > 1)
          CHECK(failure_count([&] { check_gradient("dweight", d, got[1], in.dweight, sizes.weight, 2e-6, 3e-6); }) > 0);
      });
    }
}

// Contract 1 for the head: 600 rows cross a block of rows, 1030 columns a tile of the vocabulary.
TEST(logprob_rows_do_not_depend_on_the_batch) {
  for_each_device([](DType d) {
    Sizes c{640, 33, 1030, 600, 0.9f};
    Inputs in(c);
    Stored s(d, c, in);
    std::vector<Buffer> all = forward(machine(2).ex, s, c.inv_temperature);
    Sizes alone{1, c.h, c.v, 1, c.inv_temperature};
    for (int64_t r : {0, 1, 7, 299, 511, 512, 513, 599}) {
      Inputs one(alone);
      int64_t row = int64_t(in.rows[r]);
      one.hidden.assign(in.hidden.begin() + row * c.h, in.hidden.begin() + (row + 1) * c.h);
      one.weight = in.weight;
      one.targets = {in.targets[r]};
      std::vector<Buffer> got = forward(machine(1).ex, Stored(d, alone, one), c.inv_temperature);
      for (int i = 0; i < 3; ++i) CHECK_EQ(got[i].get(0), all[i].get(r));
    }
  });
}

// Blocks of rows add up to the whole gradient: 2060 rows are more than one on any device.
TEST(logprob_backward_crosses_row_blocks) {
  Sizes c{2063, 3, 11, 2060, 1};
  Inputs in(c);
  Gradients sizes, exact = closed_form(c, in, true, &sizes);
  Values total = plus(exact.weight, in.dweight);
  for_each_device([&](DType d) {
    Stored s(d, c, in);
    auto got = backward(machine(2).ex, s, in, c.inv_temperature, true);
    check_gradient("dhidden", d, got[0], exact.hidden, sizes.hidden, relative_of(d), 3e-6);
    check_gradient("dweight", d, got[1], total, sizes.weight, 2e-6, 2e-5);
  });
}

// 32800 columns are more than one piece of the vocabulary on any device; their number is odd in 16-byte units.
TEST(logprob_crosses_pieces_of_the_vocabulary) {
  Sizes c{2, 2, 32801, 2, 1.5f};
  Inputs in(c);
  in.targets = {32767, 32800};
  Reference want = reference(c, in.hidden, in.weight, in.bias, in.rows, in.targets);
  Gradients sizes, exact = closed_form(c, in, true, &sizes);
  Values total = plus(exact.weight, in.dweight);
  for_each_device([&](DType d) {
    Stored s(d, c, in);
    auto got = forward(machine(2).ex, s, c.inv_temperature);
    check_close("logprobs", got[0], want.logprobs, 1e-6, 3e-6);
    check_close("lse", got[1], want.lse, 1e-6, 3e-6);
    check_close("entropy", got[2], want.entropy, 1e-6, 5e-6);
    auto grads = backward(machine(2).ex, s, in, c.inv_temperature, true);
    check_gradient("dhidden", d, grads[0], exact.hidden, sizes.hidden, relative_of(d), 3e-6);
    check_gradient("dweight", d, grads[1], total, sizes.weight, 2e-6, 3e-6);
  });
}

TEST(logprob_survives_large_logits) {
  Sizes c{2, 1, 3, 2, 1};
  Inputs in(c);
  in.hidden = {1, -1};
  in.weight = {1000, 0, -1000};
  in.rows = {0, 1};
  in.targets = {0, 0};
  for_each_device([&](DType d) {
    Stored s(d, c, in);
    auto got = forward(machine(1).ex, s, 1);
    check_close("logprobs", got[0], {0, -2000}, 0, 1e-30);
    check_close("entropy", got[2], {0, 0}, 0, 1e-30);
    for (const Buffer& g : backward(machine(1).ex, s, in, 1, true))
      for (int64_t i = 0; i < g.view.numel(); ++i) CHECK(std::isfinite(g.get(i)));
  });
}

// The largest logit far above a whole later tile, and far below a later one.
TEST(logprob_survives_a_wide_spread_over_tiles) {
  for_each_device([](DType d) {
    Sizes c{1, 1, 2100, 1, 1};
    Inputs in(c);
    in.hidden = {1};
    in.targets = {3};
    for (double top : {512.0, -512.0}) {
      std::fill(in.weight.begin(), in.weight.end(), -top);
      in.weight[3] = top;
      auto got = forward(machine(1).ex, Stored(d, c, in), 1);
      double lse = top > 0 ? top : -top + std::log(2099.0);
      check_close("logprobs", got[0], {top - lse}, 1e-6, 1e-30);
      check_close("lse", got[1], {lse}, 1e-6, 0);
      check_close("entropy", got[2], {lse - std::abs(top)}, 1e-6, 1e-30);
    }
  });
}

TEST(logprob_of_no_rows_only_clears_dhidden) {
  Sizes c{3, 4, 5, 0, 1};
  Inputs in(c);
  for_each_device([&](DType d) {
    Stored s(d, c, in);
    auto got = backward(machine(1).ex, s, in, 1, true);
    check_close("dhidden", got[0], Values(12, 0.0), 0, 1e-30);
    check_close("dweight", got[1], in.dweight, 0, 1e-30);
  });
}

TEST(logprob_refuses_wrong_operands) {
  Sizes c{6, 7, 97, 4, 1};
  Inputs in(c);
  auto message = [&](auto change) {
    Inputs wrong = in;
    Stored s(DType::f32, c, wrong);
    change(s);
    return message_of([&] { forward(machine(1).ex, s, 1); });
  };
  auto backward_message = [&](auto change) {
    Stored s(DType::f32, c, in);
    Buffer lse(DType::f32, {4}, {1, 1, 1, 1}), dlogprobs(DType::f32, {4}, in.dlogprobs), dhidden(DType::f32, {6, 7});
    change(s);
    return message_of([&] {
      ops.logprob_backward(machine(1).ex, {.hidden = s.hidden.view, .weight = s.weight.view, .rows = s.rows.view,
                                           .targets = s.targets.view, .lse = lse.view, .dlogprobs = dlogprobs.view,
                                           .dhidden = dhidden.view});
    });
  };
  for_each_device([&] {
    CHECK_EQ(message([](Stored&) {}), std::string());
    CHECK(has(message([](Stored& s) { s.targets.set(2, 97); }), "[logprob_forward] expected targets from 0 and below 97, received 97 at position 2"));
    CHECK(has(message([](Stored& s) { s.targets.set(0, -1); }), "-1 at position 0"));
    CHECK(has(message([](Stored& s) { s.rows.set(1, -1); }), "rows from 0 and below 6, received -1 at position 1"));
    CHECK(has(message([](Stored& s) { s.rows.set(3, 6); }), "6 at position 3"));
    CHECK(has(message([](Stored& s) { s.rows.set(1, s.rows.get(0)); }), "twice"));
    CHECK_EQ(backward_message([](Stored&) {}), std::string());
    CHECK(has(backward_message([](Stored& s) { s.rows.set(3, 6); }), "[logprob_backward] expected rows from 0 and below 6"));
    CHECK(has(backward_message([](Stored& s) { s.targets.set(3, 1000000); }), "1000000 at position 3"));
    CHECK(has(message([](Stored& s) { s.weight.view.dtype = DType::bf16; }), "weight"));
    CHECK(has(message([](Stored& s) { s.targets.view.shape = {3}; }), "targets"));
  });
}
