// Dropout of rows.
#include "kernels/cpu/dropout.h"

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

namespace threefold::cpu {

void dropout(Exec& ex, const Dropout& o) {
  int64_t tokens = o.x.dim(0), h = o.x.dim(1);
  ex.pool.parallel_blocks(tokens, row_grain(h), [&](int64_t begin, int64_t end) {
    Scratch<float> memory(ex, 3 * h);
    float *factors = memory.data(), *wide = factors + h, *other = wide + h;
    for (int64_t t = begin; t < end; ++t) {
      dropout_factors(o.mask, t, o.positions.i32()[t], 0, h, factors);
      isa().mul(load(o.x, t * h, h, wide), factors, wide, h);
      if (o.residual) isa().add(wide, load(o.residual, t * h, h, other), wide, h);
      store(o.out, t * h, wide, h);
    }
  });
}

}  // namespace threefold::cpu
