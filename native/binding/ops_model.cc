// matmul, embedding, norm, and element-wise ops.
#include "binding/batch_handle.h"
#include "binding/device.h"
#include "binding/ops.h"

namespace threefold::binding {
namespace {

Napi::Value matmul(Napi::Env, const char* where, Device& device, const Fields& o) {
  Tensor a = o.tensor("a"), b = o.tensor("b"), bias = o.optional_tensor("bias"), residual = o.optional_tensor("residual");
  bool trans_a = o.flag("transA", false), trans_b = o.flag("transB", true);
  expect_rank(where, "a", a, 2);
  expect_rank(where, "b", b, 2);
  int64_t m = a.shape()[trans_a], k = a.shape()[!trans_a], n = b.shape()[!trans_b];
  expect(where, "b", b, b.dtype(), trans_b ? Shape{n, k} : Shape{k, n});
  DType dtype = o.has("dtype") ? dtype_of(o.get("dtype"), where) : a.dtype();
  if (bias.defined()) expect(where, "bias", bias, b.dtype(), {n});
  if (residual.defined()) expect(where, "residual", residual, dtype, {m, n});
  Act act = act_of(o.has("activation") ? o.text("activation") : "none");
  Tensor out = device.make(dtype, {m, n});
  device.enqueue(where, [=](const Kernels& kernels, Exec& ex) {
    kernels.matmul(ex, {.a = view(a), .b = view(b), .out = view(out), .bias = view(bias), .residual = view(residual),
                        .trans_a = trans_a, .trans_b = trans_b, .act = act});
  });
  return device.wrap(out);
}

// matmulAdd(device, {a, b, out, transA?, transB?}): out (fp32) += op(a) op(b), for gradients.
Napi::Value matmul_add(Napi::Env env, const char* where, Device& device, const Fields& o) {
  Tensor a = o.tensor("a"), b = o.tensor("b"), out = o.tensor("out");
  bool trans_a = o.flag("transA", false), trans_b = o.flag("transB", true);
  expect_rank(where, "a", a, 2);
  expect_rank(where, "b", b, 2);
  int64_t m = a.shape()[trans_a], k = a.shape()[!trans_a], n = b.shape()[!trans_b];
  expect(where, "b", b, b.dtype(), trans_b ? Shape{n, k} : Shape{k, n});
  expect(where, "out", out, DType::f32, {m, n});
  device.enqueue(where, [=](const Kernels& kernels, Exec& ex) {
    kernels.matmul(ex, {.a = view(a), .b = view(b), .out = view(out), .trans_a = trans_a, .trans_b = trans_b, .accumulate = true});
  });
  return env.Undefined();
}

// ids [T] checked here, so a bad id never reaches a kernel.
Napi::Value embedding(Napi::Env, const char* where, Device& device, const Fields& o) {
  Tensor table = o.tensor("table"), position_table = o.optional_tensor("positionTable");
  expect_rank(where, "table", table, 2);
  auto ids = o.ints("ids");
  expect_range(where, "token ids", ids, table.shape()[0]);
  int64_t t = int64_t(ids.size()), h = table.shape()[1], offset = o.integer("positionOffset", 0);
  float scale = float(o.number("scale", 1));
  Tensor positions;
  if (position_table.defined()) {
    expect_rank(where, "positionTable", position_table, 2);
    expect(where, "positionTable", position_table, table.dtype(), {position_table.shape()[0], h});
    auto p = o.ints("positions");
    if (int64_t(p.size()) != t) fail(where, std::to_string(t) + " positions", std::to_string(p.size()), "one per id");
    expect_range(where, "positions", p, position_table.shape()[0] - offset);
    positions = device.upload(std::move(p), {t});
  }
  Tensor id_tensor = device.upload(std::move(ids), {t}), out = device.make(table.dtype(), {t, h});
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    k.embedding_forward(ex, {.scale = scale, .ids = view(id_tensor), .table = view(table), .positions = view(positions),
                             .position_table = view(position_table), .position_offset = offset, .out = view(out)});
  });
  return device.wrap(out);
}

