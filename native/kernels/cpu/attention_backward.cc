// Gradients of causal self-attention (Dao et al. 2022, algorithm 4): the probabilities of a tile are computed again
// from the stored log-sum-exp, so memory stays linear in T.
//   P = exp(scale Q K^T - lse)   dP = dO V^T   D = rowsum(dO * O)   dS = P * (dP - D)
//   dV = P^T dO                  dQ = scale dS K                    dK = dS^T (scale Q)
// With dropout, M of 0 or 1 / (1 - p): dP = M * (dO V^T) and dV = (P * M)^T dO; D holds as it is.
// With a softcap dS is multiplied by its slope, 1 - (capped score / cap)^2. Keys before a row's window have P = 0.
// One item of work owns a sequence and a key/value head. It goes over the query heads of that group, over their tiles
// of 64 queries and over each tile's blocks of 64 keys, always in this order, so no sum depends on the threads.
#include "kernels/cpu/attention.h"

#include "kernels/cpu/dropout.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kGroup = 32;  // rows of the diagonal tile that share a key range: skips most of its hidden half

// fp32 memory of one item: the whole sequence for one key/value head, then one tile.
struct Memory {
  float *k, *v, *dk, *dv;        // [length, D]
  float *q, *dout, *dq;          // [64, D]; q holds the scale
  float *p, *ds, *capped;        // [64, 64]
  static int64_t size(int64_t length, int64_t d) { return 4 * length * d + 3 * kBlock * d + 3 * kBlock * kBlock; }
  Memory(float* base, int64_t length, int64_t d) {
    k = base, v = k + length * d, dk = v + length * d, dv = dk + length * d;
    q = dv + length * d, dout = q + kBlock * d, dq = dout + kBlock * d;
    p = dq + kBlock * d, ds = p + kBlock * kBlock, capped = ds + kBlock * kBlock;
  }
};

// The mask of a tile's queries: `token` is the tile's first.
struct TileMask {
  const DropoutMask& dropout;
  int64_t token, head;
};

// Queries [first, first + m) of the tile that begins at position `tile_start`, against keys [key, key + n) of the
// sequence; hidden(i) keys are cut off the end of row i.
template <typename Hidden>
void tile(const Isa& isa, const Scoring& scoring, const Memory& w, int64_t d, int64_t tile_start, int64_t first, int64_t m,
          int64_t key, int64_t n, const float* lse, const float* delta, const TileMask& mask, Hidden hidden) {
  const AttentionShape& s = scoring.shape;
  float *p = w.p + first * kBlock, *ds = w.ds + first * kBlock;
  const float *q = w.q + first * d, *dout = w.dout + first * d, *k = w.k + key * d, *v = w.v + key * d;
  isa.dot_f32(q, d, m, k, d, n, d, p, kBlock, false);
  for (int64_t i = 0; i < m; ++i) {
    float* row = p + i * kBlock;
    int64_t position = tile_start + first + i, before = std::min(n, std::max<int64_t>(0, first_visible(s, position) - key));
    std::fill(ds + i * kBlock, ds + i * kBlock + n, mask.dropout ? 0 : -delta[first + i]);
    scoring.apply(isa, row, n, position, key);
    if (s.softcap > 0)  // ALiBi never comes with a cap: what apply() left is the capped score
      std::copy(row, row + n, w.capped + i * kBlock);
    isa.exp_sum(row, lse[first + i], n);
    std::fill(row, row + before, 0.0f);
    std::fill(row + n - hidden(i), row + n, 0.0f);
  }
  isa.dot_f32(dout, d, m, v, d, n, d, ds, kBlock, true);
  for (int64_t i = 0; i < m; ++i) {
    float *row = ds + i * kBlock, *weights = p + i * kBlock;
    if (mask.dropout) {
      float factors[kBlock];
      dropout_factors(mask.dropout, mask.token + first + i, tile_start + first + i, key, n, factors, mask.head);
      for (int64_t j = 0; j < n; ++j) row[j] = row[j] * factors[j] - delta[first + i];
      isa.mul(weights, row, row, n);
      isa.mul(weights, factors, weights, n);
    } else {
      isa.mul(weights, row, row, n);
    }
    if (s.softcap > 0)
      for (int64_t j = 0; j < n; ++j) {
        float share = w.capped[i * kBlock + j] / s.softcap;
        row[j] *= 1 - share * share;
      }
  }
  isa.outer(p, 1, kBlock, n, dout, d, d, m, w.dv + key * d, d, true);
  isa.outer(ds, 1, kBlock, n, q, d, d, m, w.dk + key * d, d, true);
  isa.outer(ds, kBlock, 1, m, k, d, d, n, w.dq + first * d, d, true);
}

