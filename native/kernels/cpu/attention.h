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
constexpr int64_t kMaxHeadDim = 256;

// Checks the sizes themselves and that `v` is [rows, (N + 2G) D] of fp32 or bf16.
inline void expect_qkv(const char* where, const char* what, const AttentionShape& s, const View& v) {
  if (s.kv_heads < 1 || s.heads < 1 || s.heads % s.kv_heads)
    fail(where, "query heads that are a multiple of the key/value heads",
         std::to_string(s.heads) + " and " + std::to_string(s.kv_heads), "the head counts of the model's config");
  if (s.head_dim < 1 || s.head_dim > kMaxHeadDim)
    fail(where, "a head size of 1 to " + std::to_string(kMaxHeadDim), std::to_string(s.head_dim),
         "a model with more, smaller heads");
  if (v.dtype != DType::f32 && v.dtype != DType::bf16)
    fail(where, std::string(what) + " of fp32 or bf16", name_of(v.dtype), "casting it");
  expect(where, what, v, v.dtype, {v.shape.rank == 2 ? v.dim(0) : 0, s.row()});
}

// Checks `starts` against T tokens and returns the number of sequences.
inline int64_t expect_starts(const char* where, const View& starts, int64_t tokens) {
  if (starts.shape.rank != 1 || starts.dim(0) < 1)
    fail(where, "starts of int32 [B + 1]", starts.shape.text(), "the starts of the packed batch");
  expect(where, "starts", starts, DType::i32, {starts.dim(0)});
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
inline void pack_rows(const Isa& isa, const View& v, int64_t offset, int64_t stride, int64_t rows, int64_t d, float* out) {
  for (int64_t i = 0; i < rows; ++i, offset += stride, out += d) {
    if (v.dtype == DType::bf16)
      isa.widen_bf16(v.as<bf16>() + offset, out, d);
    else
      std::memcpy(out, v.f32() + offset, d * sizeof(float));
  }
}

// The online softmax of one query row (Dao et al. 2022, algorithm 1).
struct Running {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
};

// Takes in the scaled scores of one key block: `valid` keys, those of the block that exist and that the query may see.
// Leaves the probabilities relative to the new maximum in `scores` and rescales o [d] to match; the caller then
// continues o over those keys in order. `valid` follows from the query's position alone, so a row meets the same calls
// with the same lengths in a tile and in decode.
inline void merge_block(const Isa& isa, float* scores, int64_t valid, Running& row, float* o, int64_t d) {
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
