// Host side of what logprob's two directions share: how rows and vocabulary are cut, and the check of values.
#pragma once

#include <algorithm>

#include "kernels/cuda/launch.h"

namespace threefold::cuda {

// Chosen rows in blocks, the vocabulary in strips of whole tiles: memory is one [block, strip] of logits.
struct Cuts {
  static constexpr int64_t kRows = 2048, kColumns = 32768, kLogits = int64_t(8) << 20;  // 32 MiB of fp32
  int64_t rows, strip;
  Cuts(int64_t r, int64_t v);
};

// Raises where a row is not of the T rows of hidden or named twice, or a target is outside of the vocabulary. Kernels
// after it must not trust them all the same.
void check_chosen(Exec& ex, const char* where, const View& hidden, const View& weight, const View& rows, const View& targets);

// Calls body(r0, n) for every block of rows.
template <typename F>
void over_rows(int64_t r, const Cuts& cuts, F body) {
  for (int64_t r0 = 0; r0 < r; r0 += cuts.rows) body(r0, std::min(cuts.rows, r - r0));
}
// Calls body(v0, strip of weight [n, H], strip of bias [n] or none) for every strip of the vocabulary, in order.
template <typename F>
void over_strips(const View& weight, const View& bias, const Cuts& cuts, F body) {
  for (int64_t v0 = 0; v0 < weight.dim(0); v0 += cuts.strip) {
    int64_t end = std::min(weight.dim(0), v0 + cuts.strip);
    body(v0, weight.rows(v0, end), bias ? bias.rows(v0, end) : View{});
  }
}

}  // namespace threefold::cuda
