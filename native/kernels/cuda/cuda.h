// The CUDA table of kernels: every line of kernels.h, in namespace cuda, one op family per .cu file.
#pragma once

#include "kernels/cuda/faults.h"
#include "kernels/kernels.h"

namespace threefold::cuda {

#define THREEFOLD_DECLARE(name, Args) void name(Exec&, const Args&);
THREEFOLD_KERNELS(THREEFOLD_DECLARE)
#undef THREEFOLD_DECLARE

const Kernels& kernels();

// Throws what a kernel raised, if one did, and makes room for the next.
void throw_fault(Fault& fault);

}  // namespace threefold::cuda
