// Which elements dropout keeps (Srivastava et al. 2014). A mask is never stored: an element's word of Philox follows from the
// optimizer step (seed), the place in the model (stream), and the element's own sequence, position and column. So backward and
// gradient checkpointing meet the mask of forward, it does not depend on how rows are packed or cut into micro-batches, and
// every device draws the same one.
#pragma once

#include "core/rng.h"
#include "core/view.h"

namespace threefold {

// Places of a layer; the probabilities of attention have one for each head, from `attention` on.
struct DropoutPlace {
  static constexpr uint32_t embedding = 0, attention_out = 1, mlp_out = 2, attention = 3;
};
constexpr uint32_t dropout_stream(int64_t layer, uint32_t place) { return uint32_t(layer) << 16 | place; }

struct DropoutMask {
  float p = 0;          // share of the elements that become 0; the others are divided by 1 - p. 0 = off
  uint64_t seed = 0;    // of the optimizer step
  uint32_t stream = 0;  // dropout_stream(); of head 0 for attention
  View rows{};          // int32 [T]: the number, within the step, of the sequence that each token is of

  explicit operator bool() const { return p > 0; }
  float scale() const { return 1 / (1 - p); }
  uint32_t threshold() const { return uint32_t(double(p) * 0x1p32); }  // words below it are dropped
};

// The words of columns (keys, for attention) [4 block, 4 block + 4) of the token at `position` of sequence `row`.
constexpr PhiloxBlock dropout_words(uint64_t seed, uint32_t stream, uint32_t row, uint32_t position, uint32_t block) {
  return philox({block, position, row, stream}, uint32_t(seed), uint32_t(seed >> 32));
}

}  // namespace threefold
