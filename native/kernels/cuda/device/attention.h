// What the forward, the backward and the decode of attention share: the arithmetic that gives a row its bits.
//
// A row takes its keys in blocks of 64 counted from the sequence's start, eight blocks to a span. Inside a span the blocks
// are folded in order by online softmax (Dao et al. 2022); a span starts from nothing, and spans are joined in order by
// join(). So the spans of one row can be folded by different blocks of the grid (decode does that where it has few rows)
// and give the bits of a pass over all of them (forward). What a row cannot see changes no bit: keys masked out have
// probability 0, and a block or a span without a visible key leaves a row as it was.
//
// Scores are kept in units of log 2: p = 2^(factor s - top), with `factor` 1 where a cap or ALiBi makes s more than q.k.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/device/fault.h"
#include "kernels/cuda/device/ptx.h"
#include "kernels/cuda/device/reduce.h"
#include "kernels/kernels.h"

namespace threefold::cuda {

constexpr int kKeys = 64;        // keys of one block
constexpr int kSpanBlocks = 8;   // blocks of one span
constexpr float kLog2e = 1.44269504f, kLn2 = 0.693147181f;
constexpr float kNothing = -INFINITY;

struct Attention {
  int heads, kv_heads, group, d;  // N, G, N / G, D
  int64_t row;                    // (N + 2G) D
  int window;                     // 0 = all keys
  enum Kind { plain, scaled, capped, alibi } kind;
  float scale;                    // of q.k in log 2 units; of q.k / cap where capped
  float cap;                      // in log 2 units
  float factor;                   // of a score; above 0

  explicit Attention(const AttentionShape& s)
      : heads(int(s.heads)), kv_heads(int(s.kv_heads)), group(int(s.heads / s.kv_heads)), d(int(s.head_dim)), row(s.row()),
        window(int(s.window < INT32_MAX ? s.window : 0)),
        kind(s.softcap > 0 ? capped : s.alibi ? alibi : s.scale > 0 ? plain : scaled),
        scale(kind == capped ? s.scale / s.softcap : s.scale * kLog2e), cap(s.softcap * kLog2e),
        factor(kind == plain ? scale : 1) {}

  // Elements of a token's row before the queries, keys or values of a head.
  __device__ int64_t query(int head) const { return int64_t(head) * d; }
  __device__ int64_t key(int kv_head) const { return int64_t(heads + kv_head) * d; }
  __device__ int64_t value(int kv_head) const { return int64_t(heads + kv_heads + kv_head) * d; }

  // The first key that the query at `position` sees, both counted from the sequence's start.
  __device__ int first_visible(int position) const { return window > 0 && position >= window ? position - window + 1 : 0; }
  __device__ bool visible(int key, int position) const { return key <= position && key >= first_visible(position); }

