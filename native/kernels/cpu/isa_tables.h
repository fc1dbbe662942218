// The tables isa.cc chooses from, one per isa_*.cc.
#pragma once

#include "kernels/cpu/isa.h"

namespace threefold::cpu {

// Four fp32: what the sums of four vectors fill, on every instruction set.
using F4 = float __attribute__((vector_size(16)));

extern const Isa portable_isa;
#if defined(__x86_64__)
extern const Isa avx2_isa, avx512_isa;
#endif

}  // namespace threefold::cpu
