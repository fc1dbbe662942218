// The emulated device: CUDA's kernels, run by the host (block.h). For tests, and for `--device emulated`.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "kernels/cuda/faults.h"
#include "kernels/emulated/block.h"

namespace threefold::emulated {

// THREEFOLD_EMULATED_ORDER = forward (the default), reverse, or a number that seeds any order.
// THREEFOLD_EMULATED_ARCH = 80 (the default) or 90: which of the two families of instructions kernels choose.
// THREEFOLD_EMULATED_MEMORY = bytes it has (all the host's unless given): allocations beyond fail as on a small GPU.
struct Options {
  Order order;
  int architecture = 80;
  int64_t memory_bytes = 0;  // 0 = no limit
  static Options from_environment();
};

std::unique_ptr<Backend> make_backend(const Options& options);

}  // namespace threefold::emulated
