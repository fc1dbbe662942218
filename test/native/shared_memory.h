// Memory that kernels and the tests around them both address: the host's own, or, where a GPU is tested, host memory that
// is pinned and mapped at the same address into its space.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "core/memory.h"

namespace threefold::test {

// 64-byte aligned at least.
void* shared_allocate(size_t bytes);
void shared_release(void* data, size_t bytes);

template <typename T>
struct SharedAllocator {
  using value_type = T;
  SharedAllocator() = default;
  template <typename U>
  SharedAllocator(const SharedAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(shared_allocate(n * sizeof(T))); }
  void deallocate(T* data, size_t n) { shared_release(data, n * sizeof(T)); }
  bool operator==(const SharedAllocator&) const { return true; }
};
template <typename T>
using SharedVector = std::vector<T, SharedAllocator<T>>;

// The same for scratch memory; what it copies and clears is ordered with the kernels of the device in use.
std::shared_ptr<Memory> shared_memory();

}  // namespace threefold::test
