// matmul and column_sum against float64, for every form, storage type and instruction set, and their promise that a row
// does not depend on the other rows or on the threads.
#include <bit>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "buffers.h"
#include "kernels/cuda/cuda.h"

namespace threefold::test {
namespace {

using buffers::Machine;

// A tensor of reproducible numbers in [-1, 1), rounded to its dtype; `gap` elements of NaN follow it.
struct Matrix {
  SharedVector<float> wide;
  SharedVector<uint16_t> narrow;  // bits of the 16-bit types
  View view;
  Matrix(DType t, Shape shape, uint32_t seed) : wide(shape.numel() + 1), narrow(shape.numel() + 1) {
    for (float& v : wide) {
      seed = seed * 1664525u + 1013904223u;
      v = float(int32_t(seed)) * 0x1p-31f;
    }
    wide.back() = NAN;
    for (size_t i = 0; i < wide.size(); ++i) narrow[i] = t == DType::f16 ? to_f16(wide[i]).bits : to_bf16(wide[i]).bits;
    view = {t == DType::f32 ? static_cast<void*>(wide.data()) : narrow.data(), t, shape};
  }
  Matrix(const Matrix&) = delete;
  double get(int64_t i) const {
    if (view.dtype == DType::f32) return wide[i];
    return view.dtype == DType::f16 ? to_float(f16{narrow[i]}) : to_float(bf16{narrow[i]});
  }
  bool fenced() const { return std::isnan(get(int64_t(wide.size()) - 1)); }
};

Shape matrix(bool transposed, int64_t rows, int64_t cols) { return transposed ? Shape{cols, rows} : Shape{rows, cols}; }

struct Form {
  int64_t m, n, k;
  bool trans_a, trans_b;
  DType a, b, out;
  bool bias, residual, accumulate;
  Act act;
};

double act_of(Act a, double x) {
  if (a == Act::relu) return x > 0 ? x : 0;
  if (a == Act::silu) return x / (1 + std::exp(-x));
  if (a == Act::gelu_erf) return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
  if (a == Act::gelu_tanh) return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  return x;
}

// One form's numbers and what float64 makes of them, for every device.
class Reference {
 public:
  explicit Reference(const Form& f) : f_(f), a_(f.a, matrix(f.trans_a, f.m, f.k), 1), b_(f.b, matrix(f.trans_b, f.k, f.n), 2),
                                      bias_(f.b, {f.n}, 4), residual_(f.out, {f.m, f.n}, 5) {
    std::vector<double> x(size_t(f.m * f.k)), y(size_t(f.n * f.k));  // K-contiguous
    for (int64_t i = 0; i < f.m * f.k; ++i) x[size_t(i)] = a_.get(f.trans_a ? i % f.k * f.m + i / f.k : i);
    for (int64_t i = 0; i < f.n * f.k; ++i) y[size_t(i)] = b_.get(f.trans_b ? i : i % f.k * f.n + i / f.k);
    Matrix before(f.out, {f.m, f.n}, 3);
    double step = f.out == DType::f32 ? 0x1p-23 : f.out == DType::bf16 ? 0x1p-8 : 0x1p-11;
    for (int64_t i = 0; i < f.m; ++i)
      for (int64_t j = 0; j < f.n; ++j) {
        double sum = 0, size = 1;
        for (int64_t p = 0; p < f.k; ++p) {
          double term = x[size_t(i * f.k + p)] * y[size_t(j * f.k + p)];
          sum += term, size += std::abs(term);
        }
        if (f.bias) sum += bias_.get(j);
        double added = (f.residual ? residual_.get(i * f.n + j) : 0) + (f.accumulate ? before.get(i * f.n + j) : 0);
        want_.push_back(act_of(f.act, sum) + added);
        bound_.push_back(size * 8 * 0x1p-23 + (std::abs(want_.back()) + 1) * step);
      }
  }

