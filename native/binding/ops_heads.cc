// Log-prob head, value head, sampling.
#include "binding/device.h"
#include "binding/ops.h"

namespace threefold::binding {
namespace {

struct LogprobInputs {
  Tensor hidden, weight, bias, rows, targets;
  float softcap, inv_temperature;
  int64_t count;
};

float softcap_of(const Fields& o) {
  float cap = float(o.number("softcap", 0));
  if (!(cap >= 0)) o.bad("softcap", "a number of 0 (off) or more", o.get("softcap"));
  return cap;
}

LogprobInputs logprob_inputs(const char* where, Device& device, const Fields& o) {
  LogprobInputs in{o.tensor("hidden"), o.tensor("weight"), o.optional_tensor("bias"), {}, {}, softcap_of(o), float(o.number("invTemperature", 1)), 0};
  expect_rank(where, "hidden", in.hidden, 2);
  expect_rank(where, "weight", in.weight, 2);
  expect(where, "weight", in.weight, in.hidden.dtype(), {in.weight.shape()[0], in.hidden.shape()[1]});
  if (in.bias.defined()) expect(where, "bias", in.bias, in.hidden.dtype(), {in.weight.shape()[0]});
  if (!(in.inv_temperature > 0)) o.bad("invTemperature", "a number above 0", o.get("invTemperature"));
  auto rows = o.ints("rows"), targets = o.ints("targets");
  in.count = int64_t(rows.size());
  if (targets.size() != rows.size()) fail(where, std::to_string(rows.size()) + " targets", std::to_string(targets.size()), "one target per row");
  expect_range(where, "rows", rows, in.hidden.shape()[0]);
  expect_range(where, "token ids", targets, in.weight.shape()[0]);
  in.rows = device.upload(std::move(rows), {in.count});
  in.targets = device.upload(std::move(targets), {in.count});
  return in;
}

// -> {logprobs, lse, entropy | null}
Napi::Value logprobs(Napi::Env env, const char* where, Device& device, const Fields& o) {
  LogprobInputs in = logprob_inputs(where, device, o);
  Tensor out = device.make(DType::f32, {in.count}), lse = device.make(DType::f32, {in.count});
  Tensor entropy = o.flag("entropy", false) ? device.make(DType::f32, {in.count}) : Tensor{};
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    k.logprob_forward(ex, {.hidden = view(in.hidden), .weight = view(in.weight), .bias = view(in.bias), .softcap = in.softcap, .rows = view(in.rows), .targets = view(in.targets),
                           .inv_temperature = in.inv_temperature, .logprobs = view(out), .lse = view(lse), .entropy = view(entropy)});
  });
  Napi::Object result = Napi::Object::New(env);
  result.Set("logprobs", device.wrap(out));
  result.Set("lse", device.wrap(lse));
  result.Set("entropy", entropy.defined() ? device.wrap(entropy) : env.Null());
  return result;
}

// -> dhidden [T, H]; adds to dweight and dbias unless absent
Napi::Value logprobs_backward(Napi::Env, const char* where, Device& device, const Fields& o) {
  LogprobInputs in = logprob_inputs(where, device, o);
  Tensor lse = o.tensor("lse"), entropy = o.optional_tensor("entropy"), dlogprobs = o.tensor("dlogprobs"),
         dentropy = o.optional_tensor("dentropy"), dweight = o.optional_tensor("dweight"), dbias = o.optional_tensor("dbias");
  expect(where, "lse", lse, DType::f32, {in.count});
  expect(where, "dlogprobs", dlogprobs, DType::f32, {in.count});
  if (dentropy.defined()) {
    expect(where, "dentropy", dentropy, DType::f32, {in.count});
    if (!entropy.defined()) o.bad("entropy", "the forward's entropy", o.get("entropy"));
  }
  if (dweight.defined()) expect(where, "dweight", dweight, DType::f32, in.weight.shape());
  if (dbias.defined()) expect(where, "dbias", dbias, DType::f32, {in.weight.shape()[0]});
  Tensor dhidden = device.make(in.hidden.dtype(), in.hidden.shape());
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    k.logprob_backward(ex, {.hidden = view(in.hidden), .weight = view(in.weight), .bias = view(in.bias), .softcap = in.softcap, .rows = view(in.rows), .targets = view(in.targets),
                            .inv_temperature = in.inv_temperature, .lse = view(lse), .entropy = view(entropy),
                            .dlogprobs = view(dlogprobs), .dentropy = view(dentropy), .dhidden = view(dhidden), .dweight = view(dweight), .dbias = view(dbias)});
  });
  return device.wrap(dhidden);
}

struct ValueInputs {
  Tensor hidden, weight, rows;
  int64_t count;
};

