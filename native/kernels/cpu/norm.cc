// LayerNorm and RMSNorm. Rows are independent; the gradients of weight and bias are sums over rows in fixed pieces.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kRowGrain = 16;
constexpr int64_t kPiece = 256;     // rows whose sum joins the total at once
constexpr int64_t kColumns = 128;   // columns of one work item of the weight gradients

void check(const char* where, const View& x, const View& weight, const View& bias) {
  if (x.shape.rank != 2) fail(where, "x of two dimensions", x.shape.text(), "a two-dimensional view");
  expect(where, "weight", weight, x.dtype, {x.dim(1)});
  if (bias) expect(where, "bias", bias, x.dtype, {x.dim(1)});
}

}  // namespace

void norm_forward(Exec& ex, const NormForward& o) {
  check("norm_forward", o.x, o.weight, o.bias);
  int64_t t = o.x.dim(0), h = o.x.dim(1);
  expect("norm_forward", "out", o.out, o.x.dtype, o.x.shape);
  Scratch<float> weights(ex, 2 * h);
  const float* weight = load(o.weight, 0, h, weights.data());
  const float* bias = o.bias ? load(o.bias, 0, h, weights.data() + h) : nullptr;
  ex.pool.parallel_blocks(t, kRowGrain, [&](int64_t begin, int64_t end) {
    Scratch<float> rows(ex, 2 * h);
    for (int64_t i = begin; i < end; ++i) {
      const float* x = load(o.x, i * h, h, rows.data());
      float mean = o.rms ? 0.0f : isa().sum(x, h) / float(h);
      float rstd = 1.0f / std::sqrt(isa().sum_squared_diff(x, mean, h) / float(h) + o.eps);
      float* y = target(o.out, i * h, rows.data() + h);
      isa().normalize(x, mean, rstd, weight, bias, y, h);
      store(o.out, i * h, y, h);
      if (o.mean) o.mean.f32()[i] = mean;
      if (o.rstd) o.rstd.f32()[i] = rstd;
    }
  });
}

// dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dout * weight; without the mean term for RMSNorm.
void norm_backward(Exec& ex, const NormBackward& o) {
  check("norm_backward", o.x, o.weight, {});
  int64_t t = o.x.dim(0), h = o.x.dim(1);
  for (const View* v : {&o.dout, &o.dx}) expect("norm_backward", "dout and dx", *v, o.x.dtype, o.x.shape);
  if (o.dweight) {
    expect("norm_backward", "dweight", o.dweight, DType::f32, {h});
    // First, because dx may be dout.
    ex.pool.parallel_for((h + kColumns - 1) / kColumns, [&](int64_t item) {
      int64_t c = item * kColumns, w = std::min(kColumns, h - c);
      float dw[kColumns], db[kColumns], xs[kColumns], gs[kColumns], xhat[kColumns], ones[kColumns];
      std::fill_n(ones, w, 1.0f);
      for (int64_t t0 = 0; t0 < t; t0 += kPiece) {
        std::fill_n(dw, w, 0.0f);
        std::fill_n(db, w, 0.0f);
        for (int64_t i = t0; i < std::min(t, t0 + kPiece); ++i) {
          const float* x = load(o.x, i * h + c, w, xs);
          const float* g = load(o.dout, i * h + c, w, gs);
          isa().normalize(x, o.rms ? 0.0f : o.mean.f32()[i], o.rstd.f32()[i], ones, nullptr, xhat, w);
          isa().mul(xhat, g, xhat, w);
          isa().add(dw, xhat, dw, w);
          if (o.dbias) isa().add(db, g, db, w);
        }
        isa().add(o.dweight.f32() + c, dw, o.dweight.f32() + c, w);
        if (o.dbias) isa().add(o.dbias.f32() + c, db, o.dbias.f32() + c, w);
      }
    });
  }
  Scratch<float> weights(ex, 2 * h);
  const float* weight = load(o.weight, 0, h, weights.data());
  std::fill_n(weights.data() + h, h, 1.0f);
  const float* ones = weights.data() + h;
  ex.pool.parallel_blocks(t, kRowGrain, [&](int64_t begin, int64_t end) {
    Scratch<float> rows(ex, 4 * h);
    float *g = rows.data(), *xhat = g + h, *xs = xhat + h, *res = xs + h;
    for (int64_t i = begin; i < end; ++i) {
      float mean = o.rms ? 0.0f : o.mean.f32()[i], rstd = o.rstd.f32()[i];
      isa().normalize(load(o.x, i * h, h, xs), mean, rstd, ones, nullptr, xhat, h);
      isa().mul(load(o.dout, i * h, h, xs), weight, g, h);
      float mean_g = o.rms ? 0.0f : isa().sum(g, h) / float(h), mean_gx = isa().dot(g, xhat, h) / float(h);
      isa().axpy(-mean_gx, xhat, g, h);
      isa().normalize(g, mean_g, rstd, ones, nullptr, g, h);
      if (o.residual_grad) isa().add(g, load(o.residual_grad, i * h, h, res), g, h);
      store(o.dx, i * h, g, h);
    }
  });
}

}  // namespace threefold::cpu