  // Largest error over its bound on the device in use; at most 1 when right. `spoil` is added to one element of the reference.
  double worst_error(double spoil = 0) const {
    Machine machine(2);
    Matrix out(f_.out, {f_.m, f_.n}, 3);
    Matmul o{.a = a_.view, .b = b_.view, .out = out.view, .trans_a = f_.trans_a, .trans_b = f_.trans_b, .act = f_.act,
             .accumulate = f_.accumulate};
    if (f_.bias) o.bias = bias_.view;
    if (f_.residual) o.residual = residual_.view;
    ops.matmul(machine.ex, o);
    CHECK(out.fenced());
    double worst = 0;
    for (size_t i = 0; i < want_.size(); ++i) {
      double want = want_[i] + (i + 1 == want_.size() ? spoil : 0), error = std::abs(out.get(int64_t(i)) - want);
      worst = std::max(worst, error <= bound_[i] ? error / bound_[i] : std::max(error / bound_[i], 2.0));
      if (std::isnan(error)) worst = INFINITY;
    }
    return worst;
  }

 private:
  Form f_;
  Matrix a_, b_, bias_, residual_;
  std::vector<double> want_, bound_;
};

void check_on_every_device(const Form& f) {
  Reference reference(f);
  for_each_device([&] { CHECK_NEAR(reference.worst_error(), 0, 1); });
}

constexpr DType F = DType::f32, H = DType::bf16, S = DType::f16;

}  // namespace

TEST(matmul_every_form_and_dtype_matches_float64) {
  for (bool trans_a : {false, true})
    for (bool trans_b : {false, true})
      for (auto [a, b, out] : {std::array{F, F, F}, {F, F, H}, {F, H, F}, {F, H, H}, {H, F, F}, {H, F, H}, {H, H, F}, {H, H, H}, {S, S, S}, {S, S, F}, {F, S, S}, {S, F, F}})
            for (auto [m, n, k] : {std::array<int64_t, 3>{1, 1, 1}, {3, 7, 17}, {17, 3, 64}, {31, 97, 5}, {26, 19, 131}})
              check_on_every_device({m, n, k, trans_a, trans_b, a, b, out, false, false, false, Act::none});
}

TEST(matmul_across_blocks_and_chunks_matches_float64) {
  for (auto [m, n, k] : {std::array<int64_t, 3>{1, 130, 2100}, {7, 65, 1025}, {97, 130, 64}, {201, 17, 129}, {2, 3, 1024}, {64, 64, 7}})
    for (bool trans_a : {false, true})
      for (bool trans_b : {false, true}) {
        check_on_every_device({m, n, k, trans_a, trans_b, F, F, F, false, false, false, Act::none});
        check_on_every_device({m, n, k, trans_a, trans_b, F, F, F, false, false, true, Act::none});
        check_on_every_device({m, n, k, trans_a, trans_b, F, H, H, true, true, false, Act::silu});
      }
}

TEST(matmul_epilogues_match_float64) {
  for (Act act : {Act::none, Act::relu, Act::gelu_tanh, Act::gelu_erf, Act::silu})
    for (bool bias : {false, true})
      for (bool residual : {false, true})
        for (DType t : {F, H, S})
          for (bool trans_b : {false, true})
            check_on_every_device({13, 35, 40, false, trans_b, t, t, t, bias, residual, false, act});
}

TEST(matmul_sees_a_wrong_reference) {
  Form f{5, 9, 33, false, true, F, F, F, true, false, false, Act::none};
  CHECK_NEAR(Reference(f).worst_error(), 0, 1);
  CHECK(Reference(f).worst_error(1e-3) > 1);
  f.out = H;
  CHECK(Reference(f).worst_error(0.5) > 1);
}

TEST(matmul_empty_sizes) {
  for (DType t : {F, H, S})
    for (bool trans_a : {false, true})
      for (bool trans_b : {false, true}) {
        for (auto [m, n, k] : {std::array<int64_t, 3>{0, 3, 2}, {3, 0, 2}, {0, 0, 0}})
          check_on_every_device({m, n, k, trans_a, trans_b, t, t, F, false, false, false, Act::none});
        for (DType out : {F, H}) {  // an empty sum is 0, whatever was there
          check_on_every_device({3, 50, 0, trans_a, trans_b, t, t, out, false, false, false, Act::none});
          check_on_every_device({3, 50, 0, trans_a, trans_b, t, t, out, true, true, false, Act::silu});
        }
        check_on_every_device({3, 5, 0, trans_a, trans_b, t, t, F, false, false, true, Act::none});
      }
}

// Sizes around the tiles and the chunks of tensor cores.
TEST(matmul_of_bf16_across_tiles_matches_float64) {
  for (auto [m, n, k] : {std::array<int64_t, 3>{127, 129, 511}, {128, 128, 512}, {129, 127, 513}, {72, 136, 1096}, {257, 260, 64}})
    for (bool trans_a : {false, true})
      for (bool trans_b : {false, true}) {
        check_on_every_device({m, n, k, trans_a, trans_b, H, H, F, false, false, trans_a, Act::none});
        check_on_every_device({m, n, k, trans_a, trans_b, H, H, H, true, true, false, Act::relu});
      }
}

// Small integers, whose products and sums are exact in every order, so that one element in a wrong place shows in any type.
struct Integers {
  buffers::Buffer a, b;
  buffers::Values sums;
  Integers(DType t, int64_t m, int64_t n, int64_t k, bool trans_a, bool trans_b)
      : a(filled(t, matrix(trans_a, m, k), 1)), b(filled(t, matrix(trans_b, k, n), 2)) {
    std::vector<int> x(size_t(m * k)), y(size_t(n * k));  // K-contiguous
    for (int64_t i = 0; i < m * k; ++i) x[size_t(i)] = int(a.get(trans_a ? i % k * m + i / k : i));
    for (int64_t i = 0; i < n * k; ++i) y[size_t(i)] = int(b.get(trans_b ? i : i % k * n + i / k));
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j)
        sums.push_back(std::inner_product(&x[size_t(i * k)], &x[size_t(i * k)] + k, &y[size_t(j * k)], 0));
  }
  static buffers::Buffer filled(DType t, Shape shape, uint64_t seed) {
    buffers::Buffer x(t, shape);
    for (int64_t i = 0; i < shape.numel(); ++i) x.set(i, double(philox_at(seed, 3, uint64_t(i))[0] % 15) - 7);
    return x;
  }
};

