// JavaScript values to C++ and back. The only folder that sees napi.h is this one.
#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace threefold::binding {

// An engine error as a JavaScript Error with its four parts as properties (lib/base/errors.ts reads them).
Napi::Error to_js(Napi::Env env, const Error& e);

// Runs `body`, turning engine errors into JavaScript exceptions. Every exported function goes through here.
template <typename F>
auto guarded(Napi::Env env, F&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Error& e) {
    throw to_js(env, e);
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& e) {
    throw to_js(env, Error("native", "the call to succeed", e.what(), "a smaller size, or report this as a bug"));
  }
}

DType dtype_of(const Napi::Value& v, const char* where);
Shape shape_of(const Napi::Value& v, const char* where);
Napi::Array to_js(Napi::Env env, const Shape& shape);

// Reads the fields of an options object; `where` names the op in errors. With `home`, the allocator of the device the op
// runs on, a tensor of another device is refused.
class Fields {
 public:
  Fields(const Napi::Value& v, const char* where, const Allocator* home = nullptr);
  bool has(const char* name) const;
  double number(const char* name) const;
  double number(const char* name, double fallback) const;
  int64_t integer(const char* name) const;
  int64_t integer(const char* name, int64_t fallback) const;
  bool flag(const char* name, bool fallback) const;
  std::string text(const char* name) const;
  Tensor tensor(const char* name) const;             // refuses a disposed one
  Tensor optional_tensor(const char* name) const;    // undefined or null gives an empty tensor
  std::vector<int32_t> ints(const char* name) const; // an Int32Array, copied
  std::vector<float> floats(const char* name) const; // a Float32Array, copied
  uint64_t seed(const char* name) const;             // an Int32Array of its low and its high half
  Napi::Value get(const char* name) const { return object_.Get(name); }
  const char* where() const { return where_; }
  [[noreturn]] void bad(const char* name, const char* expected, const Napi::Value& got) const;

 private:
  Napi::Object object_;
  const char* where_;
  const Allocator* home_;
};

// What an optional tensor is to a kernel.
inline View view(const Tensor& t) { return t.defined() ? t.on_stream() : View{}; }

// The one shape check, before anything is enqueued.
inline void expect(const char* where, const char* what, const Tensor& t, DType dtype, const Shape& shape) {
  threefold::expect(where, what, View{nullptr, t.dtype(), t.shape()}, dtype, shape);
}
void expect_rank(const char* where, const char* what, const Tensor& t, int rank);
// Every id in [0, limit), or an error that names the position.
void expect_range(const char* where, const char* what, const std::vector<int32_t>& ids, int64_t limit);

}  // namespace threefold::binding
