// What a kernel sees: a pointer with a dtype and a shape. Owns nothing.
#pragma once

#include "core/dtype.h"
#include "core/shape.h"

namespace threefold {

struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;

  explicit operator bool() const { return data != nullptr; }
  int64_t numel() const { return shape.numel(); }
  int64_t dim(int i) const { return shape[i]; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  float* f32() const { return as<float>(); }
  int32_t* i32() const { return as<int32_t>(); }
  // `shape` starting `offset` elements on.
  View at(int64_t offset, Shape s) const {
    return {static_cast<char*>(data) + offset * size_of(dtype), dtype, s};
  }
  // Rows [begin, end) of the first dimension.
  View rows(int64_t begin, int64_t end) const {
    Shape s = shape;
    s.dims[0] = end - begin;
    return at(begin * (shape[0] ? numel() / shape[0] : 0), s);
  }
};

// The one shape check. `what` names the tensor as the caller knows it.
inline void expect(const char* where, const char* what, const View& v, DType dtype, const Shape& shape) {
  if (v.dtype != dtype || !(v.shape == shape))
    fail(where, std::string(what) + " of " + name_of(dtype) + " " + shape.text(),
         std::string(name_of(v.dtype)) + " " + v.shape.text(), "passing the tensor this op documents");
}

}  // namespace threefold
