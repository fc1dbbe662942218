// Host side of the tensor copy engine (sm_90): what it must know of a matrix.
#pragma once

#include "core/view.h"

#ifdef THREEFOLD_EMULATED
#include "kernels/emulated/tensor_map.h"
#else
#include <cuda.h>  // types; the driver is asked for the function at run time
#endif

namespace threefold::cuda {

using TensorMap = CUtensorMap;

constexpr int kBoxColumns = 64;  // of 16-bit elements: the 128 bytes over which units are permuted

// Whether a matrix of 16-bit elements with rows of so many columns can be copied by boxes.
inline bool boxes(int64_t columns) { return columns > 0 && columns % 8 == 0; }

// Boxes [box_rows, kBoxColumns] of v [rows, columns] (16-bit, 16-byte aligned, boxes()), permuted over 128 bytes.
TensorMap tensor_map(const View& v, int box_rows);

}  // namespace threefold::cuda
