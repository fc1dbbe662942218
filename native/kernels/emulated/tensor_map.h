// The twin of the driver's tensor maps: the limits that its manual states, and the fields in plain sight.
#pragma once

#include <cstdint>

using cuuint32_t = uint32_t;
using cuuint64_t = uint64_t;
enum CUresult { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1 };
enum CUtensorMapDataType { CU_TENSOR_MAP_DATA_TYPE_FLOAT16 = 6, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9 };
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE = 0 };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_NONE = 0, CU_TENSOR_MAP_SWIZZLE_128B = 3 };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3 };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE = 0 };

// Of 16-bit elements, two-dimensional.
struct alignas(64) CUtensorMap {
  const unsigned char* data;
  int64_t columns, rows, pitch;  // pitch in bytes
  int box_columns, box_rows;
  bool swizzled;                 // over 128 bytes
};

inline CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType, cuuint32_t rank, void* data,
                                       const cuuint64_t* size, const cuuint64_t* pitch, const cuuint32_t* box,
                                       const cuuint32_t* step, CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                                       CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  bool good = rank == 2 && reinterpret_cast<uintptr_t>(data) % 16 == 0 && pitch[0] % 16 == 0 && pitch[0] < uint64_t(1) << 40;
  for (int i = 0; i < 2; ++i) good &= size[i] > 0 && size[i] <= uint64_t(1) << 32 && box[i] > 0 && box[i] <= 256 && step[i] == 1;
  good &= box[0] * 2 % 16 == 0 && (swizzle == CU_TENSOR_MAP_SWIZZLE_NONE || box[0] * 2 <= 128);
  if (!good) return CUDA_ERROR_INVALID_VALUE;
  *map = {static_cast<const unsigned char*>(data), int64_t(size[0]), int64_t(size[1]), int64_t(pitch[0]), int(box[0]),
          int(box[1]), swizzle == CU_TENSOR_MAP_SWIZZLE_128B};
  return CUDA_SUCCESS;
}
