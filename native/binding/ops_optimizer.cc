// Global norm, clipping and AdamW on flat units.
#include "binding/device.h"
#include "binding/ops.h"

namespace threefold::binding {
namespace {

// gradientControl(device, {grads: Tensor[], clip, scale?}) -> control [3] = {norm, factor, finite}
Napi::Value gradient_control(Napi::Env, const char* where, Device& device, const Fields& o) {
  Napi::Value list = o.get("grads");
  if (!list.IsArray()) o.bad("grads", "an array of tensors", list);
  std::vector<Tensor> grads;
  auto array = list.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    Napi::Object holder = Napi::Object::New(array.Env());
    holder.Set("grads", array.Get(i));
    Tensor g = Fields(holder, where, device.core(where).allocator.get()).tensor("grads");
    expect(where, "grads", g, DType::f32, g.shape());
    grads.push_back(g);
  }
  float clip = float(o.number("clip", 0)), scale = float(o.number("scale", 1));
  Tensor control = device.make(DType::f32, {3});
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    GradientControl args{.grads = {}, .clip = clip, .scale = scale, .control = view(control)};
    for (const Tensor& g : grads) args.grads.push_back(view(g));
    k.gradient_control(ex, args);
  });
  return device.wrap(control);
}

Napi::Value adamw(Napi::Env env, const char* where, Device& device, const Fields& o) {
  Tensor param = o.tensor("param"), master = o.tensor("master"), grad = o.tensor("grad"), m = o.tensor("m"), v = o.tensor("v"),
         control = o.tensor("control");
  Shape n = param.shape();
  expect(where, "master", master, DType::f32, n);
  expect(where, "grad", grad, DType::f32, n);
  expect(where, "m", m, DType::f32, n);
  expect(where, "v", v, DType::f32, n);
  expect(where, "control", control, DType::f32, {3});
  float lr = float(o.number("lr")), beta1 = float(o.number("beta1")), beta2 = float(o.number("beta2")), eps = float(o.number("eps")),
        decay = float(o.number("weightDecay"));
  int64_t step = o.integer("step");
  if (step < 1) o.bad("step", "a step counted from 1", o.get("step"));
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    k.adamw(ex, {.param = view(param), .master = view(master), .grad = view(grad), .m = view(m), .v = view(v), .control = view(control),
                 .lr = lr, .beta1 = beta1, .beta2 = beta2, .eps = eps, .weight_decay = decay, .step = step});
  });
  return env.Undefined();
}

}  // namespace

void define_optimizer_ops(Napi::Env env, Napi::Object exports) {
  define_op(env, exports, "gradientControl", gradient_control);
  define_op(env, exports, "adamw", adamw);
}

}  // namespace threefold::binding
