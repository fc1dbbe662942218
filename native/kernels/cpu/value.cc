// The scalar head: one dot product per chosen row.
#include <algorithm>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

void check(const char* where, const View& hidden, const View& weight, const View& rows, const View& values) {
  expect(where, "weight", weight, hidden.dtype, {hidden.dim(1)});
  expect(where, "values", values, DType::f32, {rows.numel()});
  for (int64_t i = 0; i < rows.numel(); ++i)
    if (rows.i32()[i] < 0 || rows.i32()[i] >= hidden.dim(0))
      fail(where, "rows below " + std::to_string(hidden.dim(0)), std::to_string(rows.i32()[i]), "checking how the batch was packed");
}

}  // namespace

void value_forward(Exec& ex, const ValueForward& o) {
  check("value_forward", o.hidden, o.weight, o.rows, o.values);
  int64_t h = o.hidden.dim(1);
  Scratch<float> w(ex, h);
  const float* weight = load(o.weight, 0, h, w.data());
  ex.pool.parallel_blocks(o.rows.numel(), 64, [&](int64_t begin, int64_t end) {
    Scratch<float> row(ex, h);
    for (int64_t i = begin; i < end; ++i) o.values.f32()[i] = isa().dot(load(o.hidden, o.rows.i32()[i] * h, h, row.data()), weight, h);
  });
}

void value_backward(Exec& ex, const ValueBackward& o) {
  check("value_backward", o.hidden, o.weight, o.rows, o.dvalues);
  int64_t h = o.hidden.dim(1), r = o.rows.numel();
  Scratch<float> scratch(ex, 3 * h);
  const float* weight = load(o.weight, 0, h, scratch.data());
  if (o.dhidden) {
    std::memset(o.dhidden.data, 0, o.dhidden.numel() * size_of(o.dhidden.dtype));
    float* out = scratch.data() + h;
    for (int64_t i = 0; i < r; ++i) {
      std::copy_n(weight, h, out);
      isa().scale(o.dvalues.f32()[i], out, h);
      store(o.dhidden, o.rows.i32()[i] * h, out, h);
    }
  }
  if (o.dweight) {
    expect("value_backward", "dweight", o.dweight, DType::f32, {h});
    for (int64_t i = 0; i < r; ++i)
      isa().axpy(o.dvalues.f32()[i], load(o.hidden, o.rows.i32()[i] * h, h, scratch.data() + 2 * h), o.dweight.f32(), h);
  }
}

}  // namespace threefold::cpu
