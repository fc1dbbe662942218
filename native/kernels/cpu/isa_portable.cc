#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec_portable.h"

#define IN_TARGET

namespace threefold::cpu {
namespace portable {
namespace {
using V = VecPortable;
constexpr int DOT_MR = 2, DOT_NR = 2, OUTER_MR = 4, OUTER_NV = 1;
#include "kernels/cpu/isa_body.inl"
}  // namespace
}  // namespace portable

extern const Isa isa_portable = portable::table("portable");

}  // namespace threefold::cpu
