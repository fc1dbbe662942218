// The one matmul door: which family of kernels serves which operands.
#include "kernels/cuda/matmul.h"

#include "kernels/cuda/cuda.h"

namespace threefold::cuda {

Epilogue epilogue_of(const Matmul& o, const MatmulSizes& s) {
  Epilogue e{};
  e.out = o.out.data, e.bias = o.bias.data, e.residual = o.accumulate ? o.out.data : o.residual.data;
  e.m = s.m, e.n = s.n;
  e.out_type = o.out.dtype, e.bias_type = o.bias.dtype;
  e.act = o.act;
  uintptr_t addresses = reinterpret_cast<uintptr_t>(e.out) | reinterpret_cast<uintptr_t>(e.residual);
  e.wide = s.n % 4 == 0 && addresses % uintptr_t(4 * size_of(e.out_type)) == 0;
  return e;
}

void matmul(Exec& ex, const Matmul& o) {
  MatmulSizes s{o.out.dim(0), o.out.dim(1), o.a.dim(o.trans_a ? 0 : 1)};
  if (s.m == 0 || s.n == 0) return;
  bool tensor_cores = o.a.dtype == o.b.dtype && o.a.dtype != DType::f32;
  bool decoding = s.m <= kFewRows && !o.trans_a && o.trans_b;
  auto* run = tensor_cores ? (decoding ? matmul_decode : matmul_mma) : (decoding ? matmul_simt_decode : matmul_simt);
  run(ex, o, s);
}

}  // namespace threefold::cuda
