// Element-wise activations and the gated form act(gate) * up, in stretches that stay in the first-level cache.
#include <algorithm>

#include "kernels/cpu/checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kStretch = 1024, kGrain = 16384;  // elements at a time; elements one thread takes

// Calls body(in, out, n) for stretches of n elements that begin at element `in` of x and `out` of the output. Without a
// gate the rows lie end to end and are taken as one.
template <typename F>
void over_stretches(Exec& ex, const View& x, bool gated, F body) {
  int64_t rows = gated ? x.dim(0) : 1, f = gated ? x.dim(1) / 2 : x.numel();
  int64_t per_row = (f + kStretch - 1) / kStretch;
  ex.pool.parallel_blocks(rows * per_row, kGrain / std::min(std::max<int64_t>(f, 1), kStretch), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t row = i / per_row, at = i % per_row * kStretch;
      body(row * (gated ? 2 : 1) * f + at, row * f + at, std::min(kStretch, f - at));
    }
  });
}

}  // namespace

void activation_forward(Exec& ex, const ActivationForward& o) {
  const Isa& v = isa();
  int64_t f = o.out.dim(1);
  over_stretches(ex, o.x, o.gated, [&](int64_t in, int64_t to, int64_t n) {
    float a[kStretch], b[kStretch], result[kStretch];
    float* out = target(o.out, to, result);
    v.act(o.act, load(o.x, in, n, a), o.gated ? result : out, n);
    if (o.gated) v.mul(result, load(o.x, in + f, n, b), out, n);
    store(o.out, to, out, n);
  });
}

// Gated: dgate = dout * up * act'(gate), dup = dout * act(gate).
void activation_backward(Exec& ex, const ActivationBackward& o) {
  const Isa& v = isa();
  int64_t f = o.dout.dim(1);
  over_stretches(ex, o.x, o.gated, [&](int64_t in, int64_t to, int64_t n) {
    float a[kStretch], b[kStretch], c[kStretch], result[kStretch];
    const float *x = load(o.x, in, n, a), *dout = load(o.dout, to, n, b);
    float* dx = target(o.dx, in, result);
    if (!o.gated) {
      v.dact(o.act, x, dout, dx, n);
      store(o.dx, in, dx, n);
      return;
    }
    const float* up = load(o.x, in + f, n, c);
    v.mul(dout, up, result, n);
    v.dact(o.act, x, result, result, n);
    store(o.dx, in, result, n);
    v.act(o.act, x, result, n);
    v.mul(dout, result, result, n);
    store(o.dx, in + f, result, n);
  });
}

}  // namespace threefold::cpu
