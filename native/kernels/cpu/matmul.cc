// The one matmul door. Forward form (a [M, K], b [N, K], both K-contiguous): dot tiles, K in chunks of 1024. Every
// other form: a and b packed into contiguous fp32 panels, outer-product tiles, K in chunks of 128. Chunk sums are added
// in fp32 in index order. Work is cut over blocks of outputs, so nothing depends on M, N, the blocks or the threads.
#include <algorithm>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kDotChunk = 1024, kOuterChunk = 128;
struct Block {                       // rows and columns of outputs per work item, when there are enough of them
  int64_t rows, cols;
};
constexpr Block kDotBlock{384, 96};  // 96 rows of b by a chunk of K stay in the second-level cache
constexpr Block kOuterBlock{192, 192};
constexpr int64_t kPanel = 48;       // rows and columns of an outer block summed at a time: multiples of every tile's
constexpr int64_t kWidenFrom = 24;   // rows from which widening b once beats widening it in every tile

struct Sizes {
  int64_t m, n, k;
};

// out = act(sums + bias) + residual for rows [i0, i0 + m) and columns [j0, j0 + n); sums is [m, n].
void epilogue(const Matmul& o, int64_t i0, int64_t m, int64_t j0, int64_t n, float* sums) {
  float bias[kOuterBlock.cols], old[kOuterBlock.cols];
  const float* b = o.bias ? load(o.bias, j0, n, bias) : nullptr;
  for (int64_t i = 0; i < m; ++i) {
    float* row = sums + i * n;
    int64_t at = (i0 + i) * o.out.dim(1) + j0;
    if (b) isa().add(row, b, row, n);
    if (o.act != Act::none) isa().act(o.act, row, row, n);
    if (o.residual) isa().add(row, load(o.residual, at, n, old), row, n);
    store(o.out, at, row, n);
  }
}

// Where a block's sums go: straight into a plain fp32 output, else into scratch, from where the epilogue takes them.
struct Target {
  float* data;
  int64_t stride;
  bool add;  // the first chunk too is added to what is there
};

// Calls body(i0, m, j0, n, target) for every block of outputs.
template <typename F>
void over_blocks(Exec& ex, const Matmul& o, const Sizes& s, Block block, F body) {
  bool direct = o.out.dtype == DType::f32 && !o.bias && !o.residual && o.act == Act::none;
  auto pieces = [](int64_t size, int64_t most) { return (size + most - 1) / most; };
  int64_t down = pieces(s.m, block.rows), across = pieces(s.n, block.cols);
  while (down * across < 4 * ex.pool.threads() && (s.m / down > 48 || s.n / across > 48))
    s.m / down > s.n / across ? down *= 2 : across *= 2;
  int64_t rows = pieces(pieces(s.m, down), 24) * 24, cols = pieces(pieces(s.n, across), kPanel) * kPanel;
  down = pieces(s.m, rows), across = pieces(s.n, cols);
  ex.pool.parallel_for(down * across, [&](int64_t item) {
    int64_t i0 = item % down * rows, j0 = item / down * cols;
    int64_t m = std::min(rows, s.m - i0), n = std::min(cols, s.n - j0);
    if (direct) return body(i0, m, j0, n, Target{o.out.f32() + i0 * s.n + j0, s.n, o.accumulate});
    Scratch<float> sums(ex, m * n);
    body(i0, m, j0, n, Target{sums.data(), n, false});
    epilogue(o, i0, m, j0, n, sums.data());
  });
}

void clear(const Target& t, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m; ++i) std::fill_n(t.data + i * t.stride, n, 0.0f);
}

// Columns [k0, k0 + k) of `count` rows of v from row `first`, as fp32 rows `stride` apart.
void copy_rows(const View& v, int64_t first, int64_t count, int64_t k0, int64_t k, float* out, int64_t stride) {
  for (int64_t r = 0; r < count; ++r) {
    const float* row = load(v, (first + r) * v.dim(1) + k0, k, out + r * stride);
    if (row != out + r * stride) std::memcpy(out + r * stride, row, k * sizeof(float));
  }
}

void forward_form(Exec& ex, const Matmul& o, const Sizes& s) {
  const Isa& v = isa();
  over_blocks(ex, o, s, kDotBlock, [&](int64_t i0, int64_t m, int64_t j0, int64_t n, Target to) {
    bool widen_a = o.a.dtype != DType::f32, narrow_b = o.b.dtype != DType::f32, widen_b = narrow_b && m >= kWidenFrom;
    int64_t chunk = std::min(kDotChunk, s.k);
    Scratch<float> a_wide(ex, widen_a ? m * chunk : 0), b_wide(ex, widen_b ? n * chunk : 0);
    if (s.k == 0 && !to.add) clear(to, m, n);
    for (int64_t k0 = 0; k0 < s.k; k0 += kDotChunk) {
      int64_t k = std::min(kDotChunk, s.k - k0), lda = widen_a ? k : s.k;
      const float* a = widen_a ? a_wide.data() : o.a.f32() + i0 * s.k + k0;
      bool add = to.add || k0 > 0;
      if (widen_a) copy_rows(o.a, i0, m, k0, k, a_wide.data(), k);
      if (widen_b) copy_rows(o.b, j0, n, k0, k, b_wide.data(), k);
      if (widen_b)
        v.dot_f32(a, lda, m, b_wide.data(), k, n, k, to.data, to.stride, add);
      else
        dot_rows(a, lda, m, o.b, j0 * s.k + k0, s.k, n, k, to.data, to.stride, add);
    }
  });
}