// Writes rows [length, D] of one head into its columns of dqkv.
void store_rows(const View& out, int64_t offset, int64_t stride, const float* x, int64_t length, int64_t d) {
  for (int64_t i = 0; i < length; ++i) store(out, offset + i * stride, x + i * d, d);
}

void item(Exec& ex, const AttentionBackward& a, int64_t start, int64_t length, int64_t g) {
  const Isa& isa = cpu::isa();
  const AttentionShape& s = a.shape;
  int64_t d = s.head_dim, ld = s.row(), group = s.heads / s.kv_heads;
  int64_t keys = start * ld + (s.heads + g) * d, values = keys + s.kv_heads * d;
  Scratch<float> scratch(ex, Memory::size(length, d));
  Memory w(scratch.data(), length, d);
  pack_rows(a.qkv, keys, ld, length, d, w.k);
  pack_rows(a.qkv, values, ld, length, d, w.v);
  std::fill(w.dk, w.dk + 2 * length * d, 0.0f);

  float lse[kBlock], delta[kBlock];
  for (int64_t head = g * group; head < (g + 1) * group; ++head) {
    Scoring scoring(s, head);
    for (int64_t first = 0; first < length; first += kBlock) {
      int64_t n = std::min(kBlock, length - first), token = start + first, column = head * d;
      // D needs O only here: dq's place holds it until the sums of dq start.
      pack_rows(a.out, token * s.heads * d + column, s.heads * d, n, d, w.dq);
      pack_rows(a.dout, token * s.heads * d + column, s.heads * d, n, d, w.dout);
      for (int64_t i = 0; i < n; ++i) {
        delta[i] = isa.dot(w.dout + i * d, w.dq + i * d, d);
        lse[i] = a.lse.f32()[(token + i) * s.heads + head];
      }
      pack_rows(a.qkv, token * ld + column, ld, n, d, w.q);
      isa.scale(s.scale, w.q, n * d);
      std::fill(w.dq, w.dq + n * d, 0.0f);
      TileMask mask{a.dropout, token, head};
      for (int64_t key = first_visible(s, first) / kBlock * kBlock; key < first; key += kBlock)
        tile(isa, scoring, w, d, first, 0, n, key, kBlock, lse, delta, mask, [](int64_t) { return int64_t(0); });
      for (int64_t r = 0; r < n; r += kGroup) {
        int64_t m = std::min(kGroup, n - r);
        tile(isa, scoring, w, d, first, r, m, first, r + m, lse, delta, mask, [=](int64_t i) { return m - 1 - i; });
      }
      isa.scale(s.scale, w.dq, n * d);
      store_rows(a.dqkv, token * ld + column, ld, w.dq, n, d);
    }
  }
  store_rows(a.dqkv, keys, ld, w.dk, length, d);
  store_rows(a.dqkv, values, ld, w.dv, length, d);
}

}  // namespace

void attention_backward(Exec& ex, const AttentionBackward& a) {
  const char* where = "attention_backward";
  const AttentionShape& s = a.shape;
  int64_t tokens = a.qkv.dim(0), sequences = expect_starts(where, a.starts, tokens);

  const int32_t* starts = a.starts.i32();
  std::vector<int64_t> longest(sequences);  // started first, they do not leave one thread working alone at the end
  for (int64_t b = 0; b < sequences; ++b) longest[b] = b;
  std::stable_sort(longest.begin(), longest.end(), [&](int64_t x, int64_t y) {
    return starts[x + 1] - starts[x] > starts[y + 1] - starts[y];
  });
  ex.pool.parallel_for(sequences * s.kv_heads, [&](int64_t i) {
    int64_t b = longest[i / s.kv_heads];
    item(ex, a, starts[b], starts[b + 1] - starts[b], i % s.kv_heads);
  });
}

}  // namespace threefold::cpu