  // ALiBi's slope of one head in log 2 units: 2^(-8 (n + 1) / N) where N is a power of two; beyond the largest power below N
  // every other slope of twice that many heads (build_alibi_tensor of transformers' BLOOM).
  __device__ float slope(int head) const {
    if (kind != alibi) return 0;
    int power = 1;
    while (2 * power <= heads) power *= 2;
    return float(head < power ? exp2(-8.0 * (head + 1) / power) : exp2(-4.0 * (2 * (head - power) + 1) / power)) * kLog2e;
  }
  // The score from q.k. `distance`: of the key from the query, 0 or less.
  template <Kind kind>
  __device__ __forceinline__ float score(float dot, float slope, int distance) const {
    if constexpr (kind == plain) return dot;
    if constexpr (kind == capped) return cap * tanhf(dot * scale);
    return kind == alibi ? fmaf(slope, float(distance), dot * scale) : dot * scale;
  }
  // d score / d q.k relative to scale, from the score.
  __device__ float slope_of_cap(float score) const {
    float share = score / cap;
    return 1 - share * share;
  }
};

template <Attention::Kind kind>
using KindIs = std::integral_constant<Attention::Kind, kind>;

// Calls f with the kind as a KindIs: one branch for all the scores of a tile.
template <typename F>
__device__ __forceinline__ void with_kind(const Attention& s, F&& f) {
  switch (s.kind) {
    case Attention::plain: return f(KindIs<Attention::plain>{});
    case Attention::scaled: return f(KindIs<Attention::scaled>{});
    case Attention::capped: return f(KindIs<Attention::capped>{});
    case Attention::alibi: return f(KindIs<Attention::alibi>{});
  }
}

// --- the online softmax of one row ----------------------------------------------------------------------------------------

// What to subtract from scores, where `top` is the largest (in log 2 units): a row that saw nothing yet must not give NaN.
__device__ __forceinline__ float shift_of(float top) { return top == kNothing ? 0 : top; }

// Of one row: what is folded so far. `sum` is of the probabilities relative to `top`.
struct Folded {
  float top = kNothing, sum = 0;
};

// Takes in the largest score of the next block of keys (in log 2 units); returns by how much what is folded shrinks.
__device__ __forceinline__ float rise(Folded& row, float largest) {
  float top = fmaxf(row.top, largest), shrink = ptx::exp2(row.top - shift_of(top));
  row.top = top;
  return shrink;
}

// By how much to multiply two folded stretches of keys, the earlier and the later, where they are joined.
struct Joint {
  float earlier, later;
};
__device__ __forceinline__ Joint join(Folded& earlier, const Folded& later) {
  float top = fmaxf(earlier.top, later.top), shift = shift_of(top);
  Joint by{ptx::exp2(earlier.top - shift), ptx::exp2(later.top - shift)};
  earlier.sum = by.earlier == 0 ? later.sum * by.later : fmaf(earlier.sum, by.earlier, later.sum * by.later);
  earlier.top = top;
  return by;
}
__device__ __forceinline__ float joined(float earlier, float later, const Joint& by) {
  return by.earlier == 0 ? later * by.later : fmaf(earlier, by.earlier, later * by.later);
}

__device__ __forceinline__ float finished(float o, const Folded& row) { return o * (1 / row.sum); }
__device__ __forceinline__ float lse_of(const Folded& row) { return (row.top + log2f(row.sum)) * kLn2; }

// P and dS (of q.k, apart from scale) of a query that sees a key, from the query's {lse in log 2 units, sum of dout * out}.
// keep: the factor of dropout, which P then has too.
struct Weights {
  float p = 0, ds = 0;
};
template <Attention::Kind kind>
__device__ __forceinline__ Weights weigh(const Attention& s, float dot, float dp, float slope, int distance, const float2& stats, float keep = 1) {
  float score = s.score<kind>(dot, slope, distance);
  Weights w;
  w.p = ptx::exp2(fmaf(score, s.factor, -stats.x));
  w.ds = w.p * (dp * keep - stats.y);
  w.p *= keep;
  if constexpr (kind == Attention::capped) w.ds *= s.slope_of_cap(score);
  return w;
}

// --- tiles of packed sequences ----------------------------------------------------------------------------------------------

// `rows` queries or keys of one sequence, from `first` on, counted from the sequence's start.
struct Tile {
  int64_t start;  // token
  int length, first;
};

// Tiles of T tokens in B sequences: sequence b has the numbers from starts[b] / rows + b on, at least as many as it needs.
inline unsigned tiles_for(int64_t tokens, int64_t sequences, int rows) { return unsigned(tokens / rows + sequences + (sequences == 0)); }

// Every thread of the warp calls it. False where tile `number` does not exist.
__device__ __forceinline__ bool find_tile(const int32_t* starts, int sequences, int64_t tokens, int rows, int number, Tile& tile) {
  int low = 0, high = sequences, lane = threadIdx.x % 32;
  while (high - low > 1) {
    int step = (high - low + 31) / 32, b = low + step * lane;
    unsigned before = __ballot_sync(kFull, b < high && starts[b] / rows + b <= number);
    int steps = before ? __popc(before) - 1 : 0;
    low += step * steps;
    high = min(high, low + step);
  }
  if (sequences == 0) return false;
  int start = starts[low], end = starts[low + 1];
  tile = {start, end - start, (number - (start / rows + low)) * rows};
  return start >= 0 && start <= end && end <= tokens && tile.first >= 0 && tile.first < tile.length;
}

// One block of a grid calls it: starts [sequences + 1] rise from 0 to `tokens`.
__device__ __forceinline__ void check_starts(const int32_t* starts, int sequences, int64_t tokens, const Check& check) {
  for (int i = threadIdx.x; i <= sequences; i += blockDim.x) {
    bool good = (i > 0 || starts[0] == 0) && (i < sequences ? starts[i] <= starts[i + 1] : starts[i] == tokens);
    if (!good) check.raise(tokens, 0, 0);
  }
}
inline Check starts_check(Fault* fault, const char* where) {
  return {fault, where, "starts that rise from 0 to %lld", "other values", "the starts of the packed batch these rows came from"};
}

}  // namespace threefold::cuda
