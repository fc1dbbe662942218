#include "kernels/op_cases.h"

using namespace threefold;
using namespace threefold::test;
using namespace threefold::test::op_cases;

namespace {

struct Sizes {
  int64_t t, h, r;
};
constexpr Sizes kCases[] = {{1, 1, 1},   {9, 7, 4},   {5, 32, 5},     {600, 33, 580},
                            {12, 100, 1}, {4, 300, 0}, {20, 1104, 13}, {2, 17000, 2}};

Values values_of(const Values& hidden, const Values& weight, const Values& rows) {
  size_t h = weight.size();
  Values out;
  for (double row : rows) {
    double s = 0;
    for (size_t i = 0; i < h; ++i) s += hidden[size_t(row) * h + i] * weight[i];
    out.push_back(s);
  }
  return out;
}

}  // namespace

TEST(value_forward_matches_float64) {
  for_each_device([](DType d) {
    for (auto [t, h, r] : kCases) {
      Values x = random_values(1, t * h), w = random_values(2, h), chosen = random_rows(3, t, r);
      Buffer hidden(d, {t, h}, x), weight(d, {h}, w), rows(DType::i32, {r}, chosen);
      auto got = run([&](Exec& ex) {
        Buffer values(DType::f32, {r});
        ops.value_forward(ex, {.hidden = hidden.view, .weight = weight.view, .rows = rows.view, .values = values.view});
        return std::vector<Buffer>{values};
      });
      check_close("values", got[0], values_of(x, w, chosen), 2e-6, h > 10000 ? 5e-5 : 5e-6);  // sums of about h / 3
    }
  });
}

TEST(value_backward_matches_float64) {
  for_each_device([](DType d) {
    for (auto [t, h, r] : kCases) {
      Values x = random_values(1, t * h), w = random_values(2, h), chosen = random_rows(3, t, r), dv = random_values(4, r);
      Values dhidden(t * h), dweight = random_values(5, h);
      Buffer hidden(d, {t, h}, x), weight(d, {h}, w), rows(DType::i32, {r}, chosen), dvalues(DType::f32, {r}, dv);
      Buffer before(DType::f32, {h}, dweight);
      for (int64_t i = 0; i < r; ++i)
        for (int64_t j = 0; j < h; ++j) {
          dhidden[int64_t(chosen[i]) * h + j] = dv[i] * w[j];
          dweight[j] += dv[i] * x[int64_t(chosen[i]) * h + j];
        }
      auto got = run([&](Exec& ex) {
        Buffer dx(d, {t, h}), dw(before);
        ops.value_backward(ex, {.hidden = hidden.view, .weight = weight.view, .rows = rows.view,
                                 .dvalues = dvalues.view, .dhidden = dx.view, .dweight = dw.view});
        return std::vector<Buffer>{dx, dw};
      });
      check_close("dhidden", got[0], dhidden, relative_of(d), 1e-9 + smallest_of(d));
      check_close("dweight", got[1], dweight, 2e-6, 1e-5);
      if (r) CHECK(failure_count([&] { check_close("dweight", got[1], random_values(5, h), 2e-6, 1e-5); }) > 0);
    }
  });
}

TEST(value_rows_do_not_depend_on_the_batch) {
  for_each_device([](DType d) {
    for (auto [t, h] : {std::pair<int64_t, int64_t>{600, 100}, {40, 1104}}) {
      Buffer hidden(d, {t, h}, random_values(1, t * h)), weight(d, {h}, random_values(2, h));
      Buffer rows(DType::i32, {t}, random_rows(3, t, t)), all(DType::f32, {t}), one(DType::f32, {1});
      ops.value_forward(machine(3).ex, {.hidden = hidden.view, .weight = weight.view, .rows = rows.view, .values = all.view});
      for (int64_t i = 0; i < t; ++i) {
        ops.value_forward(machine(1).ex, {.hidden = hidden.view, .weight = weight.view, .rows = rows.view.rows(i, i + 1), .values = one.view});
        CHECK_EQ(one.get(0), all.get(i));
      }
    }
  });
}

TEST(value_refuses_wrong_operands) {
  Exec& ex = machine(1).ex;
  Buffer hidden(DType::f32, {3, 4}), weight(DType::f32, {4}), bad(DType::f32, {5}), out(DType::f32, {2});
  Buffer outside(DType::i32, {2}, {0, 3}), below(DType::i32, {2}, {-1, 0}), twice(DType::i32, {2}, {1, 1});
  Buffer rows(DType::i32, {2}, {2, 0});
  auto forward = [&](const View& w, const View& r, const View& v) {
    return message_of([&] { ops.value_forward(ex, {.hidden = hidden.view, .weight = w, .rows = r, .values = v}); });
  };
  auto backward = [&](const View& r) {
    Buffer dhidden(DType::f32, {3, 4}), dweight(DType::f32, {4});
    return message_of([&] {
      ops.value_backward(ex, {.hidden = hidden.view, .weight = weight.view, .rows = r, .dvalues = out.view,
                               .dhidden = dhidden.view, .dweight = dweight.view});
    });
  };
  for_each_device([&] {
    CHECK(has(forward(bad.view, rows.view, out.view), "weight"));
    CHECK(has(forward(weight.view, outside.view, out.view),
              "[value_forward] expected rows from 0 and below 3, received 3 at position 1"));
    CHECK(has(forward(weight.view, below.view, out.view), "-1 at position 0"));
    CHECK(has(forward(weight.view, twice.view, out.view), "each row at most once, received row 1 twice"));
    CHECK(has(forward(weight.view, rows.view, bad.view), "values"));
    CHECK(has(backward(outside.view), "[value_backward] expected rows from 0 and below 3, received 3 at position 1"));
    CHECK(has(backward(below.view), "-1 at position 0"));
    CHECK(has(backward(twice.view), "row 1 twice"));
    CHECK_EQ(backward(rows.view), std::string());
  });
}
