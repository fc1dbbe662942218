// The vector primitives on every instruction set this CPU has: values against float64, sums against their promised order.
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "check.h"
#include "kernels/cpu/isa.h"

namespace threefold::test {
namespace {

using cpu::isa;
constexpr float kInf = std::numeric_limits<float>::infinity();

void for_each_device(const std::function<void()>& body) {
  const char* before = isa().name;
  for (const char* name : cpu::available_isas()) {
    cpu::select_isa(name);
    body();
  }
  cpu::select_isa(before);
}

// Reproducible numbers in [-1, 1).
std::vector<float> numbers(int64_t n, uint32_t seed = 1) {
  std::vector<float> x(n);
  for (float& v : x) {
    seed = seed * 1664525u + 1013904223u;
    v = float(int32_t(seed)) * 0x1p-31f;
  }
  return x;
}

bool same_bits(float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); }
bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (!same_bits(a[i], b[i])) return false;
  return a.size() == b.size();
}

// Distance in units of the last place of a float.
double ulps(float got, double want) {
  float w = float(want);
  return std::abs(double(got) - want) / (double(std::nextafter(std::abs(w), kInf)) - std::abs(w));
}

const std::vector<int64_t> kLengths = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 259};

double act_reference(Act a, double x) {
  switch (a) {
    case Act::none: return x;
    case Act::relu: return x > 0 ? x : 0;
    case Act::silu: return x / (1 + std::exp(-x));
    case Act::gelu_erf: return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
    case Act::gelu_tanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  }
  return NAN;
}
double dact_reference(Act a, double x) {
  double s = 1 / (1 + std::exp(-x)), u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x), t = std::tanh(u);
  switch (a) {
    case Act::none: return 1;
    case Act::relu: return x > 0;
    case Act::silu: return s * (1 + x * (1 - s));
    case Act::gelu_erf: return 0.5 * std::erfc(-x * std::sqrt(0.5)) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
    case Act::gelu_tanh:
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
  }
  return NAN;
}

}  // namespace

TEST(isa_names_and_selection) {
  auto names = cpu::available_isas();
  CHECK_EQ(std::string(names.front()), "portable");
  CHECK_THROWS(cpu::select_isa("mmx"), "[select_isa] expected an instruction set this CPU has (portable");
  for_each_device([&] { CHECK(isa().name != nullptr); });
  cpu::select_isa("portable");
  CHECK_EQ(std::string(isa().name), "portable");
  cpu::select_isa(names.back());
}

TEST(isa_sums_match_float64_at_any_length_and_alignment) {
  for_each_device([] {
    for (int64_t n : kLengths) {
      auto x = numbers(n + 8, 3), y = numbers(n + 8, 5);
      double sum = 0, dot = 0, square = 0, top = -kInf;
      for (int64_t i = 0; i < n; ++i) {
        sum += x[i], dot += double(x[i]) * y[i], square += (x[i] - 0.25) * (x[i] - 0.25);
        top = std::max(top, double(x[i]));
      }
      CHECK_NEAR(isa().sum(x.data(), n), sum, 2e-6 * double(n + 1));
      CHECK_NEAR(isa().dot(x.data(), y.data(), n), dot, 2e-6 * double(n + 1));
      CHECK_NEAR(isa().sum_squared_diff(x.data(), 0.25f, n), square, 2e-6 * double(n + 1));
      CHECK_EQ(double(isa().max(x.data(), n)), top);
      for (int64_t shift = 1; shift < 8; ++shift) {
        std::vector<float> moved(n + 16, 7.0f);  // what follows the row must not count
        std::copy_n(x.begin(), n, moved.begin() + shift);
        CHECK(same_bits(isa().sum(moved.data() + shift, n), isa().sum(x.data(), n)));
        CHECK_EQ(double(isa().max(moved.data() + shift, n)), top);
      }
    }
    std::vector<float> low = {-3, -2, -5};
    CHECK_EQ(isa().max(low.data(), 3), -2.0f);
  });
}

