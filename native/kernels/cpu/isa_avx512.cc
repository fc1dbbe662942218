// Standard headers come before the target region: no inline function of theirs may be compiled for AVX-512 and then be
// chosen by the linker for everybody.
#include "kernels/cpu/isa.h"

#if defined(__x86_64__)
#include <immintrin.h>
// GCC 12's own AVX-512 headers warn about their deliberately undefined vectors.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#define IN_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#include "kernels/cpu/vec_avx512.h"

namespace threefold::cpu {
namespace avx512 {
namespace {
using V = VecAvx512;
constexpr int DOT_MR = 4, DOT_NR = 6, OUTER_MR = 8, OUTER_NV = 3;
#include "kernels/cpu/isa_body.inl"
}  // namespace
}  // namespace avx512

extern const Isa isa_avx512 = avx512::table("avx512");

}  // namespace threefold::cpu
#pragma GCC pop_options
#endif