// With the last two sizes the tiles of wgmma are 128 and 192 high on the 4 multiprocessors of the emulated device.
TEST(matmul_of_small_integers_is_exact) {
  for (DType t : {F, H})
    for (auto [m, n, k] : {std::array<int64_t, 3>{1, 72, 600}, {5, 136, 64}, {24, 40, 1096}, {64, 64, 72}, {70, 33, 47},
                           {120, 392, 136}, {184, 400, 200}})
      for (bool trans_a : {false, true})
        for (bool trans_b : {false, true}) {
          Integers given(t, m, n, k, trans_a, trans_b);
          for (DType out_type : {F, H}) {
            buffers::Buffer want(out_type, {m, n}, given.sums);
            for_each_device([&] {
              if (!test_device()->on_cpu() && t == F && m * n * k > 1 << 20) return;  // slow
              Machine machine(2);
              buffers::Buffer out(out_type, {m, n});
              ops.matmul(machine.ex, {.a = given.a.view, .b = given.b.view, .out = out.view, .trans_a = trans_a,
                                      .trans_b = trans_b});
              CHECK(same_bits(out, want));
            });
          }
        }
}

// fp16, which the op's check does not let through yet.
TEST(matmul_of_fp16_is_exact_on_cuda) {
  for (auto [m, n, k] : {std::array<int64_t, 3>{5, 72, 600}, {70, 136, 64}, {3, 9, 33}})
    for (bool trans_a : {false, true})
      for (bool trans_b : {false, true}) {
        Integers given(DType::f16, m, n, k, trans_a, trans_b);
        buffers::Buffer want(DType::f16, {m, n}, given.sums);
        for_each_device([&] {
          if (test_device()->on_cpu()) return;
          Machine machine(2);
          buffers::Buffer out(DType::f16, {m, n});
          Exec ex{machine.pool, machine.allocator, test_device()->backend->gpu()};
          cuda::matmul(ex, {.a = given.a.view, .b = given.b.view, .out = out.view, .trans_a = trans_a, .trans_b = trans_b});
          CHECK(same_bits(out, want));
        });
      }
}

