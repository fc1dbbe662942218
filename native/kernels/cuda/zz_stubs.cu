#include "kernels/cuda/cuda.h"
namespace threefold::cuda {
#define S(name, Args) __attribute__((weak)) void name(Exec&, const Args&) { fail(#name, "a kernel", "none", "waiting"); }
THREEFOLD_KERNELS(S)
}
