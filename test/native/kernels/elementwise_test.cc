#include "kernels/op_cases.h"

using namespace threefold;
using namespace threefold::test;
using namespace threefold::test::op_cases;

namespace {

constexpr int64_t kSizes[] = {0, 1, 7, 33, 1025, 40000};

}  // namespace

TEST(fill_writes_every_element_and_no_more) {
  for_each_device([] {
    for (DType d : {DType::f32, DType::i32})
      for (int64_t n : kSizes) {
        auto got = run([&](Exec& ex) {
          Buffer out(d, {n});
          ops.fill(ex, {.out = out.view, .value = -3});
          return std::vector<Buffer>{out};
        });
        CHECK(same_bits(got[0], Buffer(d, {n}, Values(n, -3))));
      }
  });
}

TEST(cast_rounds_to_nearest_even) {
  for_each_device([](DType d) {
    for (DType from : {DType::f32, DType::bf16, DType::f16})
      for (DType to : {d, DType::f16})
        for (int64_t n : kSizes) {
          Values x = random_values(1, n, 3.7);
          const double special[] = {INFINITY, -INFINITY, -0.0, 1 + 1.0 / 256, 1 + 3.0 / 256, 1e-40, 65519, 65520, 3e38};
          for (int64_t i = 0; i < std::min<int64_t>(n - 1, std::size(special)); ++i) x[i] = special[i];
          if (n > 0) x[n - 1] = NAN;
          Buffer in(from, {n}, x), want(to, {n});
          for (int64_t i = 0; i < n; ++i) want.set(i, in.get(i));
          auto got = run([&](Exec& ex) {
            Buffer out(to, {n});
            ops.cast(ex, {.in = in.view, .out = out.view});
            return std::vector<Buffer>{out};
          });
          for (int64_t i = 0; i < n; ++i) {
            double a = got[0].get(i), b = want.get(i);
            CHECK(std::isnan(b) ? std::isnan(a) : a == b && std::signbit(a) == std::signbit(b));
          }
        }
  });
}

TEST(add_adds_in_any_dtype_and_in_place) {
  for_each_device([](DType d) {
    for (int64_t n : kSizes) {
      Buffer a(d, {n}, random_values(1, n)), b(d, {n}, random_values(2, n)), want(d, {n});
      for (int64_t i = 0; i < n; ++i) want.set(i, a.get(i) + b.get(i));
      auto got = run([&](Exec& ex) {
        Buffer out(d, {n}), left(a), right(b);
        ops.add(ex, {.a = a.view, .b = b.view, .out = out.view});
        ops.add(ex, {.a = left.view, .b = b.view, .out = left.view});
        ops.add(ex, {.a = a.view, .b = right.view, .out = right.view});
        return std::vector<Buffer>{out, left, right};
      });
      for (const Buffer& out : got) CHECK(same_bits(out, want));
    }
  });
}

// torch.lerp(value, average, decay): one subtraction, one product, one subtraction, each rounded.
TEST(ema_moves_towards_the_value) {
  for_each_device([] {
    for (int64_t n : kSizes)
      for (float decay : {0.992f, 0.0f, 1.0f}) {
        Buffer average(DType::f32, {n}, random_values(1, n)), value(DType::f32, {n}, random_values(2, n)), want(DType::f32, {n});
        for (int64_t i = 0; i < n; ++i) {
          float a = float(average.get(i)), v = float(value.get(i));
          volatile float product = (a - v) * (1 - decay);
          want.set(i, a - product);
        }
        auto got = run([&](Exec& ex) {
          Buffer out(average);
          ops.ema(ex, {out.view, value.view, decay});
          return std::vector<Buffer>{out};
        });
        CHECK(same_bits(got[0], want));
        for (int64_t i = 0; i < n; ++i)
          CHECK(std::abs(got[0].get(i) - (decay * average.get(i) + (1 - double(decay)) * value.get(i))) <= 1e-6);
      }
  });
}