TEST(isa_elementwise_rows_write_only_their_elements) {
  for_each_device([] {
    for (int64_t n : kLengths) {
      auto x = numbers(n, 7), y = numbers(n, 9), w = numbers(n, 11);
      std::vector<float> a(n + 1, 42.0f), b = a, c = a, d = a, e = a, f = a;
      std::copy(y.begin(), y.end(), a.begin());
      std::copy(x.begin(), x.end(), b.begin());
      isa().axpy(0.5f, x.data(), a.data(), n);  // 0.5 x is exact: fused or not, one rounding
      isa().scale(1.5f, b.data(), n);
      isa().add(x.data(), y.data(), c.data(), n);
      isa().mul(x.data(), y.data(), d.data(), n);
      isa().normalize(x.data(), 0.1f, 2.0f, w.data(), y.data(), e.data(), n);
      isa().normalize(x.data(), 0.1f, 2.0f, w.data(), nullptr, f.data(), n);
      for (int64_t i = 0; i < n; ++i) {
        CHECK_EQ(a[i], 0.5f * x[i] + y[i]);
        CHECK_EQ(b[i], 1.5f * x[i]);
        CHECK_EQ(c[i], x[i] + y[i]);
        CHECK_EQ(d[i], x[i] * y[i]);
        CHECK_EQ(f[i], (x[i] - 0.1f) * 2.0f * w[i]);
        CHECK_EQ(e[i], f[i] + y[i]);
      }
      for (auto* v : {&a, &b, &c, &d, &e, &f}) CHECK_EQ((*v)[n], 42.0f);
    }
  });
}

namespace {

// Rows of 16 bits round like the scalar conversion, and widen exactly; NaN stays NaN, with whatever payload.
template <typename Half>
void round_trip(const float* x, int64_t n, void (*narrow_row)(const float*, Half*, int64_t), void (*widen_row)(const Half*, float*, int64_t),
                Half (*one)(float)) {
  std::vector<Half> narrow(n + 1, Half{0x1234});
  narrow_row(x, narrow.data(), n);
  int wrong = 0;
  for (int64_t i = 0; i < n; ++i) wrong += std::isnan(x[i]) ? !std::isnan(to_float(narrow[i])) : narrow[i].bits != one(x[i]).bits;
  CHECK_EQ(wrong, 0);
  CHECK_EQ(narrow[n].bits, 0x1234);
  std::vector<float> wide(n + 1, 42.0f);
  widen_row(narrow.data(), wide.data(), n);
  for (int64_t i = 0; i < n; ++i) wrong += std::isnan(x[i]) ? !std::isnan(wide[i]) : !same_bits(wide[i], to_float(narrow[i]));
  CHECK_EQ(wrong, 0);
  CHECK_EQ(wide[n], 42.0f);
}

}  // namespace

TEST(isa_rows_of_16_bits_round_like_the_scalar_conversion) {
  std::vector<float> x;
  for (uint32_t i = 0; i < 70000; ++i) x.push_back(std::bit_cast<float>(i * 61356u + 12345u));  // all exponents, NaN too
  for (uint32_t low : {0x7fffu, 0x8000u, 0x8001u, 0x18000u}) x.push_back(std::bit_cast<float>(0x3f800000u + low));
  for (uint32_t i = 0; i < 70000; ++i) x.push_back(std::bit_cast<float>(0x33000000u + i * 3001u));  // those of fp16, subnormal ones too
  for (float v : {65504.0f, 65519.0f, 65520.0f, 0x1p-24f, 0x1p-25f, 0x1.8p-25f, 1 + 0x1p-11f, 1 + 0x3p-11f}) x.push_back(v);
  for (float v : {0.0f, -0.0f, kInf, -kInf, std::nanf("")}) x.push_back(v);
  for_each_device([&] {
    for (int64_t n : {int64_t(x.size()), int64_t(1), int64_t(5), int64_t(13)}) {
      round_trip<bf16>(x.data() + x.size() - n, n, isa().narrow_bf16, isa().widen_bf16, to_bf16);
      round_trip<f16>(x.data() + x.size() - n, n, isa().narrow_f16, isa().widen_f16, to_f16);
    }
  });
}

