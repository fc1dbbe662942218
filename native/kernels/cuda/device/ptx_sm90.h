// Inline PTX of sm_90a, as ptx.h: barriers in shared memory, the tensor copy engine (TMA) and the asynchronous products of a
// warpgroup (wgmma). emulated/ptx_sm90.h holds the twins. Kernels that use them are started on sm_90 only; for older targets
// their bodies are left out (kSm90).
#pragma once

#include "kernels/cuda/device/ptx.h"
#include "kernels/cuda/tensor_map.h"

#ifdef THREEFOLD_EMULATED
#include "kernels/emulated/ptx_sm90.h"
#else

namespace threefold::cuda::ptx {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr bool kSm90 = true;
#else
constexpr bool kSm90 = false;
#endif

// --- mbarrier: a phase ends when `count` arrivals have come and all bytes that were announced have ------------------------

__device__ __forceinline__ void mbarrier_init(uint64_t* bar, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)), "r"(count) : "memory");
}
// One arrival.
__device__ __forceinline__ void mbarrier_arrive(uint64_t* bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(bar)) : "memory");
}
// One arrival, and `bytes` that copies will bring.
__device__ __forceinline__ void mbarrier_arrive_expect(uint64_t* bar, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(bar)), "r"(bytes) : "memory");
}
// Returns when the phase of this parity has ended: the first has parity 0, and the one before it counts as ended.
__device__ __forceinline__ void mbarrier_wait(uint64_t* bar, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(shared_address(bar)), "r"(parity) : "memory");
}
// Orders this thread's ordinary writes to shared memory (mbarrier_init's too) before what the copy engine and wgmma do.
__device__ __forceinline__ void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- copy engine ---------------------------------------------------------------------------------------------------------

// The map's box at (column, row) to shared memory, its 16-byte units permuted as the map says; zeros past the tensor's edges.
// Its bytes arrive at `bar`.
__device__ __forceinline__ void copy_box(void* shared, const TensorMap& map, int column, int row, uint64_t* bar) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
                   shared_address(shared)), "l"(&map), "r"(column), "r"(row), "r"(shared_address(bar)) : "memory");
}

// --- wgmma ---------------------------------------------------------------------------------------------------------------

// Before the first product, and after registers of sums were touched.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Returns when all but the newest `pending` groups are done: only then may their sums be read or their tiles overwritten.
template <int pending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// d[64, N] += a[64, 16] b[16, N] in fp32, by the 128 threads of a warpgroup. The operands lie in shared memory as their
// descriptors say (wgmma_tile.h), along K or along M and N. Warp w holds rows 16w to 16w + 15, lane (g, q) = (lane / 4, lane % 4)
// of it d[4j..] = (g, 8j + 2q), (g, 8j + 2q + 1), (g + 8, 8j + 2q), (g + 8, 8j + 2q + 1).
template <typename T, bool a_along_k, bool b_along_k, int half_n>
__device__ __forceinline__ void wgmma(float (&d)[half_n], uint64_t a, uint64_t b);

#define THREEFOLD_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define THREEFOLD_D8(i) THREEFOLD_D4(i), THREEFOLD_D4(i + 4)
#define THREEFOLD_D16(i) THREEFOLD_D8(i), THREEFOLD_D8(i + 8)
#define THREEFOLD_D32(i) THREEFOLD_D16(i), THREEFOLD_D16(i + 16)
#define THREEFOLD_R4 "%0, %1, %2, %3"
#define THREEFOLD_R8 THREEFOLD_R4 ", %4, %5, %6, %7"
#define THREEFOLD_R16 THREEFOLD_R8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define THREEFOLD_R32 THREEFOLD_R16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define THREEFOLD_R64                                                                                      \
  THREEFOLD_R32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49" \
                ", %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
// The last six: a, b, D += (not D =), signs of a and b, whether each runs along M or N.
#define THREEFOLD_WGMMA(n, type, regs, a_at, b_at, ta_at, tb_at, ...)                                                     \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" regs "}, %" #a_at ", %" #b_at         \
               ", 1, 1, 1, %" #ta_at ", %" #tb_at ";"                                                                     \
               : __VA_ARGS__                                                                                              \
               : "l"(a), "l"(b), "n"(a_along_k ? 0 : 1), "n"(b_along_k ? 0 : 1)                                           \
               : "memory")
#define THREEFOLD_WGMMA_SIZES(type)                                                              \
  if constexpr (half_n == 4) THREEFOLD_WGMMA(8, type, THREEFOLD_R4, 4, 5, 6, 7, THREEFOLD_D4(0));                       \
  else if constexpr (half_n == 8) THREEFOLD_WGMMA(16, type, THREEFOLD_R8, 8, 9, 10, 11, THREEFOLD_D8(0));               \
  else if constexpr (half_n == 16) THREEFOLD_WGMMA(32, type, THREEFOLD_R16, 16, 17, 18, 19, THREEFOLD_D16(0));          \
  else if constexpr (half_n == 32) THREEFOLD_WGMMA(64, type, THREEFOLD_R32, 32, 33, 34, 35, THREEFOLD_D32(0));          \
  else THREEFOLD_WGMMA(128, type, THREEFOLD_R64, 64, 65, 66, 67, THREEFOLD_D32(0), THREEFOLD_D32(32))

template <typename T, bool a_along_k, bool b_along_k, int half_n>
__device__ __forceinline__ void wgmma(float (&d)[half_n], uint64_t a, uint64_t b) {
  static_assert(half_n == 4 || half_n == 8 || half_n == 16 || half_n == 32 || half_n == 64);
  if constexpr (std::is_same_v<T, bf16>) {
    THREEFOLD_WGMMA_SIZES("bf16");
  } else {
    THREEFOLD_WGMMA_SIZES("f16");
  }
}

// --- warpgroups ----------------------------------------------------------------------------------------------------------

// Barrier `id` (1 to 15; 0 is __syncthreads) among `threads` threads.
__device__ __forceinline__ void barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// Registers of each thread of the calling warpgroup, from now on.
template <int registers>
__device__ __forceinline__ void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__device__ __forceinline__ void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

}  // namespace threefold::cuda::ptx

#endif
