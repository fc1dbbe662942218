#include "kernels/op_cases.h"

using namespace threefold;
using namespace threefold::test;
using namespace threefold::test::op_cases;

namespace {

constexpr double kEps = 1e-5;

// [T, H]; an empty bias is none.
Values norm(bool rms, const Values& x, const Values& weight, const Values& bias, double offset = 0) {
  size_t h = weight.size();
  Values y(x.size());
  for (size_t r = 0; r < x.size(); r += h) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < h && !rms; ++i) mean += x[r + i] / double(h);
    for (size_t i = 0; i < h; ++i) variance += (x[r + i] - mean) * (x[r + i] - mean) / double(h);
    for (size_t i = 0; i < h; ++i)
      y[r + i] = (x[r + i] - mean) / std::sqrt(variance + kEps) * (weight[i] + offset) + (bias.empty() ? 0 : bias[i]);
  }
  return y;
}

struct Sizes {
  bool rms, bias;
  int64_t t, h;
  float offset = 0;  // of the weight, as in Gemma
};
const Sizes kCases[] = {{false, true, 3, 1},  {false, true, 5, 7},  {false, true, 70, 33}, {false, false, 4, 32},
                       {false, true, 2, 100}, {true, false, 5, 7}, {true, false, 70, 33}, {true, false, 2, 100},
                       {true, false, 4, 32}, {true, true, 1, 1},   {true, false, 70, 33, 1},
                       {false, true, 5, 7, 0.5f}};

struct Inputs {
  Values x, weight, bias, dout, residual, dweight, dbias;
  explicit Inputs(const Sizes& c)
      : x(random_values(1, c.t * c.h)), weight(random_values(2, c.h)), bias(random_values(3, c.bias ? c.h : 0)),
        dout(random_values(4, c.t * c.h)), residual(random_values(5, c.t * c.h)), dweight(random_values(6, c.h)),
        dbias(random_values(7, c.h)) {
    if (c.h == 1)  // keep the one value away from 0, where RMSNorm of one number turns over
      for (double& v : x) v = v < 0 ? v - 0.5 : v + 0.5;
  }
};

// out, mean, rstd; with the residual added, into memory of its own or its place.
std::vector<Buffer> forward(Exec& ex, DType d, const Sizes& c, const Inputs& in, bool residual = false, bool in_place = false) {
  Buffer x(d, {c.t, c.h}, in.x), w(d, {c.h}, in.weight), b(d, {c.h}, in.bias), out(d, {c.t, c.h});
  Buffer mean(DType::f32, {c.t}), rstd(DType::f32, {c.t});
  Buffer skip(d, {c.t, c.h}, in.residual);
  ops.norm_forward(ex, {.rms = c.rms, .eps = float(kEps), .weight_offset = c.offset, .x = x.view, .weight = w.view,
                         .bias = c.bias ? b.view : View{}, .residual = residual ? skip.view : View{},
                         .out = in_place ? skip.view : out.view, .mean = mean.view, .rstd = rstd.view});
  return {in_place ? skip : out, mean, rstd};
}

// dx, dweight, dbias; `alias`: dx is the same memory as 1 dout, 2 residual_grad.
std::vector<Buffer> backward(Exec& ex, DType d, const Sizes& c, const Inputs& in, bool residual, int alias) {
  std::vector<Buffer> f = forward(ex, d, c, in);
  Buffer x(d, {c.t, c.h}, in.x), w(d, {c.h}, in.weight), dout(d, {c.t, c.h}, in.dout);
  Buffer skip(d, {c.t, c.h}, in.residual), dx(d, {c.t, c.h});
  Buffer dw(DType::f32, {c.h}, in.dweight), db(DType::f32, {c.h}, in.dbias);
  View to = alias == 1 ? dout.view : alias == 2 ? skip.view : dx.view;
  ops.norm_backward(ex, {.rms = c.rms, .weight_offset = c.offset, .x = x.view, .weight = w.view, .mean = f[1].view, .rstd = f[2].view,
                          .dout = dout.view, .dx = to, .residual_grad = residual ? skip.view : View{},
                          .dweight = dw.view, .dbias = c.bias ? db.view : View{}});
  return {alias == 1 ? dout : alias == 2 ? skip : dx, dw, db};
}

}  // namespace

