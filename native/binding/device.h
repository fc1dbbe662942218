// A device as JavaScript holds it: stream, threads, memory and the table of kernels.
#pragma once

#include <memory>

#include "binding/convert.h"
#include "core/stream.h"
#include "core/thread_pool.h"
#include "kernels/backend.h"

namespace threefold::binding {

// Everything an op on the stream needs. Lives until the device is disposed and what was queued has run.
struct DeviceCore {
  DeviceCore(int threads, std::unique_ptr<Backend> opened)
      : backend(std::move(opened)), allocator(std::make_shared<Allocator>(backend->memory())), kernels(backend->kernels()),
        pool(threads), exec{pool, *allocator, backend->gpu()}, stream([this] { backend->wait(); }) {}
  std::unique_ptr<Backend> backend;
  std::shared_ptr<Allocator> allocator;  // tensors keep it too
  const Kernels& kernels;
  ThreadPool pool;
  Exec exec;
  Stream stream;  // last: its thread ends before the rest goes
};

class Device : public Napi::ObjectWrap<Device> {
 public:
  static Napi::Function define(Napi::Env env);
  static Device& from(const Napi::Value& v, const char* where);
  explicit Device(const Napi::CallbackInfo& info);
  ~Device() override;

  DeviceCore& core(const char* where);
  // A fresh tensor.
  Tensor make(DType dtype, Shape shape, Category category = Category::activations, bool zeroed = false);
  // Numbers from JavaScript as a tensor of int32 or fp32; enqueued.
  Tensor upload(std::vector<int32_t> values, Shape shape);
  Tensor upload(std::vector<float> values, Shape shape);
  Napi::Value wrap(Tensor t);
  // Enqueues fn(kernels, exec).
  void enqueue(const char* op, std::function<void(const Kernels&, Exec&)> fn);
  // Lets go of tensors in stream order: what is in use at an op does not depend on how far JavaScript is ahead.
  void release(std::vector<Tensor> tensors);
  // A promise settled on the JavaScript thread after everything enqueued before; `work` runs on the stream's thread.
  Napi::Value promise(Napi::Env env, std::function<void()> work, std::function<Napi::Value(Napi::Env)> result);

 private:
  Napi::Value alloc(const Napi::CallbackInfo& info);
  Napi::Value sync(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  void reset_peaks(const Napi::CallbackInfo& info);
  void empty_cache(const Napi::CallbackInfo& info);
  void clear_error(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);
  void close();

  std::shared_ptr<DeviceCore> core_;
  Napi::ThreadSafeFunction settle_;
  int waiting_ = 0;  // promises in flight: the process stays alive for them, not for an idle device
};

}  // namespace threefold::binding
