#include <dlfcn.h>

#include "core/status.h"
#include "kernels/backend.h"

namespace threefold {

const BackendModule& load_module(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) fail("device", "the module " + path + " to load", dlerror(), "building it again");
  auto entry = reinterpret_cast<BackendModuleEntry>(dlsym(library, kBackendModuleEntry));
  const BackendModule* module = entry ? entry() : nullptr;
  if (!module || std::string(module->built_from) != THREEFOLD_BUILT_FROM)
    fail("device", "a module built with this addon", path + " of another build", "building it again");
  return *module;
}

}  // namespace threefold
