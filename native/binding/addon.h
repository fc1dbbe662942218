// Per-environment state: the addon may be loaded by several worker threads.
#pragma once

#include <napi.h>

#include <future>
#include <vector>

namespace threefold::binding {

struct AddonData {
  Napi::FunctionReference tensor_class, batch_class, layer_class, device_class, file_class;
  Napi::FunctionReference make_error;       // (where, expected, received, cure) -> Error; empty until JavaScript sets it
  std::vector<std::future<void>> closing;   // disposed devices whose queued work still runs
  bool ending = false;                      // the environment is going: nothing may run on behind it
};

inline AddonData& addon_data(Napi::Env env) { return *env.GetInstanceData<AddonData>(); }

}  // namespace threefold::binding
