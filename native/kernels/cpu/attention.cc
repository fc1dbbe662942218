// Causal self-attention over packed sequences: tiles of 64 queries against blocks of 64 keys, merged in order by online
// softmax (Dao et al. 2022). See attention.h for what makes a row's bits independent of its tile.
#include "kernels/cpu/attention.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kGroup = 8;  // rows of the diagonal tile that share a key range

// Queries [first, first + 64) of one sequence.
struct Tile {
  int64_t start;   // the sequence's first token
  int64_t length;  // of the sequence
  int64_t first;   // query, counted from the sequence's start
};

struct Pass {
  const Isa& isa;
  const AttentionForward& a;
  int64_t n, d, ld;  // queries in the tile; head size; elements of one qkv row
  float *q, *k, *v;  // [64, D] each; q holds the scale
  float *scores;     // [64, 64]
  float *o;          // [64, D]
  Running rows[kBlock];

  // A block every query of the tile sees whole.
  void full_block() {
    isa.dot_f32(q, d, n, k, d, kBlock, d, scores, kBlock, false);
    for (int64_t i = 0; i < n; ++i) merge_block(isa, scores + i * kBlock, kBlock, rows[i], o + i * d, d);
    isa.outer(scores, kBlock, 1, n, v, d, d, kBlock, o, d, true);
  }

  // The block that holds the queries themselves: query i sees keys 0 to i. No row touches a key it may not see, so a
  // later key that is not finite cannot reach an earlier row through 0 times infinity.
  void diagonal_block() {
    for (int64_t g = 0; g < n; g += kGroup) {
      int64_t m = std::min(kGroup, n - g);
      isa.dot_f32(q + g * d, d, m, k, d, g + m, d, scores + g * kBlock, kBlock, false);
      for (int64_t i = g; i < g + m; ++i) merge_block(isa, scores + i * kBlock, i + 1, rows[i], o + i * d, d);
      if (g) isa.outer(scores + g * kBlock, kBlock, 1, m, v, d, d, g, o + g * d, d, true);
      for (int64_t i = g; i < g + m; ++i)
        isa.outer(scores + i * kBlock + g, kBlock, 1, 1, v + g * d, d, d, i - g + 1, o + i * d, d, true);
    }
  }
};

void attend(Exec& ex, const AttentionForward& a, const Tile& tile, int64_t head) {
  const Isa& isa = cpu::isa();
  const AttentionShape& s = a.shape;
  int64_t d = s.head_dim, ld = s.row(), n = std::min(kBlock, tile.length - tile.first);
  int64_t kv_head = head / (s.heads / s.kv_heads);
  int64_t keys = (s.heads + kv_head) * d, values = keys + s.kv_heads * d;  // columns of qkv
  Scratch<float> memory(ex, kBlock * (4 * d + kBlock));
  float* q = memory.data();
  Pass p{isa, a, n, d, ld, q, q + kBlock * d, q + 2 * kBlock * d, q + 4 * kBlock * d, q + 3 * kBlock * d, {}};

  int64_t token = tile.start + tile.first;
  pack_rows(isa, a.qkv, token * ld + head * d, ld, n, d, p.q);
  isa.scale(s.scale, p.q, n * d);
  std::fill(p.o, p.o + n * d, 0.0f);
  for (int64_t b = 0; b <= tile.first; b += kBlock) {
    int64_t count = std::min(kBlock, tile.length - b), row = (tile.start + b) * ld;
    pack_rows(isa, a.qkv, row + keys, ld, count, d, p.k);
    pack_rows(isa, a.qkv, row + values, ld, count, d, p.v);
    b < tile.first ? p.full_block() : p.diagonal_block();
  }
  for (int64_t i = 0; i < n; ++i) {
    finish(isa, p.rows[i], p.o + i * d, d);
    store(a.out, ((token + i) * s.heads + head) * d, p.o + i * d, d);
    if (a.lse) a.lse.f32()[(token + i) * s.heads + head] = p.rows[i].max + std::log(p.rows[i].sum);
  }
}

}  // namespace

void attention_forward(Exec& ex, const AttentionForward& a) {
  const char* where = "attention_forward";
  const AttentionShape& s = a.shape;
  expect_qkv(where, "qkv", s, a.qkv);
  int64_t tokens = a.qkv.dim(0), sequences = expect_starts(where, a.starts, tokens);
  expect(where, "out", a.out, a.qkv.dtype, {tokens, s.heads * s.head_dim});
  if (a.lse) expect(where, "lse", a.lse, DType::f32, {tokens, s.heads});

  std::vector<Tile> tiles;
  for (int64_t b = 0; b < sequences; ++b) {
    int64_t start = a.starts.i32()[b], length = a.starts.i32()[b + 1] - start;
    for (int64_t first = 0; first < length; first += kBlock) tiles.push_back({start, length, first});
  }
  // Later tiles see more keys: started first, they do not leave one thread working alone at the end.
  std::sort(tiles.begin(), tiles.end(), [](const Tile& x, const Tile& y) { return x.first > y.first; });
  ex.pool.parallel_for(int64_t(tiles.size()) * s.heads,
                       [&](int64_t i) { attend(ex, a, tiles[i / s.heads], i % s.heads); });
}

}  // namespace threefold::cpu
