#include <cstdio>

#include "kernels/checks.h"
#include "kernels/cuda/cuda.h"

namespace threefold::cuda {

const Kernels& kernels() {
  static const Kernels table = {
#define THREEFOLD_FILL(name, Args) .name = &checked<&name, Args>,
      THREEFOLD_KERNELS(THREEFOLD_FILL)
#undef THREEFOLD_FILL
  };
  return table;
}

void throw_fault(Fault& fault) {
  if (!fault.raised) return;
  Fault f = fault;
  fault = Fault{};
  char expected[256], received[256];
  std::snprintf(expected, sizeof expected, f.expected, f.bound);
  std::snprintf(received, sizeof received, f.received, f.value, f.at);
  fail(f.where, expected, received, f.cure);
}

}  // namespace threefold::cuda
