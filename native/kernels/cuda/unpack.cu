// Stored numbers lie in the host's memory: the host gathers, converts and checks them, the device receives them.
#include "kernels/cpu/cpu.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.h"

namespace threefold::cuda {
namespace {

__global__ void note_bad_kernel(int32_t* bad /* [1] */, int32_t place) {
  if (bad[0] < 0) bad[0] = place;
}

}  // namespace

void unpack(Exec& ex, const Unpack& o) {
  Allocator host;
  Exec on_host{ex.pool, host};
  int64_t bytes = o.out.numel() * size_of(o.out.dtype);
  Scratch<char> numbers(on_host, bytes);
  int32_t bad = -1;
  Unpack there = o;
  there.out.data = numbers.data();
  there.bad.data = &bad;
  cpu::unpack(on_host, there);
  ex.allocator.memory().upload(o.out.data, numbers.data(), bytes);
  if (bad >= 0) launch(ex, {"unpack", {1}, {1}}, note_bad_kernel, o.bad.i32(), bad);
}

}  // namespace threefold::cuda
