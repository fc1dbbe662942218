#include "kernels/cuda/pieces.h"

#include "kernels/cuda/device/shared.h"
#include "kernels/cuda/launch.h"

namespace threefold::cuda {
namespace {

constexpr int kWarps = 8;

struct Join {
  const float* sums[2];  // [pieces, h] each
  float* out[2];         // [h] each; nullptr = none
};

// A warp adds its share of the pieces in order, 32 columns side by side; then the warps' sums are added in order.
__global__ void __launch_bounds__(32 * kWarps) join_kernel(Join a, int64_t pieces, int64_t h) {
  const float* sums = blockIdx.y ? a.sums[1] : a.sums[0];
  float* out = blockIdx.y ? a.out[1] : a.out[0];
  if (!out) return;
  float* shares = shared_array<float>();  // [kWarps, 32]
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t column = int64_t(blockIdx.x) * 32 + lane, share = (pieces + kWarps - 1) / kWarps;
  int64_t begin = warp * share, end = min(pieces, begin + share);
  float sum = 0;
  if (column < h) {
#pragma unroll 8
    for (int64_t p = begin; p < end; ++p) sum += sums[p * h + column];
  }
  shares[warp * 32 + lane] = sum;
  __syncthreads();
  if (warp > 0 || column >= h) return;
  for (int w = 1; w < kWarps; ++w) sum += shares[w * 32 + lane];
  out[column] += sum;
}

}  // namespace

void PieceSums::join(const char* name) {
  if (pieces_ == 0 || h_ == 0) return;
  Join a{{first(), second()}, {out_[0], out_[1]}};
  Launch l{name, {blocks_for(h_, 32), out_[1] ? 2u : 1u}, {32 * kWarps}, kWarps * 32 * int64_t(sizeof(float))};
  launch(ex_, l, join_kernel, a, pieces_, h_);
}

}  // namespace threefold::cuda
