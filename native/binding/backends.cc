#include "binding/backends.h"

#include <dlfcn.h>

#include "binding/addon.h"

namespace threefold::binding {
namespace {

const BackendModule& load(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) fail("device", "the module " + path + " to load", dlerror(), "building it again");
  auto entry = reinterpret_cast<BackendModuleEntry>(dlsym(library, kBackendModuleEntry));
  const BackendModule* module = entry ? entry() : nullptr;
  if (!module || std::string(module->built_from) != THREEFOLD_BUILT_FROM)
    fail("device", "a module built with this addon", path + " of another build", "building it again");
  return *module;  // never unloaded: its memory may outlive its device
}

}  // namespace

std::unique_ptr<Backend> open_backend(const std::string& kind, int index, const std::string& module) {
  return kind == "cpu" ? make_cpu_backend() : load(module).open(index);
}

Napi::Value backend_devices(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (!info[0].IsString()) fail("backendDevices", "the path of a module", info[0].ToString().Utf8Value(), "backendDevices(path)");
    Napi::Env env = info.Env();
    Napi::Array list = Napi::Array::New(env);
    for (const DeviceFacts& f : load(info[0].As<Napi::String>().Utf8Value()).devices()) {
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
