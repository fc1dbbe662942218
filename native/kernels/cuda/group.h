// Tokens brought together by their id, in time that grows with the tokens and not with the ids there could be.
#pragma once

#include "kernels/cuda/device/fault.h"
#include "kernels/cuda/launch.h"

namespace threefold::cuda {

class Groups {
 public:
  // Of ids[T] + offset, each of which `inside` wants from 0 and below `bound`; ids outside come as -1.
  Groups(Exec& ex, const char* name, const View& ids, int64_t offset, int64_t bound, const Check& inside);
  // [T] of {id, token}: equal ids lie side by side, and their tokens in order.
  const int2* sorted() const { return sorted_; }

 private:
  int64_t tokens_;
  Scratch<int2> front_, back_;
  const int2* sorted_;
};

}  // namespace threefold::cuda
