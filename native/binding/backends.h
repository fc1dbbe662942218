// Devices by kind: the CPU's, or one from a module.
#pragma once

#include <memory>
#include <string>

#include "binding/convert.h"
#include "kernels/backend.h"

namespace threefold::binding {

// `kind` cpu, or cuda and emulated with the path of their module. Errors: no such module, one of another build, and what
// the module says of its devices.
std::unique_ptr<Backend> open_backend(const std::string& kind, int index, const std::string& module);

// backendDevices(module): [{name, architecture, memoryBytes, multiprocessors}]
Napi::Value backend_devices(const Napi::CallbackInfo& info);

}  // namespace threefold::binding
