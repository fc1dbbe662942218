// What a device is to the binding: its memory, its table of kernels, and a wait. The CPU's is built in; those of other
// kinds come from modules, shared libraries beside the addon, so that an addon without them loads anywhere.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace threefold {

// One device that a module can open.
struct DeviceFacts {
  std::string name;          // "NVIDIA H200"
  std::string architecture;  // "sm_90"
  int64_t memory_bytes = 0;
  int multiprocessors = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const Kernels& kernels() const = 0;
  virtual std::shared_ptr<Memory> memory() = 0;
  virtual Gpu* gpu() { return nullptr; }
  // Returns when every kernel started has ended. Throws, once, what one of them found wrong.
  virtual void wait() {}
  virtual DeviceFacts facts() const = 0;
};

std::unique_ptr<Backend> make_cpu_backend();

// What a module exports as `extern "C" const BackendModule* threefold_backend_module()`.
struct BackendModule {
  const char* built_from;  // must be the addon's own THREEFOLD_BUILT_FROM: the two share the structs of kernels.h
  // Errors: no driver, one too old, no device. The same for both.
  std::vector<DeviceFacts> (*devices)();
  std::unique_ptr<Backend> (*open)(int index);
};
using BackendModuleEntry = const BackendModule* (*)();
inline constexpr const char* kBackendModuleEntry = "threefold_backend_module";

// Errors: a library that does not load, one of another build. Never unloaded: its memory may outlive its device.
const BackendModule& load_module(const std::string& path);

}  // namespace threefold