// Rows [r0, r0 + m) of op(v)'s outer side, [k0, k0 + k) of its K side, to out[c * kOuterBlock.cols + r] for K-side c.
void pack_transposed(const View& v, int64_t r0, int64_t m, int64_t k0, int64_t k, float* out) {
  float row[kOuterChunk];
  for (int64_t r = 0; r < m; ++r) {
    const float* x = load(v, (r0 + r) * v.dim(1) + k0, k, row);
    for (int64_t c = 0; c < k; ++c) out[c * kOuterBlock.cols + r] = x[c];
  }
}

void gradient_form(Exec& ex, const Matmul& o, const Sizes& s) {
  constexpr int64_t kRow = kOuterChunk + 16;  // not a power of two: rows of a must not share one cache set
  const Isa& v = isa();
  over_blocks(ex, o, s, kOuterBlock, [&](int64_t i0, int64_t m, int64_t j0, int64_t n, Target to) {
    const int64_t a_row = o.trans_a ? 1 : kRow, a_col = o.trans_a ? kOuterBlock.rows : 1;
    alignas(64) float part[kPanel * kPanel];
    Scratch<float> b(ex, kOuterChunk * kOuterBlock.cols), a(ex, o.trans_a ? kOuterChunk * kOuterBlock.rows : m * kRow);
    if (s.k == 0 && !to.add) clear(to, m, n);
    for (int64_t k0 = 0; k0 < s.k; k0 += kOuterChunk) {
      int64_t k = std::min(kOuterChunk, s.k - k0);
      if (o.trans_a)
        copy_rows(o.a, k0, k, i0, m, a.data(), kOuterBlock.rows);
      else
        copy_rows(o.a, i0, m, k0, k, a.data(), kRow);
      if (o.trans_b)
        pack_transposed(o.b, j0, n, k0, k, b.data());
      else
        copy_rows(o.b, k0, k, j0, n, b.data(), kOuterBlock.cols);
      bool add = to.add || k0 > 0;
      for (int64_t j = 0; j < n; j += kPanel)  // this panel of b and one tile of sums stay in the first-level cache
        for (int64_t i = 0; i < m; i += kPanel) {
          int64_t h = std::min(kPanel, m - i), w = std::min(kPanel, n - j);
          float* out = to.data + i * to.stride + j;
          const float* rows = a.data() + i * a_row;
          if (!add) {
            v.outer(rows, a_row, a_col, h, b.data() + j, kOuterBlock.cols, w, k, out, to.stride, false);
            continue;
          }
          v.outer(rows, a_row, a_col, h, b.data() + j, kOuterBlock.cols, w, k, part, kPanel, false);
          for (int64_t r = 0; r < h; ++r) v.add(out + r * to.stride, part + r * kPanel, out + r * to.stride, w);
        }
    }
  });
}

}  // namespace

void matmul(Exec& ex, const Matmul& o) {
  Sizes s{o.out.dim(0), o.out.dim(1), o.a.dim(o.trans_a ? 0 : 1)};
  if (s.m == 0 || s.n == 0) return;
  if (o.trans_b && !o.trans_a)
    forward_form(ex, o, s);
  else
    gradient_form(ex, o, s);
}

void column_sum(Exec& ex, const ColumnSum& o) {
  int64_t t = o.x.dim(0), n = o.x.dim(1);
  constexpr int64_t kPiece = 256;    // rows summed before they join the total: keeps rounding small, in a fixed order
  constexpr int64_t kColumns = 256;  // per work item
  ex.pool.parallel_blocks(n, kColumns, [&](int64_t begin, int64_t end) {
    int64_t w = end - begin;
    float piece[kColumns], row[kColumns];
    float* total = o.out.f32() + begin;
    for (int64_t t0 = 0; t0 < t; t0 += kPiece) {
      std::fill_n(piece, w, 0.0f);
      for (int64_t i = t0; i < std::min(t, t0 + kPiece); ++i)
        isa().add(piece, load(o.x, i * n + begin, w, row), piece, w);
      isa().add(total, piece, total, w);
    }
  });
}

}  // namespace threefold::cpu
