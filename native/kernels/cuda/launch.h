// The one gate through which kernels start. Host side: what a CUDA device is (Gpu), and launch().
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "kernels/cuda/faults.h"
#include "kernels/kernels.h"

#ifndef THREEFOLD_EMULATED
#include <cuda_runtime.h>
#endif

namespace threefold {

// What launches need to know of the device they go to.
struct Gpu {
  int multiprocessors = 1;
  int architecture = 80;            // 80: mma.sync and cp.async; 90: wgmma and TMA as well
  int64_t shared_limit = 48 << 10;  // bytes of shared memory one block can have
  Fault* fault = nullptr;           // written by kernels, read by waits
  void* stream = nullptr;           // cudaStream_t; of an emulated device its Order
  int index = 0;                    // among the machine's devices
};

namespace cuda {

struct Launch {
  const char* name;    // of the kernel
  dim3 grid, block;
  int64_t shared = 0;  // bytes of dynamic shared memory
};

// 1 dimension: at least one block, so that an op of no rows needs no case of its own where the kernel checks its bound.
inline unsigned blocks_for(int64_t items, int64_t each) { return unsigned(items > 0 ? (items + each - 1) / each : 1); }

// Error: more shared memory than a block of this device can have (GPUs of sm_86 and sm_89 have 99 KiB, sm_80 163).
inline void expect_room(const Exec& ex, const Launch& l) {
  if (l.shared <= ex.gpu->shared_limit) return;
  fail(l.name, "a GPU with " + std::to_string(l.shared) + " bytes of shared memory a block", "one with " + std::to_string(ex.gpu->shared_limit),
       "another GPU, or a model with smaller heads");
}

#ifdef THREEFOLD_EMULATED

void start(Exec& ex, const Launch& l, const emulated::Kernel& body);

// Starts `kernel` on the device's stream. Errors: a launch the device refuses, with the kernel's name, grid and cause.
template <typename... P, typename... A>
void launch(Exec& ex, const Launch& l, void (*kernel)(P...), A&&... args) {
  start(ex, l, [=] { kernel(static_cast<P>(args)...); });
}

#else

void start(Exec& ex, const Launch& l, const void* kernel, void** args);

template <typename... P, typename... A>
void launch(Exec& ex, const Launch& l, void (*kernel)(P...), A&&... args) {
  [&]<size_t... I>(std::tuple<std::remove_const_t<P>...> given, std::index_sequence<I...>) {
    void* pointers[] = {static_cast<void*>(&std::get<I>(given))..., nullptr};
    start(ex, l, reinterpret_cast<const void*>(kernel), pointers);
  }(std::tuple<std::remove_const_t<P>...>(static_cast<P>(args)...), std::index_sequence_for<P...>{});
}

#endif

// Bytes set to 0, in stream order.
inline void clear(Exec& ex, void* data, int64_t bytes) {
  if (bytes > 0) ex.allocator.memory().zero(data, bytes);
}

}  // namespace cuda
}  // namespace threefold
