// The one matmul door: which kernel serves which operands.
#include "kernels/cuda/matmul.h"

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tensor_map.h"

namespace threefold::cuda {
namespace {

// A view as a kernel takes it: itself, or a copy in workspace in the type asked for.
class Taken {
 public:
  Taken(Exec& ex, const View& v, DType type, bool as_it_is)
      : view_(v), copy_(ex, as_it_is ? 0 : v.numel() * size_of(type)) {
    if (as_it_is) return;
    view_.data = copy_.data();
    view_.dtype = type;
    cast(ex, {v, view_});
  }
  const View& view() const { return view_; }

 private:
  View view_;
  Scratch<char> copy_;
};

// Where the copy engine can begin to read; some slices do not, allocations do.
Taken aligned(Exec& ex, const View& v) { return {ex, v, v.dtype, reinterpret_cast<uintptr_t>(v.data) % 16 == 0}; }

// 16-bit numbers that meet fp32 ones, in fp32: exact.
Taken widened(Exec& ex, const View& v) { return {ex, v, DType::f32, v.dtype == DType::f32}; }

void on_tensor_cores(Exec& ex, const Matmul& o, const MatmulSizes& s, bool decoding) {
  if (ex.gpu->architecture < 90 || s.k == 0 || !boxes(o.a.dim(1)) || !boxes(o.b.dim(1)))
    return decoding ? matmul_decode(ex, o, s) : matmul_mma(ex, o, s);
  Taken a = aligned(ex, o.a), b = aligned(ex, o.b);
  Matmul taken = o;
  taken.a = a.view(), taken.b = b.view();
  decoding ? matmul_decode_wgmma(ex, taken, s) : matmul_wgmma(ex, taken, s);
}

void in_fp32(Exec& ex, const Matmul& o, const MatmulSizes& s, bool decoding) {
  Taken a = widened(ex, o.a), b = widened(ex, o.b);
  Matmul taken = o;
  taken.a = a.view(), taken.b = b.view();
  decoding ? matmul_simt_decode(ex, taken, s) : matmul_simt(ex, taken, s);
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
  in_fp32(ex, o, s, decoding);
}

}  // namespace threefold::cuda
