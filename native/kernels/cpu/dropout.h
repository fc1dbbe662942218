// Masks of dropout as factors: 0, or 1 / (1 - p).
#pragma once

#include <algorithm>

#include "kernels/dropout.h"

namespace threefold::cpu {

// out [n]: of columns [first, first + n), first a multiple of 4, of the token at `position` of the sequence that `token` is of.
// `head`: of attention, whose columns are keys.
inline void dropout_factors(const DropoutMask& mask, int64_t token, int64_t position, int64_t first, int64_t n, float* out,
                            int64_t head = 0) {
  const uint32_t row = uint32_t(mask.rows.i32()[token]), threshold = mask.threshold();
  const float scale = mask.scale();
  for (int64_t i = 0; i < n; i += 4) {
    PhiloxBlock words = dropout_words(mask.seed, mask.stream + uint32_t(head), row, uint32_t(position), uint32_t((first + i) / 4));
    for (int64_t j = 0, left = std::min<int64_t>(4, n - i); j < left; ++j) out[i + j] = words[j] < threshold ? 0 : scale;
  }
}

}  // namespace threefold::cpu
