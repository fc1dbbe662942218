#include "binding/backends.h"

#include "binding/addon.h"

namespace threefold::binding {

std::unique_ptr<Backend> open_backend(const std::string& kind, int index, const std::string& module) {
  return kind == "cpu" ? make_cpu_backend() : load_module(module).open(index);
}

Napi::Value backend_devices(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (!info[0].IsString()) fail("backendDevices", "the path of a module", info[0].ToString().Utf8Value(), "backendDevices(path)");
    Napi::Env env = info.Env();
    Napi::Array list = Napi::Array::New(env);
    for (const DeviceFacts& f : load_module(info[0].As<Napi::String>().Utf8Value()).devices()) {
      Napi::Object o = Napi::Object::New(env);
      o.Set("name", f.name);
      o.Set("architecture", f.architecture);
      o.Set("memoryBytes", double(f.memory_bytes));
      o.Set("multiprocessors", double(f.multiprocessors));
      list[list.Length()] = o;
    }
    return list;
  });
}

}  // namespace threefold::binding
