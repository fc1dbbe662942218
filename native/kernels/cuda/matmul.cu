// The one matmul door: which kernel serves which operands.
#include "kernels/cuda/matmul.h"

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tensor_map.h"

namespace threefold::cuda {
namespace {

// A view that begins where the copy engine can: itself, or a copy where it does not (some slice; allocations do).
class Aligned {
 public:
  Aligned(Exec& ex, const View& v) : view_(v), aligned_(reinterpret_cast<uintptr_t>(v.data) % 16 == 0),
                                     copy_(ex, aligned_ ? 0 : v.numel() * size_of(v.dtype)) {
    if (aligned_) return;
    view_.data = copy_.data();
    cast(ex, {v, view_});
  }
  const View& view() const { return view_; }

 private:
  View view_;
  bool aligned_;
  Scratch<char> copy_;
};

void on_tensor_cores(Exec& ex, const Matmul& o, const MatmulSizes& s, bool decoding) {
  if (ex.gpu->architecture < 90 || s.k == 0 || !boxes(o.a.dim(1)) || !boxes(o.b.dim(1)))
    return decoding ? matmul_decode(ex, o, s) : matmul_mma(ex, o, s);
  Aligned a(ex, o.a), b(ex, o.b);
  Matmul aligned = o;
  aligned.a = a.view(), aligned.b = b.view();
  decoding ? matmul_decode_wgmma(ex, aligned, s) : matmul_wgmma(ex, aligned, s);
}

}  // namespace

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
  bool decoding = s.m <= kFewRows && !o.trans_a && o.trans_b;
  if (o.a.dtype == o.b.dtype && o.a.dtype != DType::f32) return on_tensor_cores(ex, o, s, decoding);
  decoding ? matmul_simt_decode(ex, o, s) : matmul_simt(ex, o, s);
}

}  // namespace threefold::cuda
