// THE running log-softmax over a row of logits, tile by tile. LogprobForward and Sample both use it over the same tiles,
// so the log-prob a sampler records and the one a trainer recomputes are the same bits.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/cpu/isa.h"

namespace threefold::cpu {

constexpr int64_t kVocabularyTile = 1024;  // counted from id 0

struct SoftmaxState {
  float max = -INFINITY;
  float sum = 0;        // of exp(z - max)
  float weighted = 0;   // of exp(z - max) * z
  float lse = 0, entropy = 0;

  // Adds the tile's z = logit * inv_temperature (n values, overwritten).
  void add(float* z, int64_t n, float inv_temperature, bool want_entropy, float* spare) {
    const Isa& v = isa();
    v.scale(inv_temperature, z, n);
    if (want_entropy) std::copy_n(z, n, spare);
    float top = std::max(max, v.max(z, n));
    if (top == -INFINITY) return;
    float old = -INFINITY;
    if (max != -INFINITY) {
      old = max;
      float keep[1] = {old};
      v.exp_sum(keep, top, 1);
      sum *= keep[0];
      weighted *= keep[0];
    }
    max = top;
    sum += v.exp_sum(z, top, n);
    if (want_entropy) weighted += v.dot(z, spare, n);
  }

  void finish() {
    lse = float(double(max) + std::log(double(sum)));
    entropy = lse - weighted / sum;
  }
};

}  // namespace threefold::cpu
