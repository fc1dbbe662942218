// A caching allocator that counts every byte by category, with peaks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/memory.h"

namespace threefold {

enum class Category : uint8_t { parameters, gradients, optimizer, activations, kv_cache, workspace, host };
constexpr int kCategories = 7;
// The names users see, in the order of the enum.
inline constexpr const char* kCategoryNames[kCategories] = {"parameters", "gradients", "optimizer", "activations",
                                                            "kvCache", "workspace", "host"};

class Allocator {
 public:
  struct Stats {
    std::array<int64_t, kCategories> bytes{}, peak{};
    int64_t total = 0, total_peak = 0;  // bytes in use over all categories
    int64_t cached = 0;                 // bytes held for reuse, not in use
    int64_t blocks = 0;                 // live allocations
  };

  explicit Allocator(std::shared_ptr<Memory> memory = std::make_shared<HostMemory>()) : memory_(std::move(memory)) {}
  ~Allocator();
  Memory& memory() const { return *memory_; }
  // 64-byte aligned; contents undefined. Sizes are counted as asked for, not as rounded.
  void* allocate(int64_t bytes, Category category);
  void release(void* data, int64_t bytes, Category category);
  Stats stats() const;
  void reset_peaks();
  void empty_cache();

 private:
  void release_cached();       // with the lock held
  std::string holders() const;  // the same: who holds what

  std::shared_ptr<Memory> memory_;
  mutable std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> free_;  // by rounded size
  Stats stats_;
};

}  // namespace threefold
