#include "binding/convert.h"

#include <algorithm>

#include "binding/addon.h"
#include "binding/tensor_handle.h"

namespace threefold::binding {

Napi::Error to_js(Napi::Env env, const Error& e) {
  if (const Napi::FunctionReference& make = addon_data(env).make_error; !make.IsEmpty()) {
    auto text = [&](const std::string& s) { return Napi::String::New(env, s); };
    return Napi::Error(env, make.Call({text(e.where), text(e.expected), text(e.received), text(e.cure)}));
  }
  Napi::Error error = Napi::Error::New(env, e.what());
  Napi::Object o = error.Value();
  o.Set("where", e.where);
  o.Set("expected", e.expected);
  o.Set("received", e.received);
  o.Set("cure", e.cure);
  return error;
}

DType dtype_of(const Napi::Value& v, const char* where) {
  if (!v.IsString()) fail(where, "a dtype name", "no text", "\"fp32\", \"bf16\", \"fp16\" or \"int32\"");
  return dtype_from(v.As<Napi::String>().Utf8Value());
}

Shape shape_of(const Napi::Value& v, const char* where) {
  if (!v.IsArray()) fail(where, "a shape as an array of numbers", "something else", "[rows, columns]");
  Shape shape;
  auto list = v.As<Napi::Array>();
  double elements = 1;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    Napi::Value d = list[i];
    double n = d.IsNumber() ? d.As<Napi::Number>().DoubleValue() : -1;
    if (!(n >= 0 && n < 0x1p53) || n != double(int64_t(n)))
      fail(where, "dimensions that are whole numbers of 0 or more", d.ToString().Utf8Value(), "checking the shape");
    shape.push(int64_t(n));
    elements *= std::max(n, 1.0);  // each dimension counts beside a 0 too: kernels multiply some of them
  }
  if (elements >= 0x1p53) fail(where, "a shape of less than 2^53 elements", shape.text(), "checking the shape");
  return shape;
}

Napi::Array to_js(Napi::Env env, const Shape& shape) {
  Napi::Array list = Napi::Array::New(env, shape.rank);
  for (int i = 0; i < shape.rank; ++i) list[uint32_t(i)] = Napi::Number::New(env, double(shape[i]));
  return list;
}

Fields::Fields(const Napi::Value& v, const char* where, const Allocator* home) : where_(where), home_(home) {
  if (!v.IsObject()) fail(where, "an object of options", "something else", "the options this op documents");
  object_ = v.As<Napi::Object>();
}

bool Fields::has(const char* name) const {
  Napi::Value v = object_.Get(name);
  return !v.IsUndefined() && !v.IsNull();
}

void Fields::bad(const char* name, const char* expected, const Napi::Value& got) const {
  fail(where_, std::string(expected) + " as \"" + name + "\"", got.ToString().Utf8Value(), "the options this op documents");
}

double Fields::number(const char* name) const {
  Napi::Value v = object_.Get(name);
  if (!v.IsNumber()) bad(name, "a number", v);
  return v.As<Napi::Number>().DoubleValue();
}
double Fields::number(const char* name, double fallback) const { return has(name) ? number(name) : fallback; }

int64_t Fields::integer(const char* name) const {
  double n = number(name);
  if (!(std::abs(n) < 0x1p53) || n != double(int64_t(n))) bad(name, "a whole number", object_.Get(name));
  return int64_t(n);
}
int64_t Fields::integer(const char* name, int64_t fallback) const { return has(name) ? integer(name) : fallback; }

bool Fields::flag(const char* name, bool fallback) const {
  return has(name) ? object_.Get(name).ToBoolean().Value() : fallback;
}

std::string Fields::text(const char* name) const {
  Napi::Value v = object_.Get(name);
  if (!v.IsString()) bad(name, "text", v);
  return v.As<Napi::String>().Utf8Value();
}

Tensor Fields::tensor(const char* name) const {
  Napi::Value v = object_.Get(name);
  TensorHandle* handle = TensorHandle::from(v);
  if (!handle) bad(name, "a tensor", v);
  const Tensor& t = handle->get(where_);
  if (home_ && !t.lives_in(*home_))
    fail(where_, "tensors of the device it is called with", "\"" + std::string(name) + "\" of another device", "reading it there and writing it here");
  return t;
}

Tensor Fields::optional_tensor(const char* name) const { return has(name) ? tensor(name) : Tensor{}; }

std::vector<int32_t> Fields::ints(const char* name) const {
  Napi::Value v = object_.Get(name);
  if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) bad(name, "an Int32Array", v);
  auto a = v.As<Napi::Int32Array>();
  return {a.Data(), a.Data() + a.ElementLength()};
}

uint64_t Fields::seed(const char* name) const {
  auto words = ints(name);
  if (words.size() != 2) bad(name, "two words, the lower half first", get(name));
  return uint32_t(words[0]) | uint64_t(uint32_t(words[1])) << 32;
}

std::vector<float> Fields::floats(const char* name) const {
  Napi::Value v = object_.Get(name);
  if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array)
    bad(name, "a Float32Array", v);
  auto a = v.As<Napi::Float32Array>();
  return {a.Data(), a.Data() + a.ElementLength()};
}

void expect_rank(const char* where, const char* what, const Tensor& t, int rank) {
  if (t.shape().rank != rank)
    fail(where, std::string(what) + " with " + std::to_string(rank) + " dimensions", t.shape().text(),
         "a view of the right shape");
}

void expect_range(const char* where, const char* what, const std::vector<int32_t>& ids, int64_t limit) {
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= limit)
      fail(where, std::string(what) + " from 0 to " + std::to_string(limit - 1),
           std::to_string(ids[i]) + " at position " + std::to_string(i),
           "data made with this model's tokenizer");
}

}  // namespace threefold::binding
