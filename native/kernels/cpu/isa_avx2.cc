// AVX2, FMA and F16C.
// The target is chosen here, after the standard headers: an inline function of theirs compiled with AVX could be
// picked by the linker for the whole program and break older CPUs.
#include <cstring>
#include <utility>

#include "kernels/cpu/isa_tables.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define IN_TARGET __attribute__((target("avx2,fma,f16c")))
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace threefold::cpu {
namespace avx2 {
#include "kernels/cpu/vec_avx2.h"
#include "kernels/cpu/isa_body.inl"
}  // namespace avx2

const Isa avx2_isa = avx2::table("avx2");

}  // namespace threefold::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