Napi::Value embedding_backward(Napi::Env env, const char* where, Device& device, const Fields& o) {
  Tensor dout = o.tensor("dout"), dtable = o.tensor("dtable"), dposition = o.optional_tensor("dpositionTable");
  auto ids = o.ints("ids");
  int64_t t = int64_t(ids.size()), h = dtable.shape()[1], offset = o.integer("positionOffset", 0), frozen = o.integer("frozenId", -1);
  float scale = float(o.number("scale", 1));
  expect(where, "dtable", dtable, DType::f32, {dtable.shape()[0], h});
  expect(where, "dout", dout, dout.dtype(), {t, h});
  expect_range(where, "token ids", ids, dtable.shape()[0]);
  Tensor positions;
  if (dposition.defined()) {
    expect(where, "dpositionTable", dposition, DType::f32, {dposition.shape()[0], h});
    auto p = o.ints("positions");
    if (int64_t(p.size()) != t) fail(where, std::to_string(t) + " positions", std::to_string(p.size()), "one per id");
    expect_range(where, "positions", p, dposition.shape()[0] - offset);
    positions = device.upload(std::move(p), {t});
  }
  Tensor id_tensor = device.upload(std::move(ids), {t});
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    k.embedding_backward(ex, {.scale = scale, .ids = view(id_tensor), .positions = view(positions), .position_offset = offset, .frozen_id = frozen,
                              .dout = view(dout), .dtable = view(dtable), .dposition_table = view(dposition)});
  });
  return env.Undefined();
}

// -> {out, mean, rstd}
Napi::Value norm(Napi::Env env, const char* where, Device& device, const Fields& o) {
  Tensor x = o.tensor("x"), weight = o.tensor("weight"), bias = o.optional_tensor("bias");
  bool rms = o.text("kind") == "rms";
  float eps = float(o.number("eps")), offset = float(o.number("weightOffset", 0));
  expect_rank(where, "x", x, 2);
  int64_t t = x.shape()[0], h = x.shape()[1];
  expect(where, "weight", weight, x.dtype(), {h});
  if (bias.defined()) expect(where, "bias", bias, x.dtype(), {h});
  Tensor out = device.make(x.dtype(), {t, h}), mean = device.make(DType::f32, {t}), rstd = device.make(DType::f32, {t});
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    k.norm_forward(ex, {.rms = rms, .eps = eps, .weight_offset = offset, .x = view(x), .weight = view(weight), .bias = view(bias), .out = view(out),
                        .mean = view(mean), .rstd = view(rstd)});
  });
  Napi::Object result = Napi::Object::New(env);
  result.Set("out", device.wrap(out));
  result.Set("mean", device.wrap(mean));
  result.Set("rstd", device.wrap(rstd));
  return result;
}

// -> dx
Napi::Value norm_backward(Napi::Env, const char* where, Device& device, const Fields& o) {
  Tensor x = o.tensor("x"), weight = o.tensor("weight"), mean = o.tensor("mean"), rstd = o.tensor("rstd"), dout = o.tensor("dout"),
         dweight = o.optional_tensor("dweight"), dbias = o.optional_tensor("dbias");
  bool rms = o.text("kind") == "rms";
  float offset = float(o.number("weightOffset", 0));
  expect_rank(where, "x", x, 2);
  int64_t t = x.shape()[0], h = x.shape()[1];
  expect(where, "dout", dout, x.dtype(), {t, h});
  expect(where, "weight", weight, x.dtype(), {h});
  expect(where, "mean", mean, DType::f32, {t});
  expect(where, "rstd", rstd, DType::f32, {t});
  if (dweight.defined()) expect(where, "dweight", dweight, DType::f32, {h});
  if (dbias.defined()) expect(where, "dbias", dbias, DType::f32, {h});
  Tensor dx = device.make(x.dtype(), {t, h});
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    k.norm_backward(ex, {.rms = rms, .weight_offset = offset, .x = view(x), .weight = view(weight), .mean = view(mean), .rstd = view(rstd),
                         .dout = view(dout), .dx = view(dx), .dweight = view(dweight), .dbias = view(dbias)});
  });
  return device.wrap(dx);
}

