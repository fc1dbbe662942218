#include "binding/ops.h"

#include "binding/device.h"

namespace threefold::binding {

Act act_of(const std::string& name) {
  if (name == "none") return Act::none;
  if (name == "relu") return Act::relu;
  if (name == "gelu") return Act::gelu_erf;
  if (name == "gelu_tanh") return Act::gelu_tanh;
  if (name == "silu") return Act::silu;
  fail("activation", "none, relu, gelu, gelu_tanh or silu", "\"" + name + "\"", "one of these");
}

void define_op(Napi::Env env, Napi::Object exports, const char* name, Op op) {
  exports.Set(name, Napi::Function::New(env, [name, op](const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      Device& device = Device::from(info[0], name);
      return op(info.Env(), name, device, Fields(info[1], name, device.core(name).allocator.get()));
    });
  }, name));
}

void define_ops(Napi::Env env, Napi::Object exports) {
  define_model_ops(env, exports);
  define_head_ops(env, exports);
  define_optimizer_ops(env, exports);
  define_file_ops(env, exports);
}

}  // namespace threefold::binding
