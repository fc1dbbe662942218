#include "kernels/cpu/cpu.h"

namespace threefold::cpu {

const Kernels& kernels() {
  static const Kernels table = {
#define THREEFOLD_FILL(name, Args) .name = &name,
      THREEFOLD_KERNELS(THREEFOLD_FILL)
#undef THREEFOLD_FILL
  };
  return table;
}

}  // namespace threefold::cpu