// Operands, bias, residual and output one element past an aligned address: another way to the same bits.
TEST(matmul_of_unaligned_operands_gives_the_same_bits) {
  for_each_device([](DType t) {
    for (auto [m, n, k] : {std::array<int64_t, 3>{3, 40, 528}, {67, 72, 64}, {136, 136, 72}})
      for (bool trans_a : {false, true})
        for (bool trans_b : {false, true}) {
          auto run = [&](int64_t off) {
            Machine machine(2);
            auto place = [&](Shape shape, uint64_t seed) {
              buffers::Buffer x(t, {shape.numel() + off});
              buffers::Values v = buffers::random_values(seed, shape.numel());
              for (int64_t i = 0; i < shape.numel(); ++i) x.set(off + i, v[size_t(i)]);
              return x;
            };
            buffers::Buffer a = place(matrix(trans_a, m, k), 1), b = place(matrix(trans_b, k, n), 2), bias = place({n}, 3),
                            residual = place({m, n}, 4), out(t, {m * n + off});
            ops.matmul(machine.ex, {.a = a.view.at(off, matrix(trans_a, m, k)), .b = b.view.at(off, matrix(trans_b, k, n)),
                                    .out = out.view.at(off, {m, n}), .bias = bias.view.at(off, {n}),
                                    .residual = residual.view.at(off, {m, n}), .trans_a = trans_a, .trans_b = trans_b,
                                    .act = Act::silu});
            for (int64_t i = 0; i < off; ++i) CHECK(std::isnan(out.get(i)));
            CHECK(std::isnan(out.get(m * n + off)));
            buffers::Values values = out.values();
            return buffers::Values(values.begin() + off, values.end());
          };
          CHECK(run(0) == run(1));
        }
  });
}

// Contract 1: the bits of a row are the same alone, among any number of rows, and for any number of threads.
TEST(matmul_row_does_not_depend_on_other_rows_or_threads) {
  for_each_device([] {
    bool cpu = test_device()->on_cpu();  // where every number of rows costs little
    for (auto [n, k] : {std::pair<int64_t, int64_t>{130, 1100}, {7, 33}, {136, 1096}})
      for (DType a_type : {F, H})
        for (DType b_type : {F, H})
          for (bool trans_b : {true, false}) {
            if (k == 1096 && (a_type == F || b_type == F)) continue;  // for the copy engine, which takes rows of whole packs
            Matrix a(a_type, {200, k}, 11), b(b_type, matrix(trans_b, k, n), 12), bias(b_type, {n}, 13);
            auto run = [&](int threads, int64_t first, int64_t m) {
              Machine machine(threads);
              Matrix out(F, {m, n}, 14);
              ops.matmul(machine.ex, {.a = a.view.rows(first, first + m), .b = b.view, .out = out.view, .bias = bias.view,
                                       .trans_b = trans_b, .act = Act::gelu_tanh});
              out.wide.pop_back();
              return out.wide;
            };
            SharedVector<float> all = run(2, 0, 200);
            auto agrees = [&](int64_t first, const SharedVector<float>& part) {
              for (size_t i = 0; i < part.size(); ++i)
                if (std::bit_cast<uint32_t>(part[i]) != std::bit_cast<uint32_t>(all[size_t(first * n) + i])) return false;
              return true;
            };
            using Sizes = std::vector<int64_t>;
            for (int64_t threads : cpu ? Sizes{1, 3} : Sizes{1}) CHECK(agrees(0, run(int(threads), 0, 200)));
            for (int64_t row : cpu ? Sizes{0, 1, 5, 63, 199} : Sizes{63}) CHECK(agrees(row, run(2, row, 1)));
            for (int64_t m : cpu ? Sizes{2, 3, 4, 5, 6, 7, 8, 13, 23, 24, 25, 26, 48, 97, 199} : Sizes{13, 64, 65})
              CHECK(agrees(200 - m, run(2, 200 - m, m)));
          }
  });
}

// The few rows of decoding have kernels of their own, whose bits are those of large tiles.
TEST(matmul_of_few_rows_gives_the_bits_of_many) {
  for_each_device([] {
    for (auto [n, k] : {std::pair<int64_t, int64_t>{40, 600}, {33, 75}})
      for (auto [a_type, b_type] : {std::pair{F, F}, {H, H}, {H, F}}) {
        Matrix a(a_type, {130, k}, 11), b(b_type, {n, k}, 12), all(F, {130, n}, 13);
        Machine machine(2);
        ops.matmul(machine.ex, {.a = a.view, .b = b.view, .out = all.view});
        for (int64_t m = 1; m <= 65; m += a_type == b_type ? 1 : 8) {
          Matrix out(F, {m, n}, 14);
          ops.matmul(machine.ex, {.a = a.view.rows(65, 65 + m), .b = b.view, .out = out.view});
          CHECK(out.fenced());
          CHECK(!std::memcmp(out.wide.data(), all.wide.data() + 65 * n, size_t(m * n) * sizeof(float)));
        }
      }
  });
}

