// The CPU's table of kernels: every line of kernels.h, in namespace cpu, one op family per .cc file.
#pragma once

#include "kernels/kernels.h"

namespace threefold::cpu {

#define THREEFOLD_DECLARE(name, Args) void name(Exec&, const Args&);
THREEFOLD_KERNELS(THREEFOLD_DECLARE)
#undef THREEFOLD_DECLARE

const Kernels& kernels();

}  // namespace threefold::cpu
