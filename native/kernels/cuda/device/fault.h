// Device side of faults.h.
#pragma once

#include "kernels/cuda/faults.h"

namespace threefold::cuda {

// The words of one check, made on the host, passed to the kernel by value.
struct Check {
  Fault* fault;
  const char *where, *expected, *received, *cure;

  // Keeps the fault unless one was raised before.
  __device__ void raise(long long bound, long long value, long long at) const {
    if (atomicCAS(&fault->raised, 0, 1) != 0) return;
    fault->where = where, fault->expected = expected, fault->received = received, fault->cure = cure;
    fault->bound = bound, fault->value = value, fault->at = at;
    __threadfence_system();
  }
  // Whether 0 <= value < bound; raises where it is not.
  __device__ bool inside(long long value, long long bound, long long at) const {
    if (value >= 0 && value < bound) return true;
    raise(bound, value, at);
    return false;
  }
};

}  // namespace threefold::cuda