ValueInputs value_inputs(const char* where, Device& device, const Fields& o) {
  ValueInputs in{o.tensor("hidden"), o.tensor("weight"), {}, 0};
  expect_rank(where, "hidden", in.hidden, 2);
  expect(where, "weight", in.weight, in.hidden.dtype(), {in.hidden.shape()[1]});
  auto rows = o.ints("rows");
  expect_range(where, "rows", rows, in.hidden.shape()[0]);
  in.count = int64_t(rows.size());
  in.rows = device.upload(std::move(rows), {in.count});
  return in;
}

// -> values [R]
Napi::Value values(Napi::Env, const char* where, Device& device, const Fields& o) {
  ValueInputs in = value_inputs(where, device, o);
  Tensor out = device.make(DType::f32, {in.count});
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    k.value_forward(ex, {.hidden = view(in.hidden), .weight = view(in.weight), .rows = view(in.rows), .values = view(out)});
  });
  return device.wrap(out);
}

// -> dhidden [T, H]; adds to dweight unless absent
Napi::Value values_backward(Napi::Env, const char* where, Device& device, const Fields& o) {
  ValueInputs in = value_inputs(where, device, o);
  Tensor dvalues = o.tensor("dvalues"), dweight = o.optional_tensor("dweight");
  expect(where, "dvalues", dvalues, DType::f32, {in.count});
  if (dweight.defined()) expect(where, "dweight", dweight, DType::f32, in.weight.shape());
  Tensor dhidden = device.make(in.hidden.dtype(), in.hidden.shape());
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    k.value_backward(ex, {.hidden = view(in.hidden), .weight = view(in.weight), .rows = view(in.rows), .dvalues = view(dvalues),
                          .dhidden = view(dhidden), .dweight = view(dweight)});
  });
  return device.wrap(dhidden);
}

// sample(device, {logits [B, V], softcap?, invTemperature, topK, topP, minP?, editStarts?, editIds?, edits?, seeds [2B],
// positions}) -> {tokens, logprobs}
Napi::Value sample(Napi::Env env, const char* where, Device& device, const Fields& o) {
  Tensor logits = o.tensor("logits");
  expect_rank(where, "logits", logits, 2);
  int64_t b = logits.shape()[0];
  expect(where, "logits", logits, DType::f32, {b, logits.shape()[1]});
  auto floats = [&](const char* name) {
    auto v = o.floats(name);
    if (int64_t(v.size()) != b) o.bad(name, "one number per row", o.get(name));
    return device.upload(std::move(v), {b});
  };
  auto ints = [&](const char* name, int64_t each) {
    auto v = o.ints(name);
    if (int64_t(v.size()) != b * each) o.bad(name, "one entry per row", o.get(name));
    return device.upload(std::move(v), each == 1 ? Shape{b} : Shape{b, each});
  };
  Tensor inv_temperature = floats("invTemperature"), top_p = floats("topP"), top_k = ints("topK", 1), seeds = ints("seeds", 2),
         positions = ints("positions", 1), tokens = device.make(DType::i32, {b}), out = device.make(DType::f32, {b});
  Tensor min_p = o.has("minP") ? floats("minP") : Tensor{}, edit_starts, edit_ids, edits;
  float softcap = softcap_of(o);
  if (o.has("edits")) {
    auto starts = o.ints("editStarts"), ids = o.ints("editIds");
    auto values = o.floats("edits");
    int64_t n = int64_t(ids.size());
    if (int64_t(starts.size()) != b + 1) o.bad("editStarts", "one entry a row and the end", o.get("editStarts"));
    if (int64_t(values.size()) != 3 * n) o.bad("edits", "three numbers for each id", o.get("edits"));
    expect_range(where, "token ids", ids, logits.shape()[1]);
    edit_starts = device.upload(std::move(starts), {b + 1});
    edit_ids = device.upload(std::move(ids), {n});
    edits = device.upload(std::move(values), {n, 3});
  }
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    k.sample(ex, {.logits = view(logits), .softcap = softcap, .inv_temperature = view(inv_temperature), .top_k = view(top_k), .top_p = view(top_p),
                  .min_p = view(min_p), .edit_starts = view(edit_starts), .edit_ids = view(edit_ids), .edits = view(edits), .seeds = view(seeds), .positions = view(positions), .tokens = view(tokens), .logprobs = view(out)});
  });
  Napi::Object result = Napi::Object::New(env);
  result.Set("tokens", device.wrap(tokens));
  result.Set("logprobs", device.wrap(out));
  return result;
}

}  // namespace

void define_head_ops(Napi::Env env, Napi::Object exports) {
  define_op(env, exports, "logprobs", logprobs);
  define_op(env, exports, "logprobsBackward", logprobs_backward);
  define_op(env, exports, "values", values);
  define_op(env, exports, "valuesBackward", values_backward);
  define_op(env, exports, "sample", sample);
}

}  // namespace threefold::binding
