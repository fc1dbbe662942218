#include "core/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdio>

#include "core/status.h"

namespace threefold {
namespace {

// Eight classes per power of two: at most 12.5 % is lost to rounding, and blocks of similar steps are reused.
int64_t rounded(int64_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  return bytes;  // so that it sees the first byte past the end
#endif
  if (bytes <= 512) return (bytes + 63) / 64 * 64;
  int64_t step = int64_t(std::bit_floor(uint64_t(bytes - 1))) / 8;
  return (bytes + step - 1) / step * step;
}

// What makes most room, by what could not be had.
const char* cure_for(Category category) {
  switch (category) {
    case Category::parameters:
    case Category::gradients:
    case Category::optimizer: return "a smaller model, or --dtype bf16";
    case Category::kv_cache: return "a smaller generation batch or shorter sequences";
    default: return "a smaller batch, a shorter sequence or a smaller model";
  }
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
    data = memory_->allocate(size);
    if (!data) {  // what is kept for reuse may be what is missing
      release_cached();
      data = memory_->allocate(size);
    }
    if (!data)
      fail("memory", "room for " + std::to_string(bytes) + " more bytes of " + kCategoryNames[int(category)],
           "out of memory with " + holders(), cure_for(category));
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

std::string Allocator::holders() const {
  auto mebibytes = [](int64_t bytes) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f MiB", double(bytes) / (1 << 20));
    return std::string(text);
  };
  std::string list;
  for (int i = 0; i < kCategories; ++i)
    if (stats_.bytes[i]) list += std::string(list.empty() ? "" : ", ") + kCategoryNames[i] + " " + mebibytes(stats_.bytes[i]);
  return mebibytes(stats_.total) + " in use" + (list.empty() ? "" : " (" + list + ")");
}

void Allocator::release_cached() {
  for (auto& [size, blocks] : free_)
    for (void* b : blocks) memory_->release(b);
  free_.clear();
  stats_.cached = 0;
}

}  // namespace threefold
