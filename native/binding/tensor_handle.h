// A tensor as JavaScript holds it: disposed by hand or by scope, never left to the garbage collector alone.
#pragma once

#include "binding/convert.h"

namespace threefold::binding {

class TensorHandle : public Napi::ObjectWrap<TensorHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value make(Napi::Env env, Napi::Object device, Tensor t);
  static TensorHandle* from(const Napi::Value& v);  // nullptr when it is not a tensor
  explicit TensorHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TensorHandle>(info) {}

  const Tensor& get(const char* where) const;

 private:
  Napi::Value dtype(const Napi::CallbackInfo& info);
  Napi::Value shape(const Napi::CallbackInfo& info);
  Napi::Value disposed(const Napi::CallbackInfo& info);
  Napi::Value view(const Napi::CallbackInfo& info);
  void write(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  Tensor tensor_;
  Napi::ObjectReference device_;
};

}  // namespace threefold::binding
