// Where a device's bytes live, and how they get there and back. Called on the stream's thread; everything takes effect
// in the stream's order.
#pragma once

#include <cstdint>

namespace threefold {

class Memory {
 public:
  virtual ~Memory() = default;
  // At least 64-byte aligned, contents undefined; nullptr where there is no room.
  virtual void* allocate(int64_t bytes) = 0;
  virtual void release(void* data) = 0;
  virtual void zero(void* to, int64_t bytes) = 0;
  // From the host: `from` may change as soon as it returns.
  virtual void upload(void* to, const void* from, int64_t bytes) = 0;
  // To the host: `to` holds the bytes when it returns. Throws what failed in ops before it, where the device works apart.
  virtual void download(void* to, const void* from, int64_t bytes) = 0;
};

// The host's own.
class HostMemory : public Memory {
 public:
  void* allocate(int64_t bytes) override;
  void release(void* data) override;
  void zero(void* to, int64_t bytes) override;
  void upload(void* to, const void* from, int64_t bytes) override;
  void download(void* to, const void* from, int64_t bytes) override;
};

}  // namespace threefold
