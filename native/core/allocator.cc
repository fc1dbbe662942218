#include "core/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "core/status.h"

namespace threefold {
namespace {

// Eight classes per power of two: at most 12.5 % is lost to rounding, and blocks of similar steps are reused.
int64_t rounded(int64_t bytes) {
  if (bytes <= 512) return (bytes + 63) / 64 * 64;
  int64_t step = int64_t(std::bit_floor(uint64_t(bytes - 1))) / 8;
  return (bytes + step - 1) / step * step;
}

}  // namespace

Allocator::~Allocator() { empty_cache(); }

void* Allocator::allocate(int64_t bytes, Category category) {
  int64_t size = rounded(std::max<int64_t>(bytes, 1));
  std::lock_guard lock(mutex_);
  void* data = nullptr;
  if (auto it = free_.find(size); it != free_.end() && !it->second.empty()) {
    data = it->second.back();
    it->second.pop_back();
    stats_.cached -= size;
  } else {
    data = std::aligned_alloc(64, size);
    if (!data) {  // what is kept for reuse may be what is missing
      release_cached();
      data = std::aligned_alloc(64, size);
    }
    if (!data)
      fail("memory", "room for " + std::to_string(bytes) + " bytes of " + kCategoryNames[int(category)],
           "out of memory with " + std::to_string(stats_.total) + " bytes in use",
           "a smaller batch, a shorter sequence or a smaller model");
  }
  int c = int(category);
  stats_.bytes[c] += bytes;
  stats_.peak[c] = std::max(stats_.peak[c], stats_.bytes[c]);
  stats_.total += bytes;
  stats_.total_peak = std::max(stats_.total_peak, stats_.total);
  stats_.blocks += 1;
  return data;
}

void Allocator::release(void* data, int64_t bytes, Category category) {
  if (!data) return;
  int64_t size = rounded(std::max<int64_t>(bytes, 1));
  std::lock_guard lock(mutex_);
  free_[size].push_back(data);
  stats_.cached += size;
  stats_.bytes[int(category)] -= bytes;
  stats_.total -= bytes;
  stats_.blocks -= 1;
}

Allocator::Stats Allocator::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void Allocator::reset_peaks() {
  std::lock_guard lock(mutex_);
  stats_.peak = stats_.bytes;
  stats_.total_peak = stats_.total;
}

void Allocator::empty_cache() {
  std::lock_guard lock(mutex_);
  release_cached();
}

void Allocator::release_cached() {
  for (auto& [size, blocks] : free_)
    for (void* b : blocks) std::free(b);
  free_.clear();
  stats_.cached = 0;
}

}  // namespace threefold