TEST(norm_forward_matches_float64) {
  for_each_device([](DType d) {
    for (const Sizes& c : kCases) {
      Inputs in(c);
      auto out = run([&](Exec& ex) { return forward(ex, d, c, in); });
      Values want = norm(c.rms, in.x, in.weight, in.bias, c.offset);
      check_close("norm", out[0], want, relative_of(d), 3e-6);
      auto joined = run([&](Exec& ex) { return forward(ex, d, c, in, true); });
      check_close("norm + residual", joined[0], plus(want, in.residual), relative_of(d), 3e-6);
      CHECK(same_bits(joined[0], forward(machine(2).ex, d, c, in, true, true)[0]));
    }
  });
}

TEST(norm_backward_matches_finite_differences) {
  std::vector<Values> dx, dweight, dbias;
  for (const Sizes& c : kCases) {
    Inputs in(c);
    auto loss = [&](const Values& x, const Values& w, const Values& b) { return inner(norm(c.rms, x, w, b, c.offset), in.dout); };
    dx.push_back(gradient(in.x, [&](const Values& x) { return loss(x, in.weight, in.bias); }));
    dweight.push_back(plus(gradient(in.weight, [&](const Values& w) { return loss(in.x, w, in.bias); }), in.dweight));
    dbias.push_back(in.dbias);
    if (c.bias) dbias.back() = plus(gradient(in.bias, [&](const Values& b) { return loss(in.x, in.weight, b); }), in.dbias);
  }
  for_each_device([&](DType d) {
    for (size_t i = 0; i < std::size(kCases); ++i) {
      Inputs in(kCases[i]);
      for (bool residual : {false, true}) {
        auto got = run([&](Exec& ex) { return backward(ex, d, kCases[i], in, residual, 0); });
        check_close("dx", got[0], residual ? plus(dx[i], in.residual) : dx[i], relative_of(d), 1e-5);
        check_close("dweight", got[1], dweight[i], 2e-6, 1e-5);
        check_close("dbias", got[2], dbias[i], 2e-6, 1e-5);
        for (int alias : {1, 2}) {
          if (alias == 2 && !residual) continue;
          CHECK(same_bits(got[0], backward(machine(2).ex, d, kCases[i], in, residual, alias)[0]));
        }
      }
    }
  });
}

namespace {

// dx, dweight, dbias by the formula, in float64.
std::vector<Values> derivatives(const Sizes& c, const Inputs& in) {
  Values dx(c.t * c.h), dweight = in.dweight, dbias = in.dbias, xhat(c.h), g(c.h);
  double h = double(c.h);
  for (int64_t t = 0; t < c.t; ++t) {
    const double *x = &in.x[t * c.h], *dy = &in.dout[t * c.h];
    double mean = 0, variance = 0, sum = 0, dot = 0;
    for (int64_t i = 0; i < c.h && !c.rms; ++i) mean += x[i] / h;
    for (int64_t i = 0; i < c.h; ++i) variance += (x[i] - mean) * (x[i] - mean) / h;
    double rstd = 1 / std::sqrt(variance + kEps);
    for (int64_t i = 0; i < c.h; ++i) {
      xhat[i] = (x[i] - mean) * rstd, g[i] = dy[i] * (in.weight[i] + c.offset);
      if (!c.rms) sum += g[i] / h;
      dot += g[i] * xhat[i] / h;
      dweight[i] += dy[i] * xhat[i];
      if (c.bias) dbias[i] += dy[i];
    }
    for (int64_t i = 0; i < c.h; ++i) dx[t * c.h + i] = rstd * (g[i] - sum - xhat[i] * dot);
  }
  return {dx, dweight, dbias};
}

}  // namespace

