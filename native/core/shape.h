// Shapes of contiguous tensors, at most four dimensions.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/status.h"

namespace threefold {

struct Shape {
  std::array<int64_t, 4> dims{};
  int rank = 0;

  Shape() = default;
  Shape(std::initializer_list<int64_t> list) {
    for (int64_t d : list) push(d);
  }
  void push(int64_t d) {
    if (rank == 4) fail("shape", "at most 4 dimensions", "more", "folding two dimensions into one");
    if (d < 0) fail("shape", "dimensions of 0 or more", std::to_string(d), "checking the sizes");
    dims[rank++] = d;
  }
  int64_t operator[](int i) const { return dims[i]; }
  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[i];
    return n;
  }
  bool operator==(const Shape&) const = default;
  std::string text() const {
    std::string s = "[";
    for (int i = 0; i < rank; ++i) s += (i ? ", " : "") + std::to_string(dims[i]);
    return s + "]";
  }
};

}  // namespace threefold
