// An operand of a matmul, seen along its outer side (rows of op(a), columns of op(b)) and along K; memory runs along one of
// the two.
#pragma once

#include "core/view.h"
#include "kernels/cuda/device/element.h"

namespace threefold::cuda {

template <typename T>
struct Operand {
  const T* data;  // [outer, K] or [K, outer]
  int64_t outer, k;
  bool wide;      // rows can be moved in packs
};

template <typename T>
Operand<T> operand_of(const View& v, bool k_contiguous) {
  return {v.as<T>(), v.dim(k_contiguous ? 0 : 1), v.dim(k_contiguous ? 1 : 0), packs(v.as<T>(), v.dim(1))};
}

}  // namespace threefold::cuda
