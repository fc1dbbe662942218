// LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019), one row at a time.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/checks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

// Rows whose weight gradients are summed together before they join the total, in order: fixed, so that threads
// change nothing.
constexpr int64_t kPiece = 32;

// weight + offset as fp32, n values of it.
void load_weight(const View& weight, float offset, int64_t n, float* out) {
  const float* w = load(weight, 0, n, out);
  for (int64_t i = 0; i < n; ++i) out[i] = w[i] + offset;
}

}  // namespace

void norm_forward(Exec& ex, const NormForward& o) {
  int64_t rows = o.x.dim(0), h = o.x.dim(1);
  const Isa& v = isa();
  Scratch<float> parameters(ex, 2 * h);
  float* weight = parameters.data();
  load_weight(o.weight, o.weight_offset, h, weight);
  const float* bias = o.bias ? load(o.bias, 0, h, parameters.data() + h) : nullptr;
  ex.pool.parallel_blocks(rows, row_grain(h), [&](int64_t begin, int64_t end) {
    Scratch<float> row(ex, h), normed(ex, o.residual ? h : 0), wide(ex, o.residual ? h : 0);
    for (int64_t t = begin; t < end; ++t) {
      const float* x = load(o.x, t * h, h, row.data());
      float mean = o.rms ? 0 : v.sum(x, h) / float(h);
      float rstd = 1 / std::sqrt(v.sum_squared_diff(x, mean, h) / float(h) + o.eps);
      float* out = target(o.out, t * h, row.data());
      if (o.residual) {
        v.normalize(x, mean, rstd, weight, bias, normed.data(), h);
        v.add(normed.data(), load(o.residual, t * h, h, wide.data()), out, h);
      } else {
        v.normalize(x, mean, rstd, weight, bias, out, h);
      }
      store(o.out, t * h, out, h);
      if (o.mean && !o.rms) o.mean.f32()[t] = mean;
      if (o.rstd) o.rstd.f32()[t] = rstd;
    }
  });
}

// With g = dy * weight and xhat = (x - mean) * rstd: dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), without mean(g)
// for RMSNorm.
void norm_backward(Exec& ex, const NormBackward& o) {
  int64_t rows = o.x.dim(0), h = o.x.dim(1);
  const Isa& v = isa();
  int64_t pieces = (rows + kPiece - 1) / kPiece;
  Scratch<float> shared(ex, 2 * h), dweights(ex, o.dweight ? pieces * h : 0), dbiases(ex, o.dbias ? pieces * h : 0);
  float* ones = shared.data() + h;
  float* weight = shared.data();
  load_weight(o.weight, o.weight_offset, h, weight);
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

namespace {

// Calls body(offset of the head in qkv, is a key) for the query and key heads of token t.
template <typename F>
void over_heads(const AttentionShape& s, int64_t t, F body) {
  for (int64_t n = 0; n < s.heads + s.kv_heads; ++n) body(t * s.row() + n * s.head_dim, n >= s.heads);
}

}  // namespace

void head_norm_forward(Exec& ex, const HeadNormForward& o) {
  const AttentionShape& s = o.shape;
  int64_t rows = o.qkv.dim(0), d = s.head_dim, values = (s.heads + s.kv_heads) * d;
  const Isa& v = isa();
  Scratch<float> weights(ex, 2 * d);
  load_weight(o.q_weight, o.weight_offset, d, weights.data());
  load_weight(o.k_weight, o.weight_offset, d, weights.data() + d);
  int64_t size = size_of(o.qkv.dtype);
  ex.pool.parallel_blocks(rows, row_grain(s.row()), [&](int64_t begin, int64_t end) {
    Scratch<float> wide(ex, d);
    for (int64_t t = begin; t < end; ++t) {
      over_heads(s, t, [&](int64_t at, bool key) {
        const float* x = load(o.qkv, at, d, wide.data());
        float rstd = 1 / std::sqrt(v.sum_squared_diff(x, 0, d) / float(d) + o.eps);
        float* out = target(o.out, at, wide.data());
        v.normalize(x, 0, rstd, weights.data() + (key ? d : 0), nullptr, out, d);
        store(o.out, at, out, d);
      });
      if (o.out.data != o.qkv.data)
        std::memcpy(o.out.as<char>() + (t * s.row() + values) * size, o.qkv.as<char>() + (t * s.row() + values) * size,
                    (s.row() - values) * size);
    }
  });
}

// As norm_backward for RMSNorm, with heads for rows.
void head_norm_backward(Exec& ex, const HeadNormBackward& o) {
  const AttentionShape& s = o.shape;
  int64_t rows = o.qkv.dim(0), d = s.head_dim;
  const Isa& v = isa();
  int64_t pieces = (rows + kPiece - 1) / kPiece;
  Scratch<float> shared(ex, 3 * d), sums(ex, pieces * 2 * d);
  float* ones = shared.data() + 2 * d;
  load_weight(o.q_weight, o.weight_offset, d, shared.data());
  load_weight(o.k_weight, o.weight_offset, d, shared.data() + d);
  std::fill_n(ones, d, 1.0f);
  ex.pool.parallel_for(pieces, [&](int64_t piece) {
    Scratch<float> scratch(ex, 4 * d);
    float *wide = scratch.data(), *xhat = wide + d, *g = xhat + d, *product = g + d, *sum = sums.data() + piece * 2 * d;
    std::fill_n(sum, 2 * d, 0.0f);
    for (int64_t t = piece * kPiece; t < std::min(rows, (piece + 1) * kPiece); ++t)
      over_heads(s, t, [&](int64_t at, bool key) {
        const float* x = load(o.qkv, at, d, wide);
        float rstd = 1 / std::sqrt(v.sum_squared_diff(x, 0, d) / float(d) + o.eps);
        v.normalize(x, 0, rstd, ones, nullptr, xhat, d);
        const float* dy = load(o.dqkv, at, d, wide);
        v.mul(dy, xhat, product, d);
        v.add(sum + (key ? d : 0), product, sum + (key ? d : 0), d);
        v.mul(dy, shared.data() + (key ? d : 0), g, d);
        v.axpy(-v.dot(g, xhat, d) / float(d), xhat, g, d);
        v.scale(rstd, g, d);
        store(o.dqkv, at, g, d);
      });
  });
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const float* sum = sums.data() + piece * 2 * d;
    if (o.dq_weight) v.add(o.dq_weight.f32(), sum, o.dq_weight.f32(), d);
    if (o.dk_weight) v.add(o.dk_weight.f32(), sum + d, o.dk_weight.f32(), d);
  }
}

}  // namespace threefold::cpu
