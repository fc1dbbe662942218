#include "kernels/emulated/backend.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.h"

namespace threefold {
namespace emulated {
namespace {

// Fresh memory holds NaN: what a kernel reads before it writes shows.
class EmulatedMemory final : public HostMemory {
 public:
  explicit EmulatedMemory(int64_t limit) : limit_(limit) {}
  void* allocate(int64_t bytes) override {
    if (limit_ > 0 && used_ + bytes > limit_) return nullptr;
    void* data = HostMemory::allocate(bytes);
    if (!data) return nullptr;
    std::memset(data, 0xff, size_t(bytes));
    std::lock_guard lock(mutex_);
    used_ += sizes_[data] = bytes;
    return data;
  }
  void release(void* data) override {
    {
      std::lock_guard lock(mutex_);
      auto at = sizes_.find(data);
      used_ -= at->second;
      sizes_.erase(at);
    }
    HostMemory::release(data);
  }

 private:
  int64_t limit_;
  std::atomic<int64_t> used_{0};
  std::mutex mutex_;
  std::unordered_map<void*, int64_t> sizes_;
};

class EmulatedBackend final : public Backend {
 public:
  explicit EmulatedBackend(const Options& options) : options_(options) {
    gpu_.architecture = options.architecture;
    gpu_.multiprocessors = 4;
    gpu_.shared_limit = options.architecture >= 90 ? 227 << 10 : 163 << 10;  // of sm_90 and sm_80
    gpu_.fault = &fault_;
    gpu_.stream = &options_.order;
  }
  const Kernels& kernels() const override { return cuda::kernels(); }
  std::shared_ptr<Memory> memory() override { return std::make_shared<EmulatedMemory>(options_.memory_bytes); }
  Gpu* gpu() override { return &gpu_; }
  void wait() override { cuda::throw_fault(fault_); }
  DeviceFacts facts() const override { return {"emulated", "sm_" + std::to_string(options_.architecture), options_.memory_bytes, gpu_.multiprocessors}; }

 private:
  Options options_;
  Gpu gpu_;
  Fault fault_;
};

}  // namespace

Options Options::from_environment() {
  Options o;
  if (const char* arch = std::getenv("THREEFOLD_EMULATED_ARCH"); arch && *arch) {
    o.architecture = std::atoi(arch);
    if (o.architecture != 80 && o.architecture != 90) fail("device", "THREEFOLD_EMULATED_ARCH of 80 or 90", arch, "one of the two");
  }
  if (const char* bytes = std::getenv("THREEFOLD_EMULATED_MEMORY"); bytes && *bytes) o.memory_bytes = std::atoll(bytes);
  if (const char* order = std::getenv("THREEFOLD_EMULATED_ORDER"); order && *order) {
    char* end = nullptr;
    o.order = {Order::seeded, std::strtoull(order, &end, 10)};
    if (!std::strcmp(order, "forward") || !std::strcmp(order, "reverse"))
      o.order = {*order == 'f' ? Order::forward : Order::reverse, 0};
    else if (*end)
      fail("device", "THREEFOLD_EMULATED_ORDER of forward, reverse or a seed", order, "one of these");
  }
  return o;
}

std::unique_ptr<Backend> make_backend(const Options& options) { return std::make_unique<EmulatedBackend>(options); }

}  // namespace emulated

void cuda::start(Exec& ex, const Launch& l, const emulated::Kernel& body) {
  expect_room(ex, l);
  emulated::run_grid(ex.pool, l.name, body, l.grid, l.block, l.shared, *static_cast<const emulated::Order*>(ex.gpu->stream));
}

}  // namespace threefold