// Views that begin one element on: no address is aligned, and what lies around them stays.
TEST(elementwise_ops_take_any_address) {
  for_each_device([](DType d) {
    const int64_t n = 9000;
    Buffer a(d, {n + 2}, random_values(1, n + 2)), b(d, {n + 2}, random_values(2, n + 2)), sum(d, {n + 2});
    Buffer copied(d, {n + 2}), other(DType::f16, {n + 2}), filled(DType::f32, {n + 2});
    auto middle = [&](Buffer& x) { return x.view.at(1, {n}); };
    Exec& ex = machine(2).ex;
    ops.add(ex, {.a = middle(a), .b = middle(b), .out = middle(sum)});
    ops.cast(ex, {.in = middle(a), .out = middle(copied)});
    ops.cast(ex, {.in = middle(a), .out = middle(other)});
    ops.fill(ex, {.out = middle(filled), .value = 7});
    Buffer want_sum(d, {n + 2}), want_copy(d, {n + 2}), want_other(DType::f16, {n + 2}), want_filled(DType::f32, {n + 2});
    for (int64_t i = 1; i <= n; ++i) {
      want_sum.set(i, a.get(i) + b.get(i));
      want_copy.set(i, a.get(i)), want_other.set(i, a.get(i)), want_filled.set(i, 7);
    }
    CHECK(same_bits(sum, want_sum) && same_bits(copied, want_copy) && same_bits(other, want_other) && same_bits(filled, want_filled));
  });
}

TEST(elementwise_refuses_wrong_operands) {
  Exec& ex = machine(1).ex;
  Buffer a(DType::f32, {3}), b(DType::f32, {4}), h(DType::bf16, {3}), i(DType::i32, {3});
  CHECK(has(message_of([&] { ops.fill(ex, {.out = h.view}); }), "fill"));
  CHECK(has(message_of([&] { ops.cast(ex, {.in = a.view, .out = b.view}); }), "out"));
  CHECK(has(message_of([&] { ops.cast(ex, {.in = a.view, .out = i.view}); }), "int32"));
  CHECK(has(message_of([&] { ops.add(ex, {.a = a.view, .b = h.view, .out = a.view}); }), "b of fp32 [3]"));
  CHECK(has(message_of([&] { ops.ema(ex, {a.view, b.view, 0.5f}); }), "value of fp32 [3]"));
  CHECK(has(message_of([&] { ops.ema(ex, {h.view, a.view, 0.5f}); }), "average of fp32"));
  CHECK(has(message_of([&] { ops.add(ex, {.a = i.view, .b = i.view, .out = i.view}); }), "a of fp32"));
}

// The checks the op tests lean on must themselves be able to fail.
TEST(op_case_checks_can_fail) {
  Buffer one(DType::f32, {2}, {1, 2}), other(DType::f32, {2}, {1, 2.0001}), nan(DType::f32, {2}, {1, NAN});
  CHECK(!same_bits(one, other));
  CHECK_EQ(failure_count([&] { check_close("x", one, {1, 2}, 1e-6, 0); }), 0);
  CHECK_EQ(failure_count([&] { check_close("x", other, {1, 2}, 1e-6, 0); }), 1);
  CHECK_EQ(failure_count([&] { check_close("x", nan, {1, 2}, 1, 1); }), 1);
  CHECK_EQ(failure_count([&] { check_close("x", one, {1}, 1, 1); }), 1);
  int calls = 0;
  CHECK(failure_count([&] { run([&](Exec&) { return std::vector<Buffer>{Buffer(DType::f32, {1}, {double(calls++)})}; }); }) > 0);
  std::vector<void*> lost;
  CHECK_EQ(failure_count([&] {
             run([&](Exec& ex) {
               lost.push_back(ex.allocator.allocate(8, Category::workspace));  // not given back
               return std::vector<Buffer>{};
             });
           }), 3);
  for (int i = 0; i < 3; ++i) machine(i + 1).allocator.release(lost[i], 8, Category::workspace);
  Values g = gradient({3, 5}, [](const Values& x) { return x[0] * x[0] * x[1]; });
  CHECK_NEAR(g[0], 30, 1e-6);
  CHECK_NEAR(g[1], 9, 1e-6);
}
