// Shapes, dtypes and sizes of every op, checked in one place for all devices: a device's table calls check() before the
// kernel. What only the values tell (ids, starts, page numbers) each device checks itself, with the words of Wording.
#pragma once

#include "kernels/kernels.h"

namespace threefold {

#define THREEFOLD_CHECK(name, Args) void check(const Args&);
THREEFOLD_KERNELS(THREEFOLD_CHECK)
#undef THREEFOLD_CHECK

// A table's entry: the check, then the kernel.
template <auto run, typename Args>
void checked(Exec& ex, const Args& args) {
  check(args);
  run(ex, args);
}

constexpr int64_t kMaxHeadDim = 256;

}  // namespace threefold
