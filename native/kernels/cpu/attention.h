// What the forward, the backward and the decode of attention share. The bits of contract 1 are made here: one query
// row goes through merge_block() once per key block and through finish() at the end, whether it came in a tile of a
// training batch or alone against the paged cache.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {

constexpr int64_t kBlock = 64;  // keys of one block, counted from the sequence's start; also queries of one tile

// Checks `starts` against T tokens and returns the number of sequences.
inline int64_t expect_starts(const char* where, const View& starts, int64_t tokens) {
  const int32_t* s = starts.i32();
  int64_t sequences = starts.dim(0) - 1;
  bool good = s[0] == 0 && s[sequences] == tokens;
  for (int64_t i = 0; i < sequences; ++i) good = good && s[i] <= s[i + 1];
  if (!good)
    fail(where, "starts that rise from 0 to " + std::to_string(tokens), "other values",
         "the starts of the packed batch these rows came from");
  return sequences;
}

// Copies `rows` rows of `d` values, `stride` elements apart from element `offset` of v on, into out [rows, d] as fp32.
inline void pack_rows(const View& v, int64_t offset, int64_t stride, int64_t rows, int64_t d, float* out) {
  for (int64_t i = 0; i < rows; ++i, offset += stride, out += d)
    if (const float* row = load(v, offset, d, out); row != out) std::memcpy(out, row, d * sizeof(float));
}

// The online softmax of one query row (Dao et al. 2022, algorithm 1).
struct Running {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
};

// ALiBi's slope of one head: 2^(-8 (n + 1) / N) where N is a power of two; beyond the largest power below N every other
// slope of twice that many heads (build_alibi_tensor of transformers' BLOOM).
inline float alibi_slope(int64_t head, int64_t heads) {
  int64_t power = 1;
  while (2 * power <= heads) power *= 2;
  return float(head < power ? std::exp2(-8.0 * double(head + 1) / double(power))
                            : std::exp2(-4.0 * double(2 * (head - power) + 1) / double(power)));
}

// The first key that the query at `position` sees, both counted from the sequence's start.
inline int64_t first_visible(const AttentionShape& s, int64_t position) {
  return s.window > 0 ? std::max<int64_t>(0, position - s.window + 1) : 0;
}

// How the scores of one query head are made and masked, apart from scale q.k.
struct Scoring {
  const AttentionShape& shape;
  float slope;  // ALiBi's; 0 = none

  Scoring(const AttentionShape& s, int64_t head) : shape(s), slope(s.alibi ? alibi_slope(head, s.heads) : 0) {}

  // scores [0, n) of the query at `position` against the keys from `key` on, in place.
  void apply(const Isa& isa, float* scores, int64_t n, int64_t position, int64_t key) const {
    if (shape.softcap > 0) isa.softcap(shape.softcap, scores, n);
    if (slope != 0)
      for (int64_t j = 0; j < n; ++j) scores[j] += slope * float(key + j - position);
  }
};

// Takes in the scores (scale q.k) of one key block: keys [key, key + valid) that exist and are not later than the query
// at `position`. Leaves the probabilities relative to the new maximum in `scores`, 0 for keys before the window, and
// rescales o [d] to match; the caller then continues o over those keys in order. Everything here follows from the
// query's position alone, so a row meets the same calls with the same lengths in a tile and in decode. A block that lies
// before the window whole changes no bit.
inline void merge_block(const Isa& isa, const Scoring& scoring, float* scores, int64_t key, int64_t valid, int64_t position,
                        Running& row, float* o, int64_t d) {
  int64_t hidden = std::min(valid, std::max<int64_t>(0, first_visible(scoring.shape, position) - key));
  std::fill(scores, scores + hidden, 0.0f);
  if (hidden == valid) return;
  scores += hidden, key += hidden, valid -= hidden;
  scoring.apply(isa, scores, valid, position, key);
  float max = std::max(row.max, isa.max(scores, valid));
  if (max > row.max && row.sum != 0) {
    float shrink = row.max;
    isa.exp_sum(&shrink, max, 1);
    row.sum *= shrink;
    isa.scale(shrink, o, d);
  }
  row.sum += isa.exp_sum(scores, max, valid);
  row.max = max;
}

inline void finish(const Isa& isa, const Running& row, float* o, int64_t d) { isa.scale(1 / row.sum, o, d); }

}  // namespace threefold::cpu
