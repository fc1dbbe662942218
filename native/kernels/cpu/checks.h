// Checks of values that several ops share; kernels/checks.h has those of shapes.
#pragma once

#include <vector>

#include "kernels/kernels.h"

namespace threefold::cpu {

// Each of the n values is in [0, bound).
inline void expect_indices(const char* where, const char* what, const View& v, int64_t n, int64_t bound,
                           const char* cure) {
  for (int64_t i = 0; i < n; ++i)
    if (int64_t id = v.i32()[i]; id < 0 || id >= bound)
      fail(where, std::string(what) + " from 0 and below " + std::to_string(bound),
           std::to_string(id) + " at position " + std::to_string(i), cure);
}

// Rows of a [T, ...] tensor, each at most once, so that rows can be written without a race. Returns R.
inline int64_t expect_rows(const char* where, const View& rows, int64_t t) {
  int64_t r = rows.dim(0);
  expect_indices(where, "rows", rows, r, t, "row numbers of this batch");
  std::vector<bool> seen(t);
  for (int64_t i = 0; i < r; ++i) {
    int64_t row = rows.i32()[i];
    if (seen[row]) fail(where, "each row at most once", "row " + std::to_string(row) + " twice", "naming each row once");
    seen[row] = true;
  }
  return r;
}

}  // namespace threefold::cpu
