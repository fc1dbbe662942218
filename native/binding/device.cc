#include "binding/device.h"

#include <future>
#include <optional>

#include "binding/addon.h"
#include "binding/backends.h"
#include "binding/ops.h"
#include "binding/tensor_handle.h"
#include "core/cores.h"

namespace threefold::binding {
namespace {

struct Settlement {
  Napi::Promise::Deferred deferred;
  std::optional<Error> error;
  std::function<Napi::Value(Napi::Env)> result;
  std::function<void()> done;
};

Category category_of(const std::string& name) {
  for (int i = 0; i < kCategories; ++i)
    if (name == kCategoryNames[i]) return Category(i);
  fail("alloc", "a memory category", "\"" + name + "\"", "parameters, gradients, optimizer, activations, kvCache, workspace or host");
}

}  // namespace

Napi::Function Device::define(Napi::Env env) {
  std::vector<PropertyDescriptor> members = {
      InstanceMethod<&Device::alloc>("alloc"),
      InstanceMethod<&Device::sync>("sync"),
      InstanceMethod<&Device::stats>("stats"),
      InstanceMethod<&Device::reset_peaks>("resetPeaks"),
      InstanceMethod<&Device::empty_cache>("emptyCache"),
      InstanceMethod<&Device::clear_error>("clearError"),
      InstanceMethod<&Device::dispose>("dispose"),
  };
  return DefineClass(env, "Device", members);
}

Device::Device(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Device>(info) {
  Napi::Env env = info.Env();
  guarded(env, [&] {
    Fields options(info[0], "device");
    int64_t threads = options.integer("threads", 0);
    if (threads < 0 || threads > 1024) fail("device", "1 to 1024 threads, or 0 for all cores", std::to_string(threads), "a smaller number");
    if (threads == 0) threads = usable_cores();
    std::string kind = options.has("kind") ? options.text("kind") : "cpu", module = options.has("module") ? options.text("module") : "";
    core_ = std::make_shared<DeviceCore>(int(threads), open_backend(kind, int(options.integer("index", 0)), module));
    settle_ = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "threefold", 0, 1);
    settle_.Unref(env);
  });
}

Device::~Device() { close(); }

// What is queued still runs, then the threads end; only then may the settling function go, or queued waits would be
// lost. JavaScript does not wait for that, except where its environment ends.
void Device::close() {
  if (!core_) return;
  AddonData& addon = addon_data(Env());
  auto finish = [core = std::move(core_), settle = settle_]() mutable {
    core.reset();
    settle.Release();
  };
  if (addon.ending) return finish();
  std::erase_if(addon.closing, [](auto& f) { return f.wait_for(std::chrono::seconds(0)) == std::future_status::ready; });
  addon.closing.push_back(std::async(std::launch::async, std::move(finish)));
}

Device& Device::from(const Napi::Value& v, const char* where) {
  if (!v.IsObject() || !v.As<Napi::Object>().InstanceOf(addon_data(v.Env()).device_class.Value()))
    fail(where, "a device", "something else", "the device made with createDevice");
  Device* d = Napi::ObjectWrap<Device>::Unwrap(v.As<Napi::Object>());
  d->core(where);
  return *d;
}

DeviceCore& Device::core(const char* where) {
  if (!core_) fail(where, "an open device", "a disposed one", "keeping the device until the work is done");
  return *core_;
}

Tensor Device::make(DType dtype, Shape shape, Category category, bool zeroed) {
  return Tensor(core("alloc").allocator, dtype, shape, category, zeroed);
}

Tensor Device::upload(std::vector<int32_t> values, Shape shape) {
  Tensor t = make(DType::i32, shape);
  core("upload").stream.enqueue("upload", [t, values = std::move(values)] {
    t.upload(values.data());
  });
  return t;
}

Tensor Device::upload(std::vector<float> values, Shape shape) {
  Tensor t = make(DType::f32, shape);
  core("upload").stream.enqueue("upload", [t, values = std::move(values)] {
    t.upload(values.data());
  });
  return t;
}

Napi::Value Device::wrap(Tensor t) { return TensorHandle::make(Env(), Value(), std::move(t)); }

void Device::enqueue(const char* op, std::function<void(const Kernels&, Exec&)> fn) {
  DeviceCore* c = &core(op);
  c->stream.enqueue(op, [c, fn = std::move(fn)] { fn(c->kernels, c->exec); });
}

void Device::release(std::vector<Tensor> tensors) {
  if (core_) core_->stream.enqueue_always([tensors = std::move(tensors)] {});
}

Napi::Value Device::promise(Napi::Env env, std::function<void()> work, std::function<Napi::Value(Napi::Env)> result) {
  DeviceCore& c = core("wait");
  auto deferred = Napi::Promise::Deferred::New(env);
  if (waiting_++ == 0) settle_.Ref(env);
  Ref();  // the device object outlives its promises
  auto* s = new Settlement{deferred, {}, std::move(result), [this, env] {
                             if (--waiting_ == 0) settle_.Unref(env);
                             Unref();
                           }};
  c.stream.enqueue_wait([settle = settle_, s, work = std::move(work)](const Error* error) {
    if (error) {
      s->error = *error;
    } else {
      try {
        work();
      } catch (const Error& e) {
        s->error = e;
      } catch (const std::exception& e) {
        s->error.emplace("wait", "the values to be copied", e.what(), "a smaller tensor, or report this as a bug");
      }
    }
    settle.NonBlockingCall(s, [](Napi::Env env, Napi::Function, Settlement* s) {
      if (static_cast<napi_env>(env) != nullptr) {
        try {
          if (s->error)
            s->deferred.Reject(to_js(env, *s->error).Value());
          else
            s->deferred.Resolve(s->result(env));
          s->done();
        } catch (const Napi::Error&) {
          // a worker that is being ended runs no JavaScript any more: there is nobody left to tell
        }
      }
      delete s;
    });
  });
  return deferred.Promise();
}

Napi::Value Device::alloc(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Fields o(info[0], "alloc");
    return wrap(make(dtype_of(o.get("dtype"), "alloc"), shape_of(o.get("shape"), "alloc"), category_of(o.text("category")),
                     o.flag("zeroed", false)));
  });
}

