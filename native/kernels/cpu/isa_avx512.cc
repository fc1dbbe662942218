// AVX-512 (F, BW, DQ, VL).
// The target is chosen here, after the standard headers: an inline function of theirs compiled with AVX could be
// picked by the linker for the whole program and break older CPUs.
#include <cstring>
#include <utility>

#include "kernels/cpu/isa_tables.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if !defined(__clang__)  // g++ 12's own header warns about its undefined vectors once inlined
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define IN_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif

namespace threefold::cpu {
namespace avx512 {
#include "kernels/cpu/vec_avx512.h"
#include "kernels/cpu/isa_body.inl"
}  // namespace avx512

const Isa avx512_isa = avx512::table("avx512");

}  // namespace threefold::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
