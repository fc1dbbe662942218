#include "kernels/cuda/tensor_map.h"

#include <string>

#ifndef THREEFOLD_EMULATED
#include <cuda_runtime.h>
#endif

namespace threefold::cuda {
namespace {

#ifdef THREEFOLD_EMULATED
auto encoder() { return &cuTensorMapEncodeTiled; }
#else
// Of the driver, which is not linked.
auto encoder() {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode function = [] {
    void* f = nullptr;
    cudaDriverEntryPointQueryResult found{};
    cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault, &found);
    if (error != cudaSuccess || found != cudaDriverEntryPointSuccess)
      fail("device", "a driver with tensor maps (CUDA 12.0 or newer)", "one without", "a newer driver");
    return reinterpret_cast<Encode>(f);
  }();
  return function;
}
#endif

}  // namespace

TensorMap tensor_map(const View& v, int box_rows) {
  TensorMap map{};
  const cuuint64_t size[] = {cuuint64_t(v.dim(1)), cuuint64_t(v.dim(0))}, pitch[] = {cuuint64_t(v.dim(1) * size_of(v.dtype))};
  const cuuint32_t box[] = {kBoxColumns, cuuint32_t(box_rows)}, step[] = {1, 1};
  auto type = v.dtype == DType::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  CUresult result = encoder()(&map, type, 2, v.data, size, pitch, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                              CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    fail("device", "a tensor map of " + v.shape.text(), "error " + std::to_string(int(result)), "reporting this as a bug");
  return map;
}

}  // namespace threefold::cuda
