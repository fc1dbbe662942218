// Causal self-attention over packed sequences: tiles of 64 queries against blocks of 64 keys, merged in order by online
// softmax (Dao et al. 2022). See attention.h for what makes a row's bits independent of its tile.
#include "kernels/cpu/attention.h"

#include "kernels/cpu/dropout.h"

namespace threefold::cpu {
namespace {

constexpr int64_t kSpan = 4 * kBlock;  // queries of one item of work: each fetch of a key block serves four tiles
constexpr int64_t kGroup = 8;          // rows of the diagonal tile that share a key range

// Queries [first, first + n) of one sequence, for one head.
struct Span {
  int64_t start, length;  // the sequence: first token, tokens
  int64_t first, n;       // counted from the sequence's start
  int64_t head;
};

struct Pass {
  const Isa& isa;
  const Scoring& scoring;
  int64_t first;     // position of the span's first query
  int64_t d;
  float *q, *o;      // [256, D]; q holds the scale
  float *k, *v;      // [64, D]
  float* scores;     // [64, 64]
  Running* rows;     // [256]
  const DropoutMask& dropout;
  int64_t token, head;  // of the span's first query

  // Takes query at + i in, whose scores against keys [key, key + valid) are given.
  void merge(int64_t i, float* row_scores, int64_t key, int64_t valid) const {
    merge_block(isa, scoring, row_scores, key, valid, first + i, rows[i], o + i * d, d);
    if (!dropout) return;
    float factors[kBlock];  // the sum of the probabilities is of all, what they weigh of those kept
    dropout_factors(dropout, token + i, first + i, key, valid, factors, head);
    isa.mul(row_scores, factors, row_scores, valid);
  }

  // Queries [at, at + n) of the span against the block of keys from `key` on, all before them.
  void full_block(int64_t key, int64_t at, int64_t n) const {
    isa.dot_f32(q + at * d, d, n, k, d, kBlock, d, scores, kBlock, false);
    for (int64_t i = 0; i < n; ++i) merge(at + i, scores + i * kBlock, key, kBlock);
    isa.outer(scores, kBlock, 1, n, v, d, d, kBlock, o + at * d, d, true);
  }

  // The block that holds the queries themselves: query i sees keys 0 to i. No row touches a key it may not see, so a
  // later key that is not finite cannot reach an earlier row through 0 times infinity.
  void diagonal_block(int64_t key, int64_t at, int64_t n) const {
    for (int64_t g = 0; g < n; g += kGroup) {
      int64_t m = std::min(kGroup, n - g);
      float *group = scores + g * kBlock, *out = o + (at + g) * d;
      isa.dot_f32(q + (at + g) * d, d, m, k, d, g + m, d, group, kBlock, false);
      for (int64_t i = 0; i < m; ++i) merge(at + g + i, group + i * kBlock, key, g + i + 1);
      if (g) isa.outer(group, kBlock, 1, m, v, d, d, g, out, d, true);
      for (int64_t i = 0; i < m; ++i)
        isa.outer(group + i * kBlock + g, kBlock, 1, 1, v + g * d, d, d, i + 1, out + i * d, d, true);
    }
  }
};

void attend(Exec& ex, const AttentionForward& a, const Span& span) {
  const Isa& isa = cpu::isa();
  const AttentionShape& s = a.shape;
  int64_t d = s.head_dim, ld = s.row(), n = span.n, kv_head = span.head / (s.heads / s.kv_heads);
  int64_t keys = (s.heads + kv_head) * d, values = keys + s.kv_heads * d;  // columns of qkv
  Scratch<float> memory(ex, 2 * (n + kBlock) * d + kBlock * kBlock);
  Running rows[kSpan];
  float *q = memory.data(), *o = q + n * d, *k = o + n * d, *v = k + kBlock * d;
  Scoring scoring(s, span.head);
  int64_t token = span.start + span.first;
  Pass pass{isa, scoring, span.first, d, q, o, k, v, v + kBlock * d, rows, a.dropout, token, span.head};

  pack_rows(a.qkv, token * ld + span.head * d, ld, n, d, q);
  isa.scale(s.scale, q, n * d);
  std::fill(o, o + n * d, 0.0f);
  for (int64_t block = first_visible(s, span.first) / kBlock * kBlock; block < span.first + n; block += kBlock) {
    int64_t count = std::min(kBlock, span.length - block), row = (span.start + block) * ld;
    pack_rows(a.qkv, row + keys, ld, count, d, k);
    pack_rows(a.qkv, row + values, ld, count, d, v);
    int64_t diagonal = block - span.first;  // where the block's own queries lie in the span
    if (diagonal >= 0) pass.diagonal_block(block, diagonal, count);
    for (int64_t at = std::max<int64_t>(0, diagonal + kBlock); at < n; at += kBlock) {
      if (first_visible(s, span.first + at) >= block + kBlock) break;  // the window of these and later queries is past it
      pass.full_block(block, at, std::min(kBlock, n - at));
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    finish(isa, rows[i], o + i * d, d);
    store(a.out, ((token + i) * s.heads + span.head) * d, o + i * d, d);
    if (a.lse) a.lse.f32()[(token + i) * s.heads + span.head] = rows[i].max + std::log(rows[i].sum);
  }
}

}  // namespace

void attention_forward(Exec& ex, const AttentionForward& a) {
  const char* where = "attention_forward";
  const AttentionShape& s = a.shape;
  int64_t tokens = a.qkv.dim(0), sequences = expect_starts(where, a.starts, tokens);

  // One head's spans follow each other, so its keys stay in cache; the longest first, so that no thread ends alone.
  std::vector<Span> spans;
  for (int64_t b = 0; b < sequences; ++b) {
    int64_t start = a.starts.i32()[b], length = a.starts.i32()[b + 1] - start;
    if (length == 0) continue;
    for (int64_t head = 0; head < s.heads; ++head)
      for (int64_t first = (length - 1) / kSpan * kSpan; first >= 0; first -= kSpan)
        spans.push_back({start, length, first, std::min(kSpan, length - first), head});
  }
  ex.pool.parallel_for(int64_t(spans.size()), [&](int64_t i) { attend(ex, a, spans[i]); });
}

}  // namespace threefold::cpu
