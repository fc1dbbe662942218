// A decoder layer's plan as JavaScript holds it: numbers only, no memory.
#pragma once

#include <optional>

#include "binding/convert.h"
#include "blocks/layer.h"

namespace threefold::binding {

class LayerHandle : public Napi::ObjectWrap<LayerHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit LayerHandle(const Napi::CallbackInfo& info);  // new Layer(spec)

 private:
  struct Plan {
    LayerSpec spec;
    LayerLayout layout;
    explicit Plan(const LayerSpec& s) : spec(s), layout(s) {}
  };
  Napi::Value layout(const Napi::CallbackInfo& info);
  Napi::Value forward(const Napi::CallbackInfo& info);
  Napi::Value backward(const Napi::CallbackInfo& info);
  Napi::Value activation_bytes(const Napi::CallbackInfo& info);

  std::shared_ptr<const Plan> plan_;
};

}  // namespace threefold::binding
