// The one matmul door. Forward form (a [M, K], b [N, K], both K-contiguous): dot tiles, K in chunks of 1024. Every
// other form: a and b packed into contiguous fp32 panels, outer-product tiles, K in chunks of 128. Chunk sums are added
// in fp32 in index order. Work is cut over blocks of outputs, so nothing depends on M, N or the threads.
#include <algorithm>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kDotChunk = 1024, kOuterChunk = 128;
constexpr int64_t kRows = 96, kColumns = 96;   // outputs per work item: b's tile and the scratch stay in cache
constexpr int64_t kCopyFrom = 24;              // rows from which copying a b tile into contiguous fp32 pays

struct Sizes {
  int64_t m, n, k;
};

Sizes check(const Matmul& o) {
  const char* where = "matmul";
  for (const View* v : {&o.a, &o.b, &o.out})
    if (v->shape.rank != 2) fail(where, "matrices", v->shape.text(), "a two-dimensional view");
  for (const View* v : {&o.a, &o.b, &o.out})
    if (v->dtype != DType::f32 && v->dtype != DType::bf16) fail(where, "fp32 or bf16", name_of(v->dtype), "casting first");
  Sizes s{o.out.dim(0), o.out.dim(1), o.a.dim(o.trans_a ? 0 : 1)};
  expect(where, "a", o.a, o.a.dtype, o.trans_a ? Shape{s.k, s.m} : Shape{s.m, s.k});
  expect(where, "b", o.b, o.b.dtype, o.trans_b ? Shape{s.n, s.k} : Shape{s.k, s.n});
  if (o.bias) expect(where, "bias", o.bias, o.b.dtype, {s.n});
  if (o.residual) expect(where, "residual", o.residual, o.out.dtype, {s.m, s.n});
  if (o.accumulate && (o.out.dtype != DType::f32 || o.bias || o.residual || o.act != Act::none))
    fail(where, "a plain fp32 output to accumulate into", name_of(o.out.dtype), "an fp32 gradient without bias, activation or residual");
  return s;
}

// out = act(sums + bias) + residual for rows [i0, i0 + m) and columns [j0, j0 + n); sums is [m, kColumns].
void epilogue(const Matmul& o, int64_t i0, int64_t m, int64_t j0, int64_t n, float* sums) {
  float bias[kColumns], old[kColumns];
  const float* b = o.bias ? load(o.bias, j0, n, bias) : nullptr;
  int64_t width = o.out.dim(1);
  for (int64_t i = 0; i < m; ++i) {
    float* row = sums + i * kColumns;
    int64_t at = (i0 + i) * width + j0;
    if (b) isa().add(row, b, row, n);
    if (o.act != Act::none) isa().act(o.act, row, row, n);
    if (o.residual) isa().add(row, load(o.residual, at, n, old), row, n);
    if (o.accumulate) isa().add(row, o.out.f32() + at, row, n);
    store(o.out, at, row, n);
  }
}

// Calls body(i0, m, j0, n, sums [m, kColumns]) for every block of outputs.
template <typename F>
void over_blocks(Exec& ex, const Matmul& o, const Sizes& s, int64_t rows, F body) {
  int64_t down = (s.m + rows - 1) / rows, across = (s.n + kColumns - 1) / kColumns;
  ex.pool.parallel_for(down * across, [&](int64_t item) {
    int64_t i0 = item % down * rows, j0 = item / down * kColumns;
    int64_t m = std::min(rows, s.m - i0), n = std::min(kColumns, s.n - j0);
    Scratch<float> sums(ex, m * kColumns);
    if (s.k == 0) std::fill_n(sums.data(), m * kColumns, 0.0f);
    body(i0, m, j0, n, sums.data());
    epilogue(o, i0, m, j0, n, sums.data());
  });
}

// Columns [k0, k0 + k) of `count` rows of v from row `first`, as contiguous fp32 [count, k].
void widen_rows(const View& v, int64_t first, int64_t count, int64_t k0, int64_t k, float* out) {
  for (int64_t r = 0; r < count; ++r) {
    const float* row = load(v, (first + r) * v.dim(1) + k0, k, out + r * k);
    if (row != out + r * k) std::memcpy(out + r * k, row, k * sizeof(float));
  }
}

