// The list of everything JavaScript sees; lib/binding/native.ts gives it types.
#include "binding/addon.h"

#include "binding/backends.h"
#include "binding/batch_handle.h"
#include "binding/device.h"
#include "binding/file_handle.h"
#include "binding/layer_handle.h"
#include "binding/ops.h"
#include "binding/tensor_handle.h"
#include "core/cores.h"
#include "kernels/cpu/isa.h"

namespace threefold::binding {
namespace {

Napi::Value cpu_info(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    Napi::Env env = info.Env();
    Napi::Object o = Napi::Object::New(env);
    Napi::Array names = Napi::Array::New(env);
    for (const char* name : cpu::available_isas()) names[names.Length()] = Napi::String::New(env, name);
    o.Set("available", names);
    o.Set("isa", cpu::isa().name);
    o.Set("cores", double(usable_cores()));
    return o;
  });
}

// setErrorMaker((where, expected, received, cure) => Error): every error of the addon is made by it.
Napi::Value set_error_maker(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (!info[0].IsFunction()) fail("setErrorMaker", "a function", info[0].ToString().Utf8Value(), "(where, expected, received, cure) => Error");
    addon_data(info.Env()).make_error = Napi::Persistent(info[0].As<Napi::Function>());
    return info.Env().Undefined();
  });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* data = new AddonData;
  data->tensor_class = Napi::Persistent(TensorHandle::define(env));
  data->batch_class = Napi::Persistent(BatchHandle::define(env));
  data->layer_class = Napi::Persistent(LayerHandle::define(env));
  data->device_class = Napi::Persistent(Device::define(env));
  data->file_class = Napi::Persistent(FileHandle::define(env));
  env.SetInstanceData(data);
  env.AddCleanupHook([](AddonData* d) { d->ending = true, d->closing.clear(); }, data);
  exports.Set("Device", data->device_class.Value());
  exports.Set("Layer", data->layer_class.Value());
  exports.Set("Batch", data->batch_class.Value());
  exports.Set("MappedFile", data->file_class.Value());
  exports.Set("cpuInfo", Napi::Function::New(env, cpu_info, "cpuInfo"));
  exports.Set("backendDevices", Napi::Function::New(env, backend_devices, "backendDevices"));
  exports.Set("setErrorMaker", Napi::Function::New(env, set_error_maker, "setErrorMaker"));
  define_ops(env, exports);
  return exports;
}

NODE_API_MODULE(threefold, init)

}  // namespace
}  // namespace threefold::binding