// Rows for whole blocks, in and out of registers, aligned or not, and more rows than one piece.
TEST(norm_long_rows_match_float64) {
  for (const Sizes& c : {Sizes{false, true, 9, 600}, {true, false, 3, 1027, 1}, {false, true, 2, 9000}, {true, true, 1, 16391},
                         {false, true, 600, 8}}) {
    Inputs in(c);
    Values want = plus(norm(c.rms, in.x, in.weight, in.bias, c.offset), in.residual);
    std::vector<Values> slopes = derivatives(c, in);
    for_each_device([&](DType d) {
      auto out = run([&](Exec& ex) { return forward(ex, d, c, in, true); });
      check_close("norm", out[0], want, relative_of(d), 1e-5);  // the CPU sums thousands in one fp32 chain
      auto got = run([&](Exec& ex) { return backward(ex, d, c, in, true, 0); });
      check_close("dx", got[0], plus(slopes[0], in.residual), relative_of(d), 1e-5);
      check_close("dweight", got[1], slopes[1], 2e-6, 2e-5);
      check_close("dbias", got[2], slopes[2], 2e-6, 2e-5);
      for (int alias : {1, 2})
        if (c.h < 10000) CHECK(same_bits(got[0], backward(machine(2).ex, d, c, in, true, alias)[0]));
    });
  }
}

// Rows that begin anywhere give the bits of rows that are aligned.
TEST(norm_bits_do_not_depend_on_the_address) {
  for_each_device([](DType d) {
    for (int64_t h : {40, 1040}) {
      int64_t t = 3;
      Buffer x(d, {t, h}, random_values(1, t * h)), w(d, {h}, random_values(2, h)), dout(d, {t, h}, random_values(3, t * h));
      Buffer out(d, {t, h}), dx(d, {t, h});
      Buffer moved(d, {t * h + 1}), moved_out(d, {t * h + 1}), moved_dx(d, {t * h + 1}), rstd(DType::f32, {t});
      for (int64_t i = 0; i < t * h; ++i) moved.set(i + 1, x.get(i));
      Buffer dw(DType::f32, {h}, Values(h)), moved_dw(dw);
      auto both = [&](const View& x, const View& out, const View& dx, const View& dw) {
        ops.norm_forward(machine(2).ex, {.rms = true, .x = x, .weight = w.view, .out = out, .rstd = rstd.view});
        ops.norm_backward(machine(2).ex, {.rms = true, .x = x, .weight = w.view, .mean = {}, .rstd = rstd.view,
                                           .dout = dout.view, .dx = dx, .dweight = dw});
      };
      both(x.view, out.view, dx.view, dw.view);
      both(moved.view.at(1, {t, h}), moved_out.view.at(1, {t, h}), moved_dx.view.at(1, {t, h}), moved_dw.view);
      CHECK(moved_out.same(1, out, 0, t * h) && moved_dx.same(1, dx, 0, t * h) && same_bits(dw, moved_dw));
    }
  });
}

TEST(norm_rows_do_not_depend_on_the_batch) {
  for_each_device([](DType d) {
    for (int64_t h : {33, 600}) {
      Sizes whole{false, true, 40, h}, alone{false, true, 1, h};
      Inputs in(whole), one(alone);
      one.weight = in.weight;
      one.bias = in.bias;
      Buffer all = forward(machine(2).ex, d, whole, in)[0];
      for (int64_t t = 0; t < whole.t; ++t) {
        one.x.assign(in.x.begin() + t * h, in.x.begin() + (t + 1) * h);
        Buffer row = forward(machine(1).ex, d, alone, one)[0];
        CHECK(!std::memcmp(row.view.data, all.view.rows(t, t + 1).data, h * size_of(d)));
      }
    }
  });
}

TEST(norm_check_sees_the_wrong_norm) {
  Sizes c{false, true, 5, 7};
  Inputs in(c);
  Buffer out = forward(machine(1).ex, DType::f32, c, in)[0];
  CHECK(failure_count([&] { check_close("norm", out, norm(true, in.x, in.weight, in.bias), 2e-6, 3e-6); }) > 0);
}

