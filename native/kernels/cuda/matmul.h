// The families of matmul kernels, host side. Each gives the sums that its contract says, so that the choice among those of
// one family may depend on M, N, K and the device, and never shows in a bit.
//
// fp32 family (a or b fp32; the other is widened first): K in chunks of kChunk; inside a chunk one FMA chain over ascending k. Chunk sums are added in
// fp32 in index order, starting from 0.
//
// mma family (a and b both bf16, or both fp16): the same chunks; inside a chunk one chain of mma.sync m16n8k16 over
// ascending k, K padded with zeros to a multiple of 64.
//
// wgmma family (the same on sm_90, where the copy engine can read the rows of a and b): as the mma family, by wgmma's k16
// steps. Whether the two round alike is up to the hardware, so K, N and the form alone choose between them, never M.
#pragma once

#include "kernels/cuda/device/epilogue.h"
#include "kernels/kernels.h"

namespace threefold::cuda {

constexpr int kChunk = 512;
constexpr int64_t kFewRows = 64;  // up to so many rows of the forward form are decoding: bound by reading b

struct MatmulSizes {
  int64_t m, n, k;
};

Epilogue epilogue_of(const Matmul& o, const MatmulSizes& s);

void matmul_simt(Exec&, const Matmul&, const MatmulSizes&);
void matmul_simt_decode(Exec&, const Matmul&, const MatmulSizes&);
void matmul_mma(Exec&, const Matmul&, const MatmulSizes&);
void matmul_decode(Exec&, const Matmul&, const MatmulSizes&);
void matmul_wgmma(Exec&, const Matmul&, const MatmulSizes&);
void matmul_decode_wgmma(Exec&, const Matmul&, const MatmulSizes&);

}  // namespace threefold::cuda
