// One new query per sequence against keys and values kept in pages. The same steps, on the same blocks of 64 keys
// counted from the sequence's start, as one row of attention.cc; the pages only decide where keys are read from.
#include "kernels/cpu/attention.h"

namespace threefold::cpu {
namespace {

// The pages a sequence reads from are there.
void expect_pages(const AttentionDecode& a) {
  const char* where = "attention_decode";
  int64_t batch = a.qkv.dim(0), pages = a.keys.dim(0), page_size = a.keys.dim(1), max_blocks = a.block_table.dim(1);
  for (int64_t b = 0; b < batch; ++b) {
    int64_t length = a.lengths.i32()[b];
    if (length < 1 || length > max_blocks * page_size)
      fail(where, "lengths of 1 to " + std::to_string(max_blocks * page_size), std::to_string(length),
           "more pages for sequence " + std::to_string(b));
    for (int64_t i = 0; i * page_size < length; ++i)
      if (int32_t page = a.block_table.i32()[b * max_blocks + i]; page < 0 || page >= pages)
        fail(where, "block_table pages of 0 to " + std::to_string(pages - 1), std::to_string(page),
             "the pages given to sequence " + std::to_string(b));
  }
}

// The query heads that share key/value head `g` of sequence `b`, as the rows of one tile.
void attend(Exec& ex, const AttentionDecode& a, int64_t b, int64_t g) {
  const Isa& isa = cpu::isa();
  const AttentionShape& s = a.shape;
  int64_t d = s.head_dim, m = s.heads / s.kv_heads, page_size = a.keys.dim(1), slot = s.kv_heads * d;
  int64_t length = a.lengths.i32()[b];
  const int32_t* table = a.block_table.i32() + b * a.block_table.dim(1);
  bool narrow = a.qkv.dtype != DType::f32;

  Scratch<float> memory(ex, 2 * m * d + m * kBlock + (narrow ? kBlock * d : 0));
  float *q = memory.data(), *o = q + m * d, *scores = o + m * d, *wide = scores + m * kBlock;
  std::vector<Running> rows(m);
  std::vector<Scoring> scoring;
  for (int64_t r = 0; r < m; ++r) scoring.emplace_back(s, g * m + r);
  pack_rows(a.qkv, b * s.row() + g * m * d, d, m, d, q);
  isa.scale(s.scale, q, m * d);
  std::fill(o, o + m * d, 0.0f);

  // Calls fn(element of the cache, key within the block, keys) for every stretch of the block that lies in one page.
  auto pieces = [&](int64_t block, int64_t valid, auto&& fn) {
    for (int64_t i = 0; i < valid;) {
      int64_t key = block + i, place = key % page_size, count = std::min(valid - i, page_size - place);
      fn(((table[key / page_size] * page_size + place) * s.kv_heads + g) * d, i, count);
      i += count;
    }
  };
  for (int64_t block = first_visible(s, length - 1) / kBlock * kBlock; block < length; block += kBlock) {
    int64_t valid = std::min(kBlock, length - block);
    pieces(block, valid, [&](int64_t at, int64_t i, int64_t count) {
      dot_rows(q, d, m, a.keys, at, slot, count, d, scores + i, kBlock, false);
    });
    for (int64_t r = 0; r < m; ++r)
      merge_block(isa, scoring[r], scores + r * kBlock, block, valid, length - 1, rows[r], o + r * d, d);
    pieces(block, valid, [&](int64_t at, int64_t i, int64_t count) {
      if (narrow)
        pack_rows(a.values, at, slot, count, d, wide + i * d);
      else
        isa.outer(scores + i, kBlock, 1, m, a.values.f32() + at, slot, d, count, o, d, true);
    });
    if (narrow) isa.outer(scores, kBlock, 1, m, wide, d, d, valid, o, d, true);
  }
  for (int64_t r = 0; r < m; ++r) finish(isa, rows[r], o + r * d, d);
  store(a.out, (b * s.heads + g * m) * d, o, m * d);
}

}  // namespace

void attention_decode(Exec& ex, const AttentionDecode& a) {
  expect_pages(a);
  int64_t kv_heads = a.shape.kv_heads;
  ex.pool.parallel_for(a.qkv.dim(0) * kv_heads, [&](int64_t i) { attend(ex, a, i / kv_heads, i % kv_heads); });
}

}  // namespace threefold::cpu