TEST(isa_exp_is_within_two_ulp_and_safe_at_the_ends) {
  for_each_device([] {
    std::vector<float> x;
    for (float v = -87.3f; v < 88.7f; v += 0.00713f) x.push_back(v);
    auto e = x;
    isa().exp_sum(e.data(), 0, int64_t(e.size()));
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, ulps(e[i], std::exp(double(x[i]))));
    CHECK_NEAR(worst, 0, 2);
    std::vector<float> ends = {-kInf, -1000, -88, 0, 88.8f, 1000, kInf, std::nanf("")};
    isa().exp_sum(ends.data(), 0, 8);
    for (int i : {0, 1, 2}) CHECK(same_bits(ends[i], 0));
    CHECK_EQ(ends[3], 1.0f);
    for (int i : {4, 5, 6}) CHECK_EQ(ends[i], kInf);
    CHECK(std::isnan(ends[7]));
    for (int64_t n : kLengths) {
      auto y = numbers(n + 1, 13);
      float after = y[n];
      double want = 0;
      for (int64_t i = 0; i < n; ++i) want += std::exp(double(y[i]) - 0.5);
      CHECK_NEAR(isa().exp_sum(y.data(), 0.5f, n), want, 1e-6 * (want + 1));
      CHECK_EQ(y[n], after);
    }
  });
}

TEST(isa_activations_match_float64) {
  std::vector<float> x;
  for (float v = -30; v < 30; v += 0.0037f) x.push_back(v);
  for (float v : {-1e30f, -200.0f, 200.0f, 1e30f, 0.0f}) x.push_back(v);
  auto dy = numbers(int64_t(x.size()), 17);
  for_each_device([&] {
    for (Act a : {Act::none, Act::relu, Act::silu, Act::gelu_erf, Act::gelu_tanh}) {
      auto y = x, dx = dy;
      isa().act(a, x.data(), y.data(), int64_t(x.size()));
      isa().dact(a, x.data(), dy.data(), dx.data(), int64_t(x.size()));
      double worst = 0, slope = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        double want = act_reference(a, x[i]);
        worst = std::max(worst, std::abs(y[i] - want) / std::max(1.0, std::abs(want)));
        slope = std::max(slope, std::abs(dx[i] - dact_reference(a, x[i]) * dy[i]));
      }
      CHECK_NEAR(worst, 0, 2e-7);
      CHECK_NEAR(slope, 0, a == Act::gelu_tanh ? 1e-6 : 4e-7);
      float nan = std::nanf("");
      isa().act(a, &nan, &nan, 1);
      CHECK(std::isnan(nan));
    }
  });
}

TEST(isa_softcap_matches_float64) {
  for_each_device([&] {
    for (float cap : {1.0f, 30.0f, 50.0f}) {
      std::vector<float> x;
      for (float v = -20 * cap; v < 20 * cap; v += 0.0123f * cap) x.push_back(v);
      for (float v : {0.0f, 1e-30f, -1e-6f, 0.62f * cap, 0.63f * cap, 1e30f, -INFINITY}) x.push_back(v);
      auto y = x;
      isa().softcap(cap, y.data(), int64_t(x.size()));
      double worst = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        double want = cap * std::tanh(double(x[i]) / cap);
        worst = std::max(worst, std::abs(y[i] - want) / std::max(1e-30, std::abs(want)));
      }
      CHECK_NEAR(worst, 0, 4e-7);  // relative, near 0 too
    }
    float nan = std::nanf("");
    isa().softcap(30, &nan, 1);
    CHECK(std::isnan(nan));
  });
}

TEST(isa_adamw_follows_torch) {
  const double lr = 1e-3, decay = 0.1, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  for_each_device([&] {
    for (int64_t n : {1, 5, 16, 37}) {
      auto p = numbers(n, 19), g = numbers(n, 21);
      std::vector<float> m(n), v(n);
      std::vector<double> P(p.begin(), p.end()), M(n), V(n);
      for (int step = 1; step <= 5; ++step) {
        double correct1 = 1 - std::pow(beta1, step), correct2 = 1 - std::pow(beta2, step);
        isa().adamw(p.data(), g.data(), m.data(), v.data(), n, 0.5f, float(1 - lr * decay), float(beta1), float(beta2),
                    float(eps), float(lr / correct1), float(1 / std::sqrt(correct2)));
        for (int64_t i = 0; i < n; ++i) {
          double grad = 0.5 * g[i];
          P[i] *= 1 - lr * decay;
          M[i] += (1 - beta1) * (grad - M[i]);
          V[i] = beta2 * V[i] + (1 - beta2) * grad * grad;
          P[i] -= lr / correct1 * M[i] / (std::sqrt(V[i]) / std::sqrt(correct2) + eps);
        }
      }
      for (int64_t i = 0; i < n; ++i) CHECK_NEAR(p[i], P[i], 4e-7);
    }
  });
}

