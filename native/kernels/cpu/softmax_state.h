// THE log-softmax. Logprob and sample both fold logits through it, in the same tiles, so that the log-prob recorded
// when a token is drawn and the one computed later from the hidden state are bit-equal (contract 1).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/isa.h"

namespace threefold::cpu {

constexpr int64_t kVocabularyTile = 1024;  // columns, counted from 0

// Softmax of the logits seen so far (online, Milakov and Gimelshein 2018). Tiles are folded in index order.
struct SoftmaxState {
  float max = -std::numeric_limits<float>::infinity();
  double sum = 0;       // of exp(z - max)
  double weighted = 0;  // of exp(z - max) * (z - max), when entropy is asked for

  // Folds n <= kVocabularyTile raw logits, scaling them to z = logit * inv_temperature in place, and leaves the
  // exponentials in their place. `shifted`, n floats of scratch, asks for `weighted`.
  void fold(float* logits, int64_t n, float inv_temperature, float* shifted = nullptr) {
    const Isa& v = isa();
    v.scale(inv_temperature, logits, n);
    constexpr float kNothing = -std::numeric_limits<float>::infinity();
    float top = std::max(max, v.max(logits, n));
    if (top == kNothing) top = 0;  // nothing but -inf (or NaN, which then shows in the sum)
    if (shifted)  // exp of the lower bound is 0 all the same, and 0 * bound is 0 where 0 * -inf would be NaN
      for (int64_t i = 0; i < n; ++i) shifted[i] = std::max(logits[i] - top, -1000.0f);
    double drop = double(max) - top, keep = max == kNothing ? 0 : std::exp(drop);
    if (shifted) weighted = keep == 0 ? 0 : keep * (weighted + sum * drop);
    sum = keep * sum + v.exp_sum(logits, top, n);
    if (shifted) weighted += v.dot(logits, shifted, n);
    max = top;
  }
  double lse() const { return double(max) + std::log(sum); }
  // The log-prob of a token, from its raw logit.
  float logprob(float logit, float inv_temperature) const { return float(double(logit * inv_temperature) - lse()); }
  float entropy() const { return float(std::log(sum) - weighted / sum); }
};

}  // namespace threefold::cpu
