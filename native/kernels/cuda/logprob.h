// Host side of what logprob's two directions share: how rows and vocabulary are cut, and the check of values.
#pragma once

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

}  // namespace threefold::cuda
