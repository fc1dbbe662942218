// Gradients that many rows add to: blocks sum pieces of rows, and the pieces join in a fixed order.
#pragma once

#include "kernels/kernels.h"

namespace threefold::cuda {

// The sums of pieces of rows, [pieces, h] for each of one or two gradients of [h].
class PieceSums {
 public:
  // Sums of the gradients that are not nullptr.
  PieceSums(Exec& ex, int64_t pieces, int64_t h, float* first, float* second = nullptr)
      : ex_(ex), pieces_(pieces), h_(h), out_{first, second},
        sums_{{ex, first ? pieces * h : 0}, {ex, second ? pieces * h : 0}} {}
  // [pieces, h], or nullptr; every element is to be written.
  float* first() { return out_[0] ? sums_[0].data() : nullptr; }
  float* second() { return out_[1] ? sums_[1].data() : nullptr; }
  // Adds them to the gradients.
  void join(const char* name);

 private:
  Exec& ex_;
  int64_t pieces_, h_;
  float* out_[2];
  Scratch<float> sums_[2];
};

}  // namespace threefold::cuda
