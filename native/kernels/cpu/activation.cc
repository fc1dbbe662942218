// Activations, plain and gated (act(gate) * up), element by element.
#include <algorithm>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kGrain = 16;  // rows

void check(const char* where, bool gated, const View& x, const View& out) {
  if (out.shape.rank != 2) fail(where, "out of two dimensions", out.shape.text(), "a two-dimensional view");
  expect(where, "x", x, out.dtype, {out.dim(0), out.dim(1) * (gated ? 2 : 1)});
}

}  // namespace

void activation_forward(Exec& ex, const ActivationForward& o) {
  check("activation_forward", o.gated, o.x, o.out);
  int64_t f = o.out.dim(1), width = o.x.dim(1);
  ex.pool.parallel_blocks(o.out.dim(0), kGrain, [&](int64_t begin, int64_t end) {
    Scratch<float> rows(ex, 2 * f);
    for (int64_t i = begin; i < end; ++i) {
      float* y = target(o.out, i * f, rows.data() + f);
      isa().act(o.act, load(o.x, i * width, f, rows.data()), y, f);
      if (o.gated) isa().mul(y, load(o.x, i * width + f, f, rows.data()), y, f);
      store(o.out, i * f, y, f);
    }
  });
}

void activation_backward(Exec& ex, const ActivationBackward& o) {
  check("activation_backward", o.gated, o.x, o.dout);
  expect("activation_backward", "dx", o.dx, o.x.dtype, o.x.shape);
  int64_t f = o.dout.dim(1), width = o.x.dim(1);
  ex.pool.parallel_blocks(o.dout.dim(0), kGrain, [&](int64_t begin, int64_t end) {
    Scratch<float> rows(ex, 4 * f);
    float *xs = rows.data(), *ups = xs + f, *ds = ups + f, *out = ds + f;
    for (int64_t i = begin; i < end; ++i) {
      const float* x = load(o.x, i * width, f, xs);
      const float* dout = load(o.dout, i * f, f, ds);
      if (o.gated) {
        const float* up = load(o.x, i * width + f, f, ups);
        isa().act(o.act, x, out, f);
        isa().mul(out, dout, out, f);  // d up
        isa().mul(up, dout, ds, f);    // d act(gate)
        store(o.dx, i * width + f, out, f);
        dout = ds;
      }
      isa().dact(o.act, x, dout, out, f);
      store(o.dx, i * width, out, f);
    }
  });
}

}  // namespace threefold::cpu