TEST(norm_refuses_wrong_operands) {
  Buffer x(DType::f32, {3, 4}), w(DType::f32, {5}), ok(DType::f32, {4}), rows(DType::f32, {3});
  Exec& ex = machine(1).ex;
  CHECK(has(message_of([&] { ops.norm_forward(ex, {.x = x.view, .weight = w.view, .out = x.view}); }), "weight"));
  CHECK(has(message_of([&] { ops.norm_forward(ex, {.x = x.view, .weight = ok.view, .bias = w.view, .out = x.view}); }), "bias"));
  CHECK(has(message_of([&] { ops.norm_forward(ex, {.x = x.view, .weight = ok.view, .out = w.view}); }), "out"));
  CHECK(has(message_of([&] { ops.norm_backward(ex, {.x = x.view, .weight = ok.view, .mean = {}, .rstd = {}, .dout = x.view, .dx = x.view}); }), "rstd"));
  CHECK(has(message_of([&] {
              ops.norm_backward(ex, {.rms = true, .x = x.view, .weight = ok.view, .mean = {}, .rstd = rows.view, .dout = w.view, .dx = x.view});
            }), "dout"));
}

// --- RMSNorm of each query and key head ---------------------------------------------------------------------------------

namespace {

struct HeadCase {
  AttentionShape s;
  int64_t t;
  float offset;
  Values qkv, dout, q_weight, k_weight;
  HeadCase(int64_t heads, int64_t kv_heads, int64_t d, int64_t tokens, float by)
      : s{heads, kv_heads, d}, t(tokens), offset(by), qkv(random_values(11, tokens * s.row())),
        dout(random_values(12, tokens * s.row())), q_weight(random_values(13, d)), k_weight(random_values(14, d)) {}
};
// Heads that fill 1 to 32 lanes of a warp, whole and in part; more heads than one pass of a block; pieces of tokens that end
// in the middle.
const HeadCase kHeadCases[] = {{4, 2, 16, 5, 0}, {3, 1, 5, 70, 1}, {2, 2, 33, 3, 0}, {9, 3, 256, 1, 0}, {40, 8, 72, 2, 1}, {1, 1, 1, 17, 0}};

Values head_norm(const HeadCase& c, const Values& qkv, const Values& qw, const Values& kw) {
  Values out = qkv;
  int64_t d = c.s.head_dim;
  for (int64_t t = 0; t < c.t; ++t)
    for (int64_t n = 0; n < c.s.heads + c.s.kv_heads; ++n) {
      auto at = qkv.begin() + t * c.s.row() + n * d;
      Values y = norm(true, Values(at, at + d), n < c.s.heads ? qw : kw, {}, c.offset);
      std::copy(y.begin(), y.end(), out.begin() + t * c.s.row() + n * d);
    }
  return out;
}

// dqkv, dq_weight, dk_weight
std::vector<Buffer> head_backward(Exec& ex, DType d, const HeadCase& c) {
  Buffer qkv(d, {c.t, c.s.row()}, c.qkv), dqkv(d, {c.t, c.s.row()}, c.dout), q(d, {c.s.head_dim}, c.q_weight),
      k(d, {c.s.head_dim}, c.k_weight), dq(DType::f32, {c.s.head_dim}, c.k_weight), dk(DType::f32, {c.s.head_dim}, c.q_weight);
  ops.head_norm_backward(ex, {.shape = c.s, .eps = float(kEps), .weight_offset = c.offset, .qkv = qkv.view, .q_weight = q.view,
                               .k_weight = k.view, .dqkv = dqkv.view, .dq_weight = dq.view, .dk_weight = dk.view});
  return {dqkv, dq, dk};
}

}  // namespace

