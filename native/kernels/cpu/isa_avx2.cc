// Standard headers come before the target region: no inline function of theirs may be compiled for AVX2 and then be
// chosen by the linker for everybody.
#include "kernels/cpu/isa.h"

#if defined(__x86_64__)
#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define IN_TARGET __attribute__((target("avx2,fma")))
#include "kernels/cpu/vec_avx2.h"

namespace threefold::cpu {
namespace avx2 {
namespace {
using V = VecAvx2;
constexpr int DOT_MR = 3, DOT_NR = 4, OUTER_MR = 4, OUTER_NV = 3;
#include "kernels/cpu/isa_body.inl"
}  // namespace
}  // namespace avx2

extern const Isa isa_avx2 = avx2::table("avx2");

}  // namespace threefold::cpu
#pragma GCC pop_options
#endif
