// The scalar head of reward models and critics.
#include <algorithm>

#include "kernels/cpu/checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kColumns = 128, kPiece = 256;  // columns one thread takes; rows summed before they join the total

}  // namespace

void value_forward(Exec& ex, const ValueForward& o) {
  int64_t r = expect_rows("value_forward", o.rows, o.hidden.dim(0)), h = o.hidden.dim(1);
  Scratch<float> wide(ex, h);
  const float* weight = load(o.weight, 0, h, wide.data());
  ex.pool.parallel_blocks(r, row_grain(h), [&](int64_t begin, int64_t end) {
    Scratch<float> row(ex, h);
    for (int64_t i = begin; i < end; ++i)
      o.values.f32()[i] = isa().dot(load(o.hidden, o.rows.i32()[i] * h, h, row.data()), weight, h);
  });
}

void value_backward(Exec& ex, const ValueBackward& o) {
  int64_t r = expect_rows("value_backward", o.rows, o.hidden.dim(0)), t = o.hidden.dim(0), h = o.hidden.dim(1);
  const float* dvalues = o.dvalues.f32();
  const int32_t* rows = o.rows.i32();

  if (o.dhidden) {
    Scratch<float> wide(ex, h);
    const float* weight = load(o.weight, 0, h, wide.data());
    std::vector<float> factor(t);  // 0 in rows that were not chosen
    for (int64_t i = 0; i < r; ++i) factor[rows[i]] = dvalues[i];
    ex.pool.parallel_blocks(t, row_grain(h), [&](int64_t begin, int64_t end) {
      Scratch<float> row(ex, h);
      for (int64_t i = begin; i < end; ++i) {
        float* out = target(o.dhidden, i * h, row.data());
        std::fill_n(out, h, 0.0f);
        if (factor[i] != 0) isa().axpy(factor[i], weight, out, h);
        store(o.dhidden, i * h, out, h);
      }
    });
  }
  if (o.dweight)
    ex.pool.parallel_blocks(h, kColumns, [&](int64_t begin, int64_t end) {
      float piece[kColumns], row[kColumns], *dweight = o.dweight.f32() + begin;
      int64_t n = end - begin;
      for (int64_t i0 = 0; i0 < r; i0 += kPiece) {
        std::fill_n(piece, n, 0.0f);
        for (int64_t i = i0; i < std::min(r, i0 + kPiece); ++i)
          isa().axpy(dvalues[i], load(o.hidden, rows[i] * h + begin, n, row), piece, n);
        isa().add(dweight, piece, dweight, n);
      }
    });
}

}  // namespace threefold::cpu
