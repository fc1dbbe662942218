#include "binding/tensor_handle.h"

#include "binding/addon.h"
#include "binding/device.h"

namespace threefold::binding {
namespace {

// V8 ends the process where an array is longer than it can make.
constexpr size_t kMostRead = size_t(16) << 30;

}  // namespace

Napi::Function TensorHandle::define(Napi::Env env) {
  return DefineClass(env, "Tensor",
                     {
                         InstanceAccessor<&TensorHandle::dtype>("dtype"),
                         InstanceAccessor<&TensorHandle::shape>("shape"),
                         InstanceAccessor<&TensorHandle::disposed>("disposed"),
                         InstanceMethod<&TensorHandle::view>("view"),
                         InstanceMethod<&TensorHandle::write>("write"),
                         InstanceMethod<&TensorHandle::read>("read"),
                         InstanceMethod<&TensorHandle::dispose>("dispose"),
                     });
}

Napi::Value TensorHandle::make(Napi::Env env, Napi::Object device, Tensor t) {
  Napi::Object o = addon_data(env).tensor_class.New({});
  TensorHandle* handle = Unwrap(o);
  handle->tensor_ = std::move(t);
  handle->device_ = Napi::Persistent(device);
  return o;
}

TensorHandle* TensorHandle::from(const Napi::Value& v) {
  if (!v.IsObject()) return nullptr;
  Napi::Object o = v.As<Napi::Object>();
  return o.InstanceOf(addon_data(v.Env()).tensor_class.Value()) ? Unwrap(o) : nullptr;
}

const Tensor& TensorHandle::get(const char* where) const {
  if (!tensor_.defined()) fail(where, "a live tensor", "a disposed one", "disposing it after its last use");
  return tensor_;
}

Napi::Value TensorHandle::dtype(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value { return Napi::String::New(info.Env(), name_of(get("tensor.dtype").dtype())); });
}
Napi::Value TensorHandle::shape(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value { return to_js(info.Env(), get("tensor.shape").shape()); });
}
Napi::Value TensorHandle::disposed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), !tensor_.defined());
}

// view(offset, shape): shares memory; offset in elements.
Napi::Value TensorHandle::view(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Tensor& t = get("tensor.view");
    double offset = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : -1;
    if (!(offset >= 0 && offset < 0x1p53) || offset != double(int64_t(offset)))
      fail("tensor.view", "an offset in elements, a whole number of 0 or more", info[0].ToString().Utf8Value(), "view(offset, shape)");
    return make(info.Env(), device_.Value(), t.view(int64_t(offset), shape_of(info[1], "tensor.view")));
  });
}

// write(typedArray): the same number of elements, Float32Array for fp32, Int32Array for int32, Uint16Array for the
// bits of bf16 and fp16. Copied before it returns.
void TensorHandle::write(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    Tensor t = get("tensor.write");
    napi_typedarray_type want = t.dtype() == DType::f32   ? napi_float32_array
                                : t.dtype() == DType::i32 ? napi_int32_array
                                                          : napi_uint16_array;
    const char* names = t.dtype() == DType::f32 ? "a Float32Array" : t.dtype() == DType::i32 ? "an Int32Array" : "a Uint16Array";
    std::string expected = std::string(names) + " of " + std::to_string(t.numel()) + " elements";
    if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != want)
      fail("tensor.write", expected, "another type", "converting it first");
    auto array = info[0].As<Napi::TypedArray>();
    if (int64_t(array.ElementLength()) != t.numel())
      fail("tensor.write", expected, std::to_string(array.ElementLength()) + " elements", "a tensor of the same shape");
    auto* begin = static_cast<const char*>(array.ArrayBuffer().Data()) + array.ByteOffset();
    std::vector<char> bytes(begin, begin + array.ByteLength());
    Device::from(device_.Value(), "tensor.write").enqueue("tensor.write", [t, bytes = std::move(bytes)](const Kernels&, Exec&) {
      t.upload(bytes.data());
    });
  });
}

// read(): a promise of the values after everything enqueued before (raw bits in a Uint16Array for bf16 and fp16).
Napi::Value TensorHandle::read(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Napi::Env env = info.Env();
    Tensor t = get("tensor.read");
    size_t bytes = t.numel() * size_of(t.dtype());
    if (bytes > kMostRead)
      fail("tensor.read", "a tensor of at most " + std::to_string(kMostRead >> 30) + " GiB", t.shape().text(), "reading it in views");
    Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, bytes);
    void* data = buffer.Data();
    auto kept = std::make_shared<Napi::Reference<Napi::ArrayBuffer>>(Napi::Persistent(buffer));
    return Device::from(device_.Value(), "tensor.read")
        .promise(
            env, [t, data] { t.download(data); },
            [kept, n = size_t(t.numel()), dtype = t.dtype()](Napi::Env env) -> Napi::Value {
              Napi::ArrayBuffer b = kept->Value();
              kept->Reset();
              if (dtype == DType::f32) return Napi::Float32Array::New(env, n, b, 0);
              if (dtype == DType::i32) return Napi::Int32Array::New(env, n, b, 0);
              return Napi::Uint16Array::New(env, n, b, 0);
            });
  });
}

void TensorHandle::dispose(const Napi::CallbackInfo&) {
  if (!tensor_.defined()) return;
  Device::Unwrap(device_.Value())->release({std::move(tensor_)});
  tensor_ = Tensor{};
  device_.Reset();
}

}  // namespace threefold::binding
