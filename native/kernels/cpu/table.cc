#include "kernels/checks.h"
#include "kernels/cpu/cpu.h"

namespace threefold::cpu {

const Kernels& kernels() {
  static const Kernels table = {
#define THREEFOLD_FILL(name, Args) .name = &checked<&name, Args>,
      THREEFOLD_KERNELS(THREEFOLD_FILL)
#undef THREEFOLD_FILL
  };
  return table;
}

}  // namespace threefold::cpu
