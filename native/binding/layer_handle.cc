#include "binding/layer_handle.h"

#include "binding/batch_handle.h"
#include "binding/device.h"
#include "binding/ops.h"

namespace threefold::binding {
namespace {

Wiring wiring_of(const Fields& o) {
  constexpr std::pair<const char*, Wiring> kNames[] = {{"pre", Wiring::pre},
                                                       {"post", Wiring::post},
                                                       {"parallel", Wiring::parallel},
                                                       {"parallelShared", Wiring::parallel_shared},
                                                       {"sandwich", Wiring::sandwich}};
  std::string given = o.has("wiring") ? o.text("wiring") : "pre";
  for (auto [name, wiring] : kNames)
    if (given == name) return wiring;
  o.bad("wiring", "pre, post, parallel, parallelShared or sandwich", o.get("wiring"));
}

LayerSpec spec_of(const Napi::Value& v) {
  Fields o(v, "layer");
  LayerSpec s;
  s.wiring = wiring_of(o);
  s.hidden = o.integer("hidden");
  s.heads = o.integer("heads");
  s.kv_heads = o.integer("kvHeads");
  s.head_dim = o.integer("headDim");
  s.ffn = o.integer("ffn");
  std::string norm = o.text("norm");
  if (norm != "layer" && norm != "rms") o.bad("norm", "\"layer\" or \"rms\"", o.get("norm"));
  s.rms = norm == "rms";
  s.norm_bias = o.flag("normBias", true);
  s.norm_eps = float(o.number("normEps"));
  s.norm_offset = float(o.number("normOffset", 0));
  s.qk_norm = o.flag("qkNorm", false);
  s.act = act_of(o.text("activation"));
  s.gated = o.flag("gated", false);
  s.qkv_bias = o.flag("qkvBias", false);
  s.out_bias = o.flag("outBias", false);
  s.mlp_bias = o.flag("mlpBias", false);
  s.rotary = o.flag("rotary", false);
  s.rotary_interleaved = o.flag("rotaryInterleaved", false);
  s.attention_scale = float(o.number("attentionScale"));
  s.attention_softcap = float(o.number("attentionSoftcap", 0));
  s.window = o.integer("window", 0);
  s.alibi = o.flag("alibi", false);
  return s;
}

// The tensors of one call, held until the op has run.
struct RowTensors {
  Tensor positions, starts, block_table, lengths, slots, keys, values, rotary_table, numbers;
  LayerDropout dropout;
  LayerRows on_stream() const {
    LayerDropout with_rows = dropout;
    with_rows.rows = view(numbers);
    return {.positions = view(positions), .starts = view(starts), .block_table = view(block_table), .lengths = view(lengths),
            .slots = view(slots), .keys = view(keys), .values = view(values), .rotary_table = view(rotary_table), .dropout = with_rows};
  }
};

// {attention, residual, seed [2], layer}
LayerDropout dropout_of(const Fields& o, const BatchHandle& batch) {
  if (!o.has("dropout")) return {};
  Fields d(o.get("dropout"), o.where());
  batch.expect_row_numbers(o.where());
  return {.attention = float(d.number("attention")), .residual = float(d.number("residual")), .seed = d.seed("seed"), .layer = d.integer("layer")};
}

RowTensors rows_of(const Fields& o, const BatchHandle& b, const LayerSpec& s, DType dtype) {
  RowTensors r{b.positions, b.starts, b.block_table, b.lengths, {}, {}, {}, o.optional_tensor("rotaryTable"), b.rows, dropout_of(o, b)};
  const char* where = o.where();
  if (s.rotary) {
    if (!r.rotary_table.defined()) fail(where, "a rotary table", "none", "passing the model's table");
    expect_rank(where, "rotaryTable", r.rotary_table, 3);
    if (b.max_position >= r.rotary_table.shape()[0])
      fail(where, "positions below " + std::to_string(r.rotary_table.shape()[0]), std::to_string(b.max_position), "a shorter sequence or a longer table");
  }
  if (o.has("keys")) {
    r.keys = o.tensor("keys");
    r.values = o.tensor("values");
    r.slots = b.slots;
    expect_rank(where, "keys", r.keys, 4);
    Shape cache = {r.keys.shape()[0], r.keys.shape()[1], s.kv_heads, s.head_dim};
    expect(where, "keys", r.keys, dtype, cache);
    expect(where, "values", r.values, dtype, cache);
    if (!r.slots.defined()) fail(where, "a batch with slots", "none", "making the batch with the cache's slots");
    if (b.max_slot >= cache[0] * cache[1] || b.max_page >= cache[0] || b.max_length > b.blocks * cache[1] * int64_t(b.block_table.defined()) + (b.block_table.defined() ? 0 : INT32_MAX))
      fail(where, "slots and pages inside the cache " + cache.text(), "slot " + std::to_string(b.max_slot) + ", page " + std::to_string(b.max_page) + ", length " + std::to_string(b.max_length), "a larger cache");
  } else if (b.block_table.defined()) {
    fail(where, "keys and values of the cache to decode against", "none", "passing them");
  }
  return r;
}

}  // namespace

Napi::Function LayerHandle::define(Napi::Env env) {
  return DefineClass(env, "Layer",
                     {
                         InstanceMethod<&LayerHandle::layout>("layout"),
                         InstanceMethod<&LayerHandle::forward>("forward"),
                         InstanceMethod<&LayerHandle::backward>("backward"),
                         InstanceMethod<&LayerHandle::activation_bytes>("activationBytes"),
                     });
}

LayerHandle::LayerHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<LayerHandle>(info) {
  guarded(info.Env(), [&] { plan_ = std::make_shared<Plan>(spec_of(info[0])); });
}

// {size, decayEnd, slots: [{name, offset, shape, decay}]}
Napi::Value LayerHandle::layout(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    Napi::Env env = info.Env();
    Napi::Object o = Napi::Object::New(env);
    Napi::Array slots = Napi::Array::New(env);
    for (const ParamSlot& slot : plan_->layout.slots) {
      Napi::Object s = Napi::Object::New(env);
      s.Set("name", slot.name);
      s.Set("offset", double(slot.offset));
      s.Set("shape", to_js(env, slot.shape));
      s.Set("decay", slot.decay);
      slots[slots.Length()] = s;
    }
    o.Set("size", double(plan_->layout.size));
    o.Set("decayEnd", double(plan_->layout.decay_end));
    o.Set("slots", slots);
    return o;
  });
}