void forward_form(Exec& ex, const Matmul& o, const Sizes& s) {
  const Isa& v = isa();
  int64_t chunk = std::min(kDotChunk, s.k);
  over_blocks(ex, o, s, kRows, [&](int64_t i0, int64_t m, int64_t j0, int64_t n, float* sums) {
    bool widen_a = o.a.dtype != DType::f32, copy_b = m >= kCopyFrom;
    constexpr int64_t kTile = 12;  // columns copied at a time: a multiple of every tile width
    Scratch<float> a_wide(ex, widen_a ? m * chunk : 0), b_wide(ex, copy_b ? kTile * chunk : 0);
    for (int64_t k0 = 0; k0 < s.k; k0 += kDotChunk) {
      int64_t k = std::min(kDotChunk, s.k - k0), lda = widen_a ? k : s.k;
      const float* a = widen_a ? a_wide.data() : o.a.f32() + i0 * s.k + k0;
      if (widen_a) widen_rows(o.a, i0, m, k0, k, a_wide.data());
      if (!copy_b) {
        if (o.b.dtype == DType::f32)
          v.dot_f32(a, lda, m, o.b.f32() + j0 * s.k + k0, s.k, n, k, sums, kColumns, k0 > 0);
        else
          v.dot_bf16(a, lda, m, o.b.as<bf16>() + j0 * s.k + k0, s.k, n, k, sums, kColumns, k0 > 0);
        continue;
      }
      for (int64_t j = 0; j < n; j += kTile) {
        int64_t w = std::min(kTile, n - j);
        widen_rows(o.b, j0 + j, w, k0, k, b_wide.data());
        v.dot_f32(a, lda, m, b_wide.data(), k, w, k, sums + j, kColumns, k0 > 0);
      }
    }
  });
}

// Element (r, c) of op(v) goes to out[c * stride + r]: rows [r0, r0 + m) of the M side, [k0, k0 + k) of the K side.
void pack_a(const View& v, bool k_first, int64_t r0, int64_t m, int64_t k0, int64_t k, int64_t stride, float* out, float* row) {
  if (k_first) {
    for (int64_t c = 0; c < k; ++c) {
      const float* x = load(v, (k0 + c) * v.dim(1) + r0, m, row);
      std::memcpy(out + c * stride, x, m * sizeof(float));
    }
    return;
  }
  for (int64_t r = 0; r < m; ++r) {
    const float* x = load(v, (r0 + r) * v.dim(1) + k0, k, row);
    for (int64_t c = 0; c < k; ++c) out[c * stride + r] = x[c];
  }
}

void gradient_form(Exec& ex, const Matmul& o, const Sizes& s) {
  const Isa& v = isa();
  over_blocks(ex, o, s, kRows, [&](int64_t i0, int64_t m, int64_t j0, int64_t n, float* sums) {
    Scratch<float> part(ex, m * kColumns), b_panel(ex, kOuterChunk * kColumns), a_panel(ex, kOuterChunk * kRows), row(ex, kOuterChunk);
    for (int64_t k0 = 0; k0 < s.k; k0 += kOuterChunk) {
      int64_t k = std::min(kOuterChunk, s.k - k0);
      pack_a(o.a, o.trans_a, i0, m, k0, k, kRows, a_panel.data(), row.data());
      pack_a(o.b, !o.trans_b, j0, n, k0, k, kColumns, b_panel.data(), row.data());
      float* to = k0 ? part.data() : sums;
      v.outer(a_panel.data(), 1, kRows, m, b_panel.data(), kColumns, n, k, to, kColumns, false);
      if (k0)
        for (int64_t i = 0; i < m; ++i) v.add(sums + i * kColumns, part.data() + i * kColumns, sums + i * kColumns, n);
    }
  });
}

}  // namespace

void matmul(Exec& ex, const Matmul& o) {
  Sizes s = check(o);
  if (s.m == 0 || s.n == 0) return;
  if (o.trans_b && !o.trans_a)
    forward_form(ex, o, s);
  else
    gradient_form(ex, o, s);
}

void column_sum(Exec& ex, const ColumnSum& o) {
  if (o.x.shape.rank != 2) fail("column_sum", "a matrix", o.x.shape.text(), "a two-dimensional view");
  int64_t t = o.x.dim(0), n = o.x.dim(1);
  expect("column_sum", "out", o.out, DType::f32, {n});
  constexpr int64_t kPiece = 256;  // rows summed before they join the total: keeps rounding small, in a fixed order
  ex.pool.parallel_blocks(n, 256, [&](int64_t begin, int64_t end) {
    int64_t w = end - begin;
    float piece[256], row[256];
    for (int64_t t0 = 0; t0 < t; t0 += kPiece) {
      std::fill_n(piece, w, 0.0f);
      for (int64_t i = t0; i < std::min(t, t0 + kPiece); ++i) isa().add(piece, load(o.x, i * n + begin, w, row), piece, w);
      isa().add(o.out.f32() + begin, piece, o.out.f32() + begin, w);
    }
  });
}

}  // namespace threefold::cpu