Napi::Value gather_rows(Napi::Env, const char* where, Device& device, const Fields& o) {
  Tensor x = o.tensor("x");
  expect_rank(where, "x", x, 2);
  auto rows = o.ints("rows");
  expect_range(where, "rows", rows, x.shape()[0]);
  int64_t r = int64_t(rows.size());
  Tensor index = device.upload(std::move(rows), {r}), out = device.make(x.dtype(), {r, x.shape()[1]});
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    k.gather_rows(ex, {.x = view(x), .rows = view(index), .out = view(out)});
  });
  return device.wrap(out);
}

Napi::Value fill(Napi::Env env, const char* where, Device& device, const Fields& o) {
  Tensor out = o.tensor("out");
  float value = float(o.number("value"));
  device.enqueue(where, [=](const Kernels& k, Exec& ex) { k.fill(ex, {.out = view(out), .value = value}); });
  return env.Undefined();
}

// cast({in, out}): same number of elements.
Napi::Value cast(Napi::Env env, const char* where, Device& device, const Fields& o) {
  Tensor in = o.tensor("in"), out = o.tensor("out");
  expect(where, "out", out, out.dtype(), in.shape());
  device.enqueue(where, [=](const Kernels& k, Exec& ex) { k.cast(ex, {.in = view(in), .out = view(out)}); });
  return env.Undefined();
}

Napi::Value add(Napi::Env env, const char* where, Device& device, const Fields& o) {
  Tensor a = o.tensor("a"), b = o.tensor("b"), out = o.tensor("out");
  expect(where, "b", b, a.dtype(), a.shape());
  expect(where, "out", out, a.dtype(), a.shape());
  device.enqueue(where, [=](const Kernels& k, Exec& ex) { k.add(ex, {.a = view(a), .b = view(b), .out = view(out)}); });
  return env.Undefined();
}

// dropout(device, {x, batch, p, seed}) -> out: of the embeddings, forward and backward.
Napi::Value dropout(Napi::Env, const char* where, Device& device, const Fields& o) {
  Tensor x = o.tensor("x");
  expect_rank(where, "x", x, 2);
  const BatchHandle& batch = BatchHandle::from(o.get("batch"), where, device);
  batch.expect_row_numbers(where);
  DropoutMask mask{float(o.number("p")), o.seed("seed"), dropout_stream(0, DropoutPlace::embedding)};
  Tensor out = device.make(x.dtype(), x.shape()), rows = batch.rows, positions = batch.positions;
  expect(where, "x", x, x.dtype(), {batch.tokens, x.shape()[1]});
  device.enqueue(where, [=](const Kernels& k, Exec& ex) {
    DropoutMask drawn = mask;
    drawn.rows = view(rows);
    k.dropout(ex, {.mask = drawn, .positions = view(positions), .x = view(x), .out = view(out)});
  });
  return device.wrap(out);
}

// ema({average, value, decay}): fp32, of one shape.
Napi::Value ema(Napi::Env env, const char* where, Device& device, const Fields& o) {
  Tensor average = o.tensor("average"), value = o.tensor("value");
  float decay = float(o.number("decay"));
  expect(where, "average", average, DType::f32, average.shape());
  expect(where, "value", value, DType::f32, average.shape());
  device.enqueue(where, [=](const Kernels& k, Exec& ex) { k.ema(ex, {view(average), view(value), decay}); });
  return env.Undefined();
}

}  // namespace

void define_model_ops(Napi::Env env, Napi::Object exports) {
  define_op(env, exports, "matmul", matmul);
  define_op(env, exports, "matmulAdd", matmul_add);
  define_op(env, exports, "embedding", embedding);
  define_op(env, exports, "embeddingBackward", embedding_backward);
  define_op(env, exports, "norm", norm);
  define_op(env, exports, "normBackward", norm_backward);
  define_op(env, exports, "gatherRows", gather_rows);
  define_op(env, exports, "fill", fill);
  define_op(env, exports, "cast", cast);
  define_op(env, exports, "add", add);
  define_op(env, exports, "dropout", dropout);
  define_op(env, exports, "ema", ema);
}

}  // namespace threefold::binding
