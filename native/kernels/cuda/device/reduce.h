// Sums and maxima over a warp and over a block, joined by fixed trees: the result depends on the block's size and the
// lanes' values alone, and every thread gets it.
#pragma once

namespace threefold::cuda {

constexpr unsigned kFull = 0xffffffffu;

__device__ __forceinline__ float warp_sum(float x) {
  for (int with = 16; with > 0; with /= 2) x += __shfl_xor_sync(kFull, x, with);
  return x;
}
__device__ __forceinline__ double warp_sum(double x) {
  for (int with = 16; with > 0; with /= 2) x += __shfl_xor_sync(kFull, x, with);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
  for (int with = 16; with > 0; with /= 2) x = fmaxf(x, __shfl_xor_sync(kFull, x, with));
  return x;
}

// All threads of a block of whole warps call it; `scratch` holds 32 numbers of shared memory and is free again on return.
template <typename T, typename Join>
__device__ __forceinline__ T block_join(T x, T* scratch, T nothing, Join join) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (int with = 16; with > 0; with /= 2) x = join(x, __shfl_xor_sync(kFull, x, with));
  if (warps == 1) return x;
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  x = lane < warps ? scratch[lane] : nothing;
  for (int with = 16; with > 0; with /= 2) x = join(x, __shfl_xor_sync(kFull, x, with));
  __syncthreads();
  return x;
}
template <typename T>
__device__ __forceinline__ T block_sum(T x, T* scratch) {
  return block_join(x, scratch, T(0), [](T a, T b) { return a + b; });
}
__device__ __forceinline__ float block_max(float x, float* scratch) {
  return block_join(x, scratch, -INFINITY, [](float a, float b) { return fmaxf(a, b); });
}

}  // namespace threefold::cuda