TEST(matmul_residual_may_be_out) {
  Machine machine(2);
  Matrix a(F, {9, 20}, 1), b(F, {11, 20}, 2), out(F, {9, 11}, 3), apart(F, {9, 11}, 4), residual(F, {9, 11}, 3);
  ops.matmul(machine.ex, {.a = a.view, .b = b.view, .out = out.view, .residual = out.view});
  ops.matmul(machine.ex, {.a = a.view, .b = b.view, .out = apart.view, .residual = residual.view});
  for (int64_t i = 0; i < 99; ++i) CHECK_EQ(out.wide[i], apart.wide[i]);
}

TEST(matmul_names_the_wrong_operand) {
  Machine machine(2);
  Matrix a(F, {4, 5}, 1), b(F, {3, 5}, 2), c(F, {4, 3}, 3), h(H, {4, 3}, 4), v(F, {3}, 5);
  auto run = [&](Matmul o) { ops.matmul(machine.ex, o); };
  CHECK_THROWS(run({.a = a.view, .b = b.view, .out = a.view}), "expected b of fp32 [5, 5]");
  CHECK_THROWS(run({.a = a.view, .b = v.view, .out = c.view}), "expected b with 2 dimensions");
  CHECK_THROWS(run({.a = b.view, .b = b.view, .out = c.view}), "expected a of fp32 [4, 5], received fp32 [3, 5]");
  CHECK_THROWS(run({.a = a.view, .b = b.view, .out = c.view, .bias = c.view}), "expected bias of fp32 [3]");
  CHECK_THROWS(run({.a = a.view, .b = b.view, .out = c.view, .residual = h.view}), "expected residual of fp32 [4, 3]");
  CHECK_THROWS(run({.a = a.view, .b = b.view, .out = h.view, .accumulate = true}), "expected an fp32 output to accumulate into");
  CHECK_THROWS(run({.a = a.view, .b = b.view, .out = c.view, .bias = v.view, .accumulate = true}), "with accumulate");
}

TEST(matmul_counts_its_scratch_and_gives_it_back) {
  Machine machine(2);
  Matrix a(H, {100, 300}, 1), b(H, {70, 300}, 2), out(H, {100, 70}, 3);
  ops.matmul(machine.ex, {.a = a.view, .b = b.view, .out = out.view});
  auto stats = machine.allocator.stats();
  CHECK_EQ(stats.total, 0);
  CHECK(stats.peak[size_t(Category::workspace)] > 0);
}

TEST(column_sum_matches_float64_for_any_threads) {
  for_each_device([] {
    for (auto [t, n] : {std::pair<int64_t, int64_t>{0, 5}, {1, 1}, {3, 17}, {700, 300}, {257, 530}})
      for (DType type : {F, H}) {
        Matrix x(type, {t, n}, 21);
        std::vector<SharedVector<float>> results;
        for (int threads : {1, 2, 3}) {
          Machine machine(threads);
          Matrix out(F, {n}, 22);
          SharedVector<float> before = out.wide;
          ops.column_sum(machine.ex, {.x = x.view, .out = out.view});
          CHECK(out.fenced());
          for (int64_t j = 0; j < n; ++j) {
            double want = before[j];
            for (int64_t i = 0; i < t; ++i) want += x.get(i * n + j);
            CHECK_NEAR(out.wide[j], want, 1e-6 * double(t + 1));
          }
          out.wide.pop_back();
          results.push_back(out.wide);
        }
        CHECK(results[0] == results[1] && results[0] == results[2]);
      }
  });
  Machine machine(2);
  Matrix x(F, {3, 4}, 1), out(F, {5}, 2);
  CHECK_THROWS(ops.column_sum(machine.ex, {.x = x.view, .out = out.view}), "expected out of fp32 [4], received fp32 [5]");
}

}  // namespace threefold::test
