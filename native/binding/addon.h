// Per-environment state: the addon may be loaded by several worker threads.
#pragma once

#include <napi.h>

namespace threefold::binding {

struct AddonData {
  Napi::FunctionReference tensor_class, batch_class, layer_class, device_class;
};

inline AddonData& addon_data(Napi::Env env) { return *env.GetInstanceData<AddonData>(); }

}  // namespace threefold::binding