Napi::Value Device::sync(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return promise(info.Env(), [] {}, [](Napi::Env env) { return env.Undefined(); });
  });
}

Napi::Value Device::stats(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    Napi::Env env = info.Env();
    DeviceCore& c = core("stats");
    Allocator::Stats s = c.allocator->stats();
    Napi::Object o = Napi::Object::New(env), bytes = Napi::Object::New(env), peak = Napi::Object::New(env);
    for (int i = 0; i < kCategories; ++i) {
      bytes.Set(kCategoryNames[i], double(s.bytes[i]));
      peak.Set(kCategoryNames[i], double(s.peak[i]));
    }
    o.Set("bytes", bytes);
    o.Set("peak", peak);
    o.Set("total", double(s.total));
    o.Set("totalPeak", double(s.total_peak));
    o.Set("cached", double(s.cached));
    o.Set("blocks", double(s.blocks));
    o.Set("threads", c.pool.threads());
    o.Set("name", c.backend->facts().name);
    o.Set("architecture", c.backend->facts().architecture);
    o.Set("memoryBytes", double(c.backend->facts().memory_bytes));
    o.Set("busySeconds", double(c.stream.busy_microseconds()) / 1e6);
    return o;
  });
}

void Device::reset_peaks(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { core("resetPeaks").allocator->reset_peaks(); });
}
void Device::empty_cache(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { core("emptyCache").allocator->empty_cache(); });
}
void Device::clear_error(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { core("clearError").stream.clear_error(); });
}

// Queued work still runs and its waits settle. Idempotent.
void Device::dispose(const Napi::CallbackInfo&) { close(); }

}  // namespace threefold::binding