TEST(head_norm_forward_matches_float64) {
  for_each_device([](DType d) {
    for (const HeadCase& c : kHeadCases) {
      Buffer qkv(d, {c.t, c.s.row()}, c.qkv), q(d, {c.s.head_dim}, c.q_weight), k(d, {c.s.head_dim}, c.k_weight);
      auto got = run([&](Exec& ex) {
        Buffer out(d, {c.t, c.s.row()});
        ops.head_norm_forward(ex, {.shape = c.s, .eps = float(kEps), .weight_offset = c.offset, .qkv = qkv.view,
                                    .q_weight = q.view, .k_weight = k.view, .out = out.view});
        return std::vector<Buffer>{out};
      });
      check_close("head norm", got[0], head_norm(c, c.qkv, c.q_weight, c.k_weight), relative_of(d), 3e-6);
      CHECK(failure_count([&] {
              check_close("head norm", got[0], head_norm(c, c.qkv, c.k_weight, c.q_weight), relative_of(d), 3e-6);
            }) > 0);
      ops.head_norm_forward(machine(1).ex, {.shape = c.s, .eps = float(kEps), .weight_offset = c.offset, .qkv = qkv.view,
                                             .q_weight = q.view, .k_weight = k.view, .out = qkv.view});
      CHECK(same_bits(qkv, got[0]));
    }
  });
}

TEST(head_norm_rows_do_not_depend_on_the_batch_or_alignment) {
  for_each_device([](DType d) {
    const HeadCase c(3, 1, 40, 9, 0);
    int64_t ld = c.s.row(), bytes = ld * size_of(d);
    Buffer qkv(d, {c.t, ld}, c.qkv), q(d, {40}, c.q_weight), k(d, {40}, c.k_weight), out(d, {c.t, ld});
    auto norm_rows = [&](View x, View y) {
      ops.head_norm_forward(machine(1).ex, {.shape = c.s, .eps = float(kEps), .qkv = x, .q_weight = q.view, .k_weight = k.view, .out = y});
    };
    norm_rows(qkv.view, out.view);
    for (int64_t t = 0; t < c.t; ++t) {
      Buffer moved(d, {1 + ld}), to(d, {1 + ld});
      std::memcpy(moved.bytes.data() + size_of(d), qkv.bytes.data() + t * bytes, size_t(bytes));
      norm_rows(moved.view.at(1, {1, ld}), to.view.at(1, {1, ld}));
      CHECK(to.same(1, out, t * ld, ld));
    }
  });
}

TEST(head_norm_backward_matches_finite_differences) {
  for (const HeadCase& c : kHeadCases) {
    auto loss = [&](const Values& x, const Values& q, const Values& k) { return inner(head_norm(c, x, q, k), c.dout); };
    Values dx = gradient(c.qkv, [&](const Values& x) { return loss(x, c.q_weight, c.k_weight); });
    Values dq = plus(gradient(c.q_weight, [&](const Values& w) { return loss(c.qkv, w, c.k_weight); }), c.k_weight);
    Values dk = plus(gradient(c.k_weight, [&](const Values& w) { return loss(c.qkv, c.q_weight, w); }), c.q_weight);
    for_each_device([&](DType d) {
      auto got = run([&](Exec& ex) { return head_backward(ex, d, c); });
      check_close("dqkv", got[0], dx, relative_of(d), 2e-5);
      check_close("dq_weight", got[1], dq, 2e-6, 1e-5);
      check_close("dk_weight", got[2], dk, 2e-6, 1e-5);
    });
  }
}

TEST(head_norm_refuses_wrong_operands) {
  AttentionShape s{2, 1, 8};
  Buffer qkv(DType::f32, {3, 32}), w(DType::f32, {8}), wrong(DType::f32, {7});
  auto error = [&](const Buffer& q, const Buffer& k, const Buffer& out) {
    return message_of([&] {
      ops.head_norm_forward(machine(1).ex, {.shape = s, .qkv = qkv.view, .q_weight = q.view, .k_weight = k.view, .out = out.view});
    });
  };
  CHECK_EQ(error(w, w, qkv), std::string());
  CHECK(has(error(wrong, w, qkv), "q_weight"));
  CHECK(has(error(w, wrong, qkv), "k_weight"));
  CHECK(has(error(w, w, wrong), "out"));
}
