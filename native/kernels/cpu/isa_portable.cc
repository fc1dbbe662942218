// The portable instruction set: builds wherever the compiler does.
#include <cstring>
#include <utility>

#include "kernels/cpu/isa_tables.h"

#define IN_TARGET

namespace threefold::cpu {
namespace portable {
#include "kernels/cpu/vec_portable.h"
#include "kernels/cpu/isa_body.inl"
}  // namespace portable

const Isa portable_isa = portable::table("portable");

}  // namespace threefold::cpu