TEST(isa_dot_tiles_do_not_depend_on_the_tile) {
  for_each_device([] {
    for (int64_t k : {0, 1, 3, 7, 16, 33, 100, 517}) {
      const int64_t m = 31, n = 27;
      auto a = numbers(m * k + 1, 23), b = numbers(n * k + 1, 25);
      std::vector<float> one(m * n);
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) one[i * n + j] = isa().dot(&a[i * k], &b[j * k], k);
      for (int64_t rows = 1; rows <= m; ++rows) {
        std::vector<float> c(m * n, 42.0f), twice;
        isa().dot_f32(a.data(), k, rows, b.data(), k, n, k, c.data(), n, false);
        CHECK(std::equal(c.begin(), c.begin() + rows * n, one.begin(), [](float x, float y) { return same_bits(x, y); }));
        CHECK(rows == m || c[rows * n] == 42.0f);
        if (rows > 7) continue;
        for (int64_t cols = 1; cols <= n; ++cols) {
          std::vector<float> d(rows * cols, 2.0f);
          isa().dot_f32(a.data(), k, rows, b.data(), k, cols, k, d.data(), cols, true);
          for (int64_t i = 0; i < rows * cols; ++i) CHECK(same_bits(d[i], 2.0f + one[i / cols * n + i % cols]));
        }
      }
      const std::vector<float> exact = b;
      auto as_half = [&]<typename Half>(Half, auto narrow_row, auto widen_row, auto dot) {
        std::vector<Half> narrow(exact.size());
        narrow_row(exact.data(), narrow.data(), int64_t(narrow.size()));
        widen_row(narrow.data(), b.data(), int64_t(narrow.size()));
        for (int64_t rows : {1, 2, 5, 31}) {
          std::vector<float> c(rows * n), d(rows * n);
          isa().dot_f32(a.data(), k, rows, b.data(), k, n, k, c.data(), n, false);
          dot(a.data(), k, rows, narrow.data(), k, n, k, d.data(), n, false);
          CHECK(same_bits(c, d));
        }
      };
      as_half(bf16{}, isa().narrow_bf16, isa().widen_bf16, isa().dot_bf16);
      as_half(f16{}, isa().narrow_f16, isa().widen_f16, isa().dot_f16);
    }
  });
}

TEST(isa_outer_resumes_where_it_stopped) {
  for_each_device([] {
    for (auto [m, n, k] : {std::array<int64_t, 3>{1, 1, 1}, {3, 5, 9}, {8, 48, 40}, {9, 49, 33}, {17, 130, 70}, {31, 24, 12}})
      for (bool transposed : {false, true}) {
        auto a = numbers(m * k, 27), b = numbers(k * n, 29);
        int64_t row = transposed ? 1 : k, col = transposed ? m : 1;
        std::vector<float> whole(m * n, 42.0f), pieces = whole, single = whole;
        isa().outer(a.data(), row, col, m, b.data(), n, n, k, whole.data(), n, false);
        for (int64_t p = 0; p < k; p += 7)
          isa().outer(a.data() + p * col, row, col, m, b.data() + p * n, n, n, std::min<int64_t>(7, k - p), pieces.data(), n, p > 0);
        CHECK(same_bits(whole, pieces));
        for (int64_t i = 0; i < m; ++i)
          for (int64_t j = 0; j < n; ++j) {
            double want = 0;
            for (int64_t p = 0; p < k; ++p) want += double(a[i * row + p * col]) * b[p * n + j];
            CHECK_NEAR(whole[i * n + j], want, 1e-6 * double(k));
            isa().outer(&a[i * row], row, col, 1, &b[j], n, 1, k, &single[i * n + j], n, false);
          }
        CHECK(same_bits(whole, single));
      }
  });
}

}  // namespace threefold::test
