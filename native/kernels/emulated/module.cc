// The emulated device as a module beside the addon.
#include "kernels/emulated/backend.h"

namespace threefold {
namespace {

std::unique_ptr<Backend> open(int index) {
  if (index != 0) fail("device", "emulated", "emulated:" + std::to_string(index), "--device emulated; there is one");
  return emulated::make_backend(emulated::Options::from_environment());
}

std::vector<DeviceFacts> devices() { return {emulated::make_backend(emulated::Options::from_environment())->facts()}; }

}  // namespace
}  // namespace threefold

extern "C" __attribute__((visibility("default"))) const threefold::BackendModule* threefold_backend_module() {
  static const threefold::BackendModule module{THREEFOLD_BUILT_FROM, threefold::devices, threefold::open};
  return &module;
}
