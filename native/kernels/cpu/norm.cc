// LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019), one row at a time.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

// Rows whose weight gradients are summed together before they join the total, in order: fixed, so that threads
// change nothing.
constexpr int64_t kPiece = 32;


void check(const char* where, const View& x, const View& weight, bool rms, const View& mean, const View& rstd) {
  expect_rank(where, "x", x, 2);
  expect(where, "weight", weight, x.dtype, {x.dim(1)});
  if (mean && !rms) expect(where, "mean", mean, DType::f32, {x.dim(0)});
  if (rstd) expect(where, "rstd", rstd, DType::f32, {x.dim(0)});
}

}  // namespace

void norm_forward(Exec& ex, const NormForward& o) {
  const char* where = "norm_forward";
  check(where, o.x, o.weight, o.rms, o.mean, o.rstd);
  int64_t rows = o.x.dim(0), h = o.x.dim(1);
  if (o.bias) expect(where, "bias", o.bias, o.x.dtype, {h});
  expect(where, "out", o.out, o.x.dtype, o.x.shape);

  const Isa& v = isa();
  Scratch<float> parameters(ex, 2 * h);
  const float* weight = load(o.weight, 0, h, parameters.data());
  const float* bias = o.bias ? load(o.bias, 0, h, parameters.data() + h) : nullptr;
  ex.pool.parallel_blocks(rows, row_grain(h), [&](int64_t begin, int64_t end) {
    Scratch<float> row(ex, h);
    for (int64_t t = begin; t < end; ++t) {
      const float* x = load(o.x, t * h, h, row.data());
      float mean = o.rms ? 0 : v.sum(x, h) / float(h);
      float rstd = 1 / std::sqrt(v.sum_squared_diff(x, mean, h) / float(h) + o.eps);
      float* out = target(o.out, t * h, row.data());
      v.normalize(x, mean, rstd, weight, bias, out, h);
      store(o.out, t * h, out, h);
      if (o.mean && !o.rms) o.mean.f32()[t] = mean;
      if (o.rstd) o.rstd.f32()[t] = rstd;
    }
  });
}

// With g = dy * weight and xhat = (x - mean) * rstd: dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), without mean(g)
// for RMSNorm.
void norm_backward(Exec& ex, const NormBackward& o) {
  const char* where = "norm_backward";
  if (!o.rstd || (!o.mean && !o.rms)) fail(where, "mean and rstd of the forward pass", "none", "keeping them in forward");
  check(where, o.x, o.weight, o.rms, o.mean, o.rstd);
  int64_t rows = o.x.dim(0), h = o.x.dim(1);
  expect(where, "dout", o.dout, o.x.dtype, o.x.shape);
  expect(where, "dx", o.dx, o.x.dtype, o.x.shape);
  if (o.residual_grad) expect(where, "residual_grad", o.residual_grad, o.x.dtype, o.x.shape);
  if (o.dweight) expect(where, "dweight", o.dweight, DType::f32, {h});
  if (o.dbias) expect(where, "dbias", o.dbias, DType::f32, {h});

  const Isa& v = isa();
  int64_t pieces = (rows + kPiece - 1) / kPiece;
  Scratch<float> shared(ex, 2 * h), dweights(ex, o.dweight ? pieces * h : 0), dbiases(ex, o.dbias ? pieces * h : 0);
  float* ones = shared.data() + h;
  const float* weight = load(o.weight, 0, h, shared.data());
  std::fill_n(ones, h, 1.0f);

  ex.pool.parallel_for(pieces, [&](int64_t piece) {
    Scratch<float> scratch(ex, 4 * h);
    float *wide = scratch.data(), *xhat = wide + h, *g = xhat + h, *product = g + h;
    float *dweight = o.dweight ? dweights.data() + piece * h : nullptr, *dbias = o.dbias ? dbiases.data() + piece * h : nullptr;
    if (dweight) std::fill_n(dweight, h, 0.0f);
    if (dbias) std::fill_n(dbias, h, 0.0f);
    for (int64_t t = piece * kPiece; t < std::min(rows, (piece + 1) * kPiece); ++t) {
      float rstd = o.rstd.f32()[t];
      v.normalize(load(o.x, t * h, h, wide), o.rms ? 0 : o.mean.f32()[t], rstd, ones, nullptr, xhat, h);
      const float* dy = load(o.dout, t * h, h, wide);
      if (dweight) {
        v.mul(dy, xhat, product, h);
        v.add(dweight, product, dweight, h);
      }
      if (dbias) v.add(dbias, dy, dbias, h);
      v.mul(dy, weight, g, h);
      float shift = o.rms ? 0 : v.sum(g, h) / float(h);
      v.axpy(-v.dot(g, xhat, h) / float(h), xhat, g, h);
      // every read of dy is done: dx may be the same memory
      const float* residual = o.residual_grad ? load(o.residual_grad, t * h, h, wide) : nullptr;
      v.normalize(g, shift, rstd, ones, residual, product, h);
      store(o.dx, t * h, product, h);
    }
  });

  ex.pool.parallel_blocks(h, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t piece = 0; piece < pieces; ++piece) {
      if (o.dweight)
        v.add(o.dweight.f32() + begin, dweights.data() + piece * h + begin, o.dweight.f32() + begin, end - begin);
      if (o.dbias) v.add(o.dbias.f32() + begin, dbiases.data() + piece * h + begin, o.dbias.f32() + begin, end - begin);
    }
  });
}

}  // namespace threefold::cpu
