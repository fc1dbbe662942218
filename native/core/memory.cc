#include "core/memory.h"

#include <cstdlib>
#include <cstring>

namespace threefold {

void* HostMemory::allocate(int64_t bytes) {
  void* data = nullptr;
  return posix_memalign(&data, 64, size_t(bytes)) ? nullptr : data;
}
void HostMemory::release(void* data) { std::free(data); }
void HostMemory::zero(void* to, int64_t bytes) { if (bytes) std::memset(to, 0, bytes); }
void HostMemory::upload(void* to, const void* from, int64_t bytes) { if (bytes) std::memcpy(to, from, bytes); }
void HostMemory::download(void* to, const void* from, int64_t bytes) { if (bytes) std::memcpy(to, from, bytes); }

}  // namespace threefold
