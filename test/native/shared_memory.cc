#include "shared_memory.h"

#include <dlfcn.h>

#include <algorithm>
#include <bit>
#include <map>
#include <new>
#include <unordered_map>
#include <utility>

#include "device.h"

namespace threefold::test {
namespace {

constexpr size_t kAlign = 64, kSlab = 64 << 20;

bool tests_gpu() {
  static const bool found = std::any_of(test_devices().begin(), test_devices().end(), [](auto& d) { return d.is_gpu; });
  return found;
}

// The driver's cuMemHostAlloc (CUDA driver API, memory management), in the context that the module's device made current.
void* pinned(size_t bytes) {
  using Allocate = int (*)(void**, size_t, unsigned);
  static const Allocate allocate = [] {
    void* driver = dlopen("libcuda.so.1", RTLD_NOW);
    return driver ? reinterpret_cast<Allocate>(dlsym(driver, "cuMemHostAlloc")) : nullptr;
  }();
  constexpr unsigned kPortable = 1, kMapped = 2;
  void* data = nullptr;
  int error = allocate ? allocate(&data, bytes, kPortable | kMapped) : -1;
  if (error) fail("native tests", std::to_string(bytes) + " bytes of pinned memory", "error " + std::to_string(error) + " of cuMemHostAlloc", "a process with less memory in use");
  return data;
}

// Blocks of powers of two, kept for reuse: pinning takes the driver a millisecond.
struct Pool {
  std::map<size_t, std::vector<void*>> free;
  char* slab = nullptr;
  size_t left = 0;
};
Pool& pool() {
  static Pool& p = *new Pool;  // machines that are static give back after it would be gone
  return p;
}
size_t rounded(size_t bytes) { return std::bit_ceil(std::max<size_t>(bytes, 256)); }

class SharedMemory final : public Memory {
 public:
  void* allocate(int64_t bytes) override {
    void* data = shared_allocate(size_t(bytes));
    sizes_[data] = size_t(bytes);
    return data;
  }
  void release(void* data) override {
    auto at = sizes_.find(data);
    shared_release(data, at->second);
    sizes_.erase(at);
  }
  void zero(void* to, int64_t bytes) override { test_device()->backend->memory()->zero(to, bytes); }
  void upload(void* to, const void* from, int64_t bytes) override { test_device()->backend->memory()->upload(to, from, bytes); }
  void download(void* to, const void* from, int64_t bytes) override { test_device()->backend->memory()->download(to, from, bytes); }

 private:
  std::unordered_map<void*, size_t> sizes_;
};

}  // namespace

void* shared_allocate(size_t bytes) {
  if (!tests_gpu()) return ::operator new(bytes, std::align_val_t(kAlign));
  Pool& p = pool();
  size_t size = rounded(bytes);
  if (auto& list = p.free[size]; !list.empty()) {
    void* data = list.back();
    list.pop_back();
    return data;
  }
  if (p.left < size) {
    p.left = std::max(size, kSlab);
    p.slab = static_cast<char*>(pinned(p.left));
  }
  p.left -= size;
  return std::exchange(p.slab, p.slab + size);
}

void shared_release(void* data, size_t bytes) {
  if (tests_gpu()) return pool().free[rounded(bytes)].push_back(data);
  ::operator delete(data, std::align_val_t(kAlign));
}

std::shared_ptr<Memory> shared_memory() { return std::make_shared<SharedMemory>(); }

}  // namespace threefold::test
