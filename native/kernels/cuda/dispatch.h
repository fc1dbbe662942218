// From run-time choices to compiled ones, on the host.
#pragma once

#include <type_traits>

#include "core/dtype.h"
#include "core/status.h"

namespace threefold::cuda {

// Calls f with a value of the element type: fp32, bf16 or fp16.
template <typename F>
void with_type(DType type, F&& f) {
  switch (type) {
    case DType::f32: return f(float{});
    case DType::bf16: return f(bf16{});
    case DType::f16: return f(f16{});
    case DType::i32: break;
  }
  fail("kernel", "fp32, bf16 or fp16", name_of(type), "casting it first");
}

// Calls f with the truth as a constant.
template <typename F>
void with_bool(bool truth, F&& f) {
  truth ? f(std::true_type{}) : f(std::false_type{});
}

}  // namespace threefold::cuda