// forward(device, {params, x, batch, rotaryTable?, keys?, values?, dropout?, save}) -> {out, saved | null}
// A batch with a block table decodes one token per sequence.
Napi::Value LayerHandle::forward(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const char* where = "layer.forward";
    Device& device = Device::from(info[0], where);
    Fields o(info[1], where, device.core(where).allocator.get());
    const LayerSpec& s = plan_->spec;
    Tensor params = o.tensor("params"), x = o.tensor("x");
    const BatchHandle& batch = BatchHandle::from(o.get("batch"), where, device);
    expect(where, "params", params, x.dtype(), {plan_->layout.size});
    expect(where, "x", x, x.dtype(), {batch.tokens, s.hidden});
    RowTensors rows = rows_of(o, batch, s, x.dtype());
    Tensor y = device.make(x.dtype(), x.shape());
    bool save = o.flag("save", false);
    Tensor saved = device.make(DType::i32, {LayerActivations::bytes(s, x.dtype(), batch.tokens) / 4},
                               save ? Category::activations : Category::workspace);
    device.enqueue(where, [plan = plan_, params, x, rows, y, saved](const Kernels& k, Exec& ex) {
      LayerActivations a = LayerActivations::carve(plan->spec, x.dtype(), x.shape()[0], saved.on_stream().data);
      layer_forward(k, ex, plan->spec, plan->layout, params.on_stream(), x.on_stream(), rows.on_stream(), a, y.on_stream());
    });
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("out", device.wrap(y));
    result.Set("saved", save ? device.wrap(saved) : info.Env().Null());
    return result;
  });
}

// backward(device, {params, grads?, x, batch, rotaryTable?, dropout?, saved, dout}) -> dx
Napi::Value LayerHandle::backward(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const char* where = "layer.backward";
    Device& device = Device::from(info[0], where);
    Fields o(info[1], where, device.core(where).allocator.get());
    const LayerSpec& s = plan_->spec;
    Tensor params = o.tensor("params"), grads = o.optional_tensor("grads"), x = o.tensor("x"), saved = o.tensor("saved"),
           dout = o.tensor("dout");
    const BatchHandle& batch = BatchHandle::from(o.get("batch"), where, device);
    expect(where, "params", params, x.dtype(), {plan_->layout.size});
    expect(where, "x", x, x.dtype(), {batch.tokens, s.hidden});
    expect(where, "dout", dout, x.dtype(), x.shape());
    expect(where, "saved", saved, DType::i32, {LayerActivations::bytes(s, x.dtype(), batch.tokens) / 4});
    if (grads.defined()) expect(where, "grads", grads, DType::f32, {plan_->layout.size});
    if (!batch.starts.defined()) fail(where, "a packed batch", "a decoding one", "the batch of the forward call");
    RowTensors rows = rows_of(o, batch, s, x.dtype());
    Tensor dx = device.make(x.dtype(), x.shape());
    device.enqueue(where, [plan = plan_, params, grads, x, rows, saved, dout, dx](const Kernels& k, Exec& ex) {
      LayerActivations a = LayerActivations::carve(plan->spec, x.dtype(), x.shape()[0], saved.on_stream().data);
      layer_backward(k, ex, plan->spec, plan->layout, params.on_stream(), view(grads), x.on_stream(), rows.on_stream(), a,
                     dout.on_stream(), dx.on_stream());
    });
    return device.wrap(dx);
  });
}

// activationBytes(dtype, tokens): what forward keeps for backward.
Napi::Value LayerHandle::activation_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), double(LayerActivations::bytes(plan_->spec, dtype_of(info[0], "layer"), info[1].ToNumber().Int64Value())));
  });
}

}  // namespace threefold::binding
